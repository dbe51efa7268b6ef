"""From a subscriber to one connection of any ASGI server."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence

from channels.core._event import Event
from channels.core._subscriber import Subscriber


class Outlet:
    """Send what a subscriber gets, from one task that sleeps while there is nothing.

    Where a run of events meets a server: it takes a run when it is free, and leaves what comes
    meanwhile to the subscriber's backlog, with its limits.

    Args:
        subscriber: Whose events.
        write: Sends a run of events.
    """

    __slots__ = ("_ended", "_notes", "_run", "_seen", "_subscriber", "_waiter", "_write", "written")

    def __init__(
        self, subscriber: Subscriber, write: Callable[[Sequence[Event]], Awaitable[None]]
    ) -> None:
        self._subscriber = subscriber
        self._write = write
        self._run: Sequence[Event] = ()
        self._notes: deque[Callable[[], Awaitable[None]]] | None = None
        self._ended = False
        self._waiter: asyncio.Future[None] | None = None
        self.written = 0
        self._seen = -1

    @property
    def is_idle(self) -> bool:
        """Whether all that came was sent."""
        return self._waiter is not None

    def is_stuck(self) -> bool:
        """Tell whether nothing could be sent since the last time this was asked."""
        stuck = not self.is_idle and self.written == self._seen
        self._seen = self.written
        return stuck

    def note(self, write: Callable[[], Awaitable[None]]) -> None:
        """Send something else, between two runs."""
        if self._notes is None:
            self._notes = deque()
        self._notes.append(write)
        self._wake()

    async def pump(self) -> None:
        """Send until the subscriber's stream has ended and all of it is sent.

        Raises:
            Exception: Whatever sending raises.
        """
        self._subscriber.attach(self._take, self._end)
        while True:
            if self._run:
                await self._write(self._run)
                self._run = ()
                self._subscriber.ready()
            elif self._notes:
                await self._notes.popleft()()
            elif self._ended:
                return
            else:
                self._waiter = asyncio.get_running_loop().create_future()
                try:
                    await self._waiter
                finally:
                    self._waiter = None

    def _take(self, events: Sequence[Event]) -> bool:
        if self._run:
            return False
        self._run = events
        self._wake()
        return True

    def _end(self) -> None:
        self._ended = True
        self._wake()

    def _wake(self) -> None:
        waiter = self._waiter
        if waiter is not None and not waiter.done():
            waiter.set_result(None)


async def cut(task: asyncio.Task[None]) -> None:
    """Cancel a delivery, and wait until it has ended."""
    while not task.done():
        task.cancel()
        await asyncio.wait([task], timeout=1.0)
