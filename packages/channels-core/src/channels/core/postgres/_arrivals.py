"""What has arrived and waits to be iterated; payloads that must be read hold back their channel."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence

from channels.core._backend import Lost
from channels.core._errors import BackendException, BackendUnavailable
from channels.core._event import Event
from channels.core._occasionally import Occasionally
from channels.core._tasks import begin, end
from channels.core.postgres._frame import Reference

Resolve = Callable[[Sequence[Reference]], Awaitable[Sequence[Event | None]]]

logger = logging.getLogger("channels.postgres")

MAX_WAITING = 64 * 1024 * 1024
"""Bytes that may wait to be iterated; what comes beyond makes all of it lost, and is told.

To read no more instead would fill the server's one queue of notifications, and stop everybody's
publishing.
"""

_OVERHEAD = 250
"""Bytes that an event takes besides its payload, about."""

_AT_ONCE = 100


class Arrivals:
    """Events on their way from the connection to the iteration.

    Invariants:
        * A channel is in ``_held`` exactly while its oldest arrival is a reference whose payload
          is being read; what arrives for it meanwhile goes behind.
        * ``_ready`` keeps each channel's order, and ``_size`` is what it takes in bytes.
        * Once closed, nothing is taken: the connection may still be talking.

    Args:
        resolve: Reads the payloads of references; None for one that is gone.
    """

    def __init__(self, resolve: Resolve) -> None:
        self._resolve = resolve
        self._ready: list[Event | Lost] = []
        self._size = 0
        self._overflow_log = Occasionally(logger)
        self._held: dict[str, deque[Event | Reference]] = {}
        self._reading: asyncio.Task[None] | None = None
        self._waiter: asyncio.Future[None] | None = None
        self._failure: BaseException | None = None
        self._closed = False

    def add(self, arrival: Event | Reference) -> None:
        """Take what arrived; never waits."""
        if self._closed:
            return
        held = self._held.get(arrival.channel) if self._held else None
        if held is not None:
            held.append(arrival)
        elif isinstance(arrival, Reference):
            self._held[arrival.channel] = deque([arrival])
            if self._reading is None:
                self._reading = begin(self._read(), "channels-postgres-read")
        else:
            self._queue(arrival)
            self._wake()

    def fail(self, exc: BaseException) -> None:
        """End the iteration with ``exc``, after what is ready; the first failure counts."""
        if self._failure is None:
            self._failure = exc
            self._wake()

    async def close(self) -> None:
        """Stop reading payloads."""
        self._closed = True
        if self._reading is not None:
            await end(self._reading)

    async def __aiter__(self) -> AsyncIterator[Sequence[Event | Lost]]:
        """Yield what arrived together.

        Raises:
            BackendUnavailable: The connection is gone.
        """
        while True:
            while not self._ready:
                if self._failure is not None:
                    raise BackendUnavailable(str(self._failure)) from self._failure
                self._waiter = asyncio.get_running_loop().create_future()
                try:
                    await self._waiter
                finally:
                    self._waiter = None
            ready, self._ready, self._size = self._ready, [], 0
            yield ready

    def _queue(self, item: Event | Lost) -> None:
        self._ready.append(item)
        self._size += _OVERHEAD + len(item)
        if self._size > MAX_WAITING:
            self._overflow()

    def _overflow(self) -> None:
        channels: dict[str, None] = {}
        for item in self._ready:
            channels.update(
                dict.fromkeys(item.channels if isinstance(item, Lost) else (item.channel,))
            )
        self._ready = [Lost(tuple(channels))]
        self._size = 0
        self._overflow_log.warning(
            "PostgreSQL: more arrived than this process could take in, %d times: the events of %d "
            "channels are read again where there is history, and lost where there is none",
            len(channels),
        )

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    async def _read(self) -> None:
        try:
            while self._held:
                first = [held[0] for held in self._held.values()][:_AT_ONCE]
                references = [one for one in first if isinstance(one, Reference)]
                try:
                    events = await self._resolve(references)
                except BackendUnavailable:
                    raise
                except BackendException:  # not allowed to read: only these channels suffer
                    events = [None] * len(references)
                for reference, event in zip(references, events, strict=True):
                    self._release(reference.channel, event)
        except Exception as exc:
            self.fail(exc)
        finally:
            self._reading = None

    def _release(self, channel: str, event: Event | None) -> None:
        held = self._held[channel]
        held.popleft()
        self._queue(Lost((channel,)) if event is None else event)
        while held:
            following = held[0]
            if isinstance(following, Reference):
                break
            held.popleft()
            self._queue(following)
        if not held:
            del self._held[channel]
        self._wake()
