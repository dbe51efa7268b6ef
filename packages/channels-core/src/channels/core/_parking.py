"""Where a consumer's task waits for its next event.

A future costs a handle of the event loop each time one is resolved: most of what an idle consumer
costs per event. Thousands of consumers are woken by the same event, so here one handle wakes all,
and those few too whom they wake in turn: an event passes from task to task on its way.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Generator
from contextvars import Context
from typing import Any, Literal
from weakref import WeakKeyDictionary

ROUNDS = 3
"""How often one handle goes on with those who were woken meanwhile."""

FEW = 64
"""How many may have been woken meanwhile for that; more of them wait for the loop's next turn."""


class Parking:
    """Awaited by one task at a time, again and again; belongs to the loop it is made on.

    Args:
        beside: One of the same loop, which saves looking it up.

    A future-like object as asyncio defines it (see :func:`asyncio.isfuture`). A task that awaits it
    hands over its own wake-up to be called: when it goes on it is the current task, in its own
    context, and can be cancelled like any other.

    Attributes:
        is_taken: Whether a task waits here, or is about to go on.
        resume: What steps that task; None where there is none.
        context: In which to call it.
    """

    __slots__ = (
        "_asyncio_future_blocking",
        "_error",
        "_state",
        "_wakeups",
        "context",
        "is_taken",
        "loop",
        "resume",
    )

    def __init__(self, beside: Parking | None = None) -> None:
        self.is_taken = False
        self._asyncio_future_blocking = False
        self.resume: Callable[[Any], object] | None = None
        self.context: Context | None = None
        self._state: Literal["free", "taken", "woken"] = "free"
        self._error: BaseException | None = None
        if beside is None:
            self.loop = asyncio.get_running_loop()
            self._wakeups = _Wakeups.of(self.loop)
        else:
            self.loop, self._wakeups = beside.loop, beside._wakeups

    def __await__(self) -> Generator[Parking, None, None]:
        # What _take() and _free() do, without the calls: once per delivery.
        self._state = "taken"
        self.is_taken = self._asyncio_future_blocking = True
        try:
            yield self
        finally:
            self._state = "free"
            self.is_taken = False
            self.resume = self.context = self._error = None

    def _take(self) -> None:
        self._state = "taken"
        self.is_taken = self._asyncio_future_blocking = True

    def _free(self) -> None:
        self._state = "free"
        self.is_taken = False
        self.resume = self.context = self._error = None

    def wake(self) -> None:
        """Let the task that waits here, if any, go on soon, but not before this returns."""
        if self._state == "taken":
            self._state = "woken"
            if self._wakeups.is_due:  # what add() does, without the call: once per delivery
                self._wakeups.woken.append(self)
            else:
                self._wakeups.add(self)

    def throw(self, error: BaseException) -> None:
        """Have ``error`` raised in the task that waits here, if any."""
        if self._state == "taken":
            self._error = error
            self.wake()

    # -- what a task does to a future ------------------------------------------------------

    def get_loop(self) -> asyncio.AbstractEventLoop:
        return self.loop

    def add_done_callback(
        self, callback: Callable[[Any], object], *, context: Context | None = None
    ) -> None:
        self.resume = callback
        self.context = context

    def cancel(self, msg: str | None = None) -> bool:
        if self._state != "taken":
            return False  # the task then raises in itself when it goes on
        self.throw(asyncio.CancelledError())
        return True

    def result(self) -> None:
        if self._error is not None:
            raise self._error


class _Wakeups:
    """Those whom one handle of an event loop will wake.

    Attributes:
        woken: They, in order.
        is_due: Whether the handle is scheduled, or runs.
    """

    __slots__ = ("is_due", "woken")

    def __init__(self) -> None:
        self.woken: list[Parking] = []
        self.is_due = False

    @staticmethod
    def of(loop: asyncio.AbstractEventLoop) -> _Wakeups:
        return _wakeups.setdefault(loop, _Wakeups())

    def add(self, parking: Parking) -> None:
        self.woken.append(parking)
        if not self.is_due:
            self.is_due = True
            parking.loop.call_soon(self._wake_all)

    def _wake_all(self) -> None:
        woken: list[Parking] = []
        try:
            for _ in range(ROUNDS):
                woken, self.woken = self.woken, woken
                woken.reverse()
                while woken:
                    parking = woken.pop()
                    resume, context = parking.resume, parking.context
                    if resume is not None and context is not None:
                        context.run(resume, parking)  # steps the task that waits there
                if not 0 < len(self.woken) <= FEW:
                    break
        finally:
            # A task that raised SystemExit or KeyboardInterrupt leaves others, who go on later.
            self.woken = [*reversed(woken), *self.woken]
            self.is_due = bool(self.woken)
            if self.is_due:
                self.woken[0].loop.call_soon(self._wake_all)


_wakeups: WeakKeyDictionary[asyncio.AbstractEventLoop, _Wakeups] = WeakKeyDictionary()
