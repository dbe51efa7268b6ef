"""From a subscriber to one connection of any ASGI server."""

from __future__ import annotations

import asyncio
import contextvars
import sys
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Coroutine, Sequence
from typing import Any, Protocol

from channels.core._event import Event
from channels.core._parking import Parking
from channels.core._subscriber import Subscriber

Write = Callable[[], Coroutine[Any, Any, None]]
WriteEvents = Callable[[Sequence[Event]], Coroutine[Any, Any, None]]


class Owner(Protocol):
    """Who has an outlet."""

    def delivered(self, error: BaseException | None) -> None:
        """Note, once, that the stream has ended and is sent; or why nothing more is."""
        ...


class Outlet(ABC):
    """Sends what a subscriber gets.

    It takes a run of events when it is free, and leaves what comes meanwhile to the subscriber's
    backlog, with its limits.

    Args:
        subscriber: Whose events.
        owner: Is told when all is sent.
    """

    __slots__ = ("_owner", "_subscriber")

    def __init__(self, subscriber: Subscriber, owner: Owner) -> None:
        self._subscriber = subscriber
        self._owner = owner

    @abstractmethod
    def start(self) -> None:
        """Begin, with what is in the backlog."""

    @abstractmethod
    def is_stuck(self) -> bool:
        """Tell whether nothing could be sent since the last time this was asked."""

    @abstractmethod
    def abort(self) -> None:
        """Send nothing more, and cut the connection where the server lets us."""

    @abstractmethod
    async def stop(self) -> None:
        """Send nothing more; waits until nothing is being sent."""


class SendingOutlet(Outlet):
    """Sends by awaiting the server's ``send``, one run at a time.

    Args:
        subscriber: Whose events.
        write: Sends a run of events.
        owner: See :class:`Outlet`.

    Attributes:
        written: Counts what is sent; ``write`` adds to it.
    """

    __slots__ = ("_ended", "_notes", "_seen", "_task", "_write", "written")

    def __init__(self, subscriber: Subscriber, write: WriteEvents, owner: Owner) -> None:
        super().__init__(subscriber, owner)
        self._write = write
        self._notes: deque[Write] | None = None
        self._task: asyncio.Task[None] | None = None
        self._ended = False
        self._seen = -1
        self.written = 0

    @property
    @abstractmethod
    def is_idle(self) -> bool:
        """Whether all that came was sent."""

    def is_stuck(self) -> bool:
        stuck = not self.is_idle and self.written == self._seen
        self._seen = self.written
        return stuck

    def abort(self) -> None:
        if self._task is not None:
            self._task.cancel()

    async def stop(self) -> None:
        if self._task is not None:
            await cut(self._task)

    @abstractmethod
    def note(self, write: Write) -> None:
        """Send something else, between two runs."""


class PumpOutlet(SendingOutlet):
    """Sends from one task, which sleeps while there is nothing to send."""

    __slots__ = ("_parking", "_run")

    def __init__(self, subscriber: Subscriber, write: WriteEvents, owner: Owner) -> None:
        super().__init__(subscriber, write, owner)
        self._parking = Parking()
        self._run: Sequence[Event] = ()

    @property
    def is_idle(self) -> bool:
        return self._parking.is_taken

    def start(self) -> None:
        self._task = asyncio.create_task(self._pump(), name="channels-outlet")
        self._subscriber.attach(self._take, self._end)

    def note(self, write: Write) -> None:
        if self._notes is None:
            self._notes = deque()
        self._notes.append(write)
        self._parking.wake()

    async def _pump(self) -> None:
        try:
            while True:
                if self._run:
                    await self._write(self._run)
                    self._run = ()
                    self._subscriber.ready()
                elif self._notes:
                    await self._notes.popleft()()
                elif self._ended:
                    break
                else:
                    await self._parking
        except BaseException as exc:
            self._owner.delivered(exc)
            if not isinstance(exc, Exception):
                raise
        else:
            self._owner.delivered(None)

    def _take(self, events: Sequence[Event]) -> bool:
        if self._run:
            return False
        self._run = events
        self._parking.wake()
        return True

    def _end(self) -> None:
        self._ended = True
        self._parking.wake()


class EagerOutlet(SendingOutlet):
    """Sends at once, in the tick in which the events come; a task remains only if it has to wait.

    The task is begun in place, so that ``send`` is inside a task of its own like everywhere else:
    what it does with timeouts and cancellation is its own affair.
    """

    __slots__ = ("_context", "_is_busy", "_is_stopped")

    def __init__(self, subscriber: Subscriber, write: WriteEvents, owner: Owner) -> None:
        super().__init__(subscriber, write, owner)
        self._context = contextvars.copy_context()
        self._is_busy = False
        self._is_stopped = False

    @property
    def is_idle(self) -> bool:
        return not self._is_busy

    def start(self) -> None:
        self._subscriber.attach(self._take, self._end)

    def abort(self) -> None:
        self._is_stopped = self._is_busy = True
        super().abort()

    async def stop(self) -> None:
        self._is_stopped = self._is_busy = True
        await super().stop()

    def note(self, write: Write) -> None:
        if self._notes is None:
            self._notes = deque()
        self._notes.append(write)
        self._go_on()

    def _take(self, events: Sequence[Event]) -> bool:
        if self._is_busy:
            return False
        self._begin(self._write(events))
        if self._ended or self._notes:  # since it began
            asyncio.get_running_loop().call_soon(self._go_on)
        return True

    def _end(self) -> None:
        self._ended = True
        self._go_on()

    def _begin(self, writing: Coroutine[Any, Any, None]) -> None:
        self._is_busy = True
        task = _eager_task(writing, self._context)
        if task.done():
            self._conclude(task)
        else:
            self._task = task
            task.add_done_callback(self._resume)

    def _conclude(self, task: asyncio.Task[None]) -> None:
        """Be free again; stopped, or after an error, it stays busy and takes nothing more."""
        error = asyncio.CancelledError() if task.cancelled() else task.exception()
        if error is not None:
            self._owner.delivered(error)
        elif not self._is_stopped:
            self._is_busy = False

    def _resume(self, task: asyncio.Task[None]) -> None:
        self._task = None
        self._conclude(task)
        self._go_on()

    def _go_on(self) -> None:
        while self._notes and not self._is_busy:
            self._begin(self._notes.popleft()())
        if not self._is_busy:
            self._subscriber.ready()
        if self._ended and not self._is_busy and not self._subscriber.qsize:
            self._is_busy = True
            self._owner.delivered(None)


def _eager_task(
    writing: Coroutine[Any, Any, None], context: contextvars.Context
) -> asyncio.Task[None]:
    if sys.version_info < (3, 12):
        raise AssertionError("Python 3.11 has no eager tasks")
    loop = asyncio.get_running_loop()
    name = "channels-outlet"
    return asyncio.Task(writing, loop=loop, name=name, context=context, eager_start=True)


sending_outlet = PumpOutlet if sys.version_info < (3, 12) else EagerOutlet
"""What sends with the least work on this Python."""


async def cut(task: asyncio.Task[None]) -> None:
    """Cancel a task, and wait until it has ended."""
    while not task.done():
        task.cancel()
        await asyncio.wait([task], timeout=1.0)
