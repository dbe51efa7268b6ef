"""Where a consumer's task waits for its next event.

A future costs a handle of the event loop each time one is resolved: most of what an idle consumer
costs per event. Thousands of consumers are woken by the same event, so here one handle wakes all.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Generator
from contextvars import Context
from typing import Any, Literal
from weakref import WeakKeyDictionary


class Parking:
    """Awaited by one task at a time, again and again; belongs to the loop it is made on.

    Args:
        beside: One of the same loop, which saves looking it up.

    A future-like object as asyncio defines it (see :func:`asyncio.isfuture`). A task that awaits it
    hands over its own wake-up to be called: when it goes on it is the current task, in its own
    context, and can be cancelled like any other.
    """

    __slots__ = (
        "_asyncio_future_blocking",
        "_context",
        "_error",
        "_resume",
        "_state",
        "_wakeups",
        "loop",
    )

    def __init__(self, beside: Parking | None = None) -> None:
        self._asyncio_future_blocking = False
        self._resume: Callable[[Any], object] | None = None
        self._context: Context | None = None
        self._state: Literal["free", "taken", "woken"] = "free"
        self._error: BaseException | None = None
        if beside is None:
            self.loop = asyncio.get_running_loop()
            self._wakeups = _Wakeups.of(self.loop)
        else:
            self.loop, self._wakeups = beside.loop, beside._wakeups

    @property
    def is_taken(self) -> bool:
        """Whether a task waits here, or is about to go on."""
        return self._state != "free"

    def __await__(self) -> Generator[Parking, None, None]:
        self._take()
        try:
            yield self
        finally:
            self._leave()

    def _take(self) -> None:
        """Make ready for being yielded to the loop by a task that waits here."""
        self._state = "taken"
        self._asyncio_future_blocking = True

    def _leave(self) -> None:
        """Let go of the task that waited here."""
        self._state = "free"
        self._resume = self._context = self._error = None

    def wake(self, error: BaseException | None = None) -> None:
        """Let the task that waits here, if any, go on in the loop's next turn.

        Args:
            error: What is raised in it. Default: nothing.
        """
        if self._state == "taken":
            self._state = "woken"
            self._error = error
            self._wakeups.add(self)

    def go_on(self) -> None:
        """Step the task that waits here."""
        if self._resume is not None and self._context is not None:
            self._context.run(self._resume, self)

    # -- what a task does to a future ------------------------------------------------------

    def get_loop(self) -> asyncio.AbstractEventLoop:
        return self.loop

    def add_done_callback(
        self, callback: Callable[[Any], object], *, context: Context | None = None
    ) -> None:
        self._resume = callback
        self._context = context

    def cancel(self, msg: str | None = None) -> bool:
        if self._state != "taken":
            return False  # the task then raises in itself when it goes on
        self.wake(asyncio.CancelledError())
        return True

    def result(self) -> None:
        if self._error is not None:
            raise self._error


class _Wakeups:
    """Those whom one handle of an event loop will wake, in the loop's next turn."""

    __slots__ = ("_woken",)

    def __init__(self) -> None:
        self._woken: list[Parking] = []

    @staticmethod
    def of(loop: asyncio.AbstractEventLoop) -> _Wakeups:
        return _wakeups.setdefault(loop, _Wakeups())

    def add(self, parking: Parking) -> None:
        if not self._woken:
            parking.loop.call_soon(self._wake_all)
        self._woken.append(parking)

    def _wake_all(self) -> None:
        woken, self._woken = self._woken, []
        woken.reverse()
        try:
            while woken:
                woken.pop().go_on()
        finally:
            if woken:  # a task raised SystemExit or KeyboardInterrupt; the others go on later
                for parking in reversed(woken):
                    self.add(parking)


_wakeups: WeakKeyDictionary[asyncio.AbstractEventLoop, _Wakeups] = WeakKeyDictionary()
