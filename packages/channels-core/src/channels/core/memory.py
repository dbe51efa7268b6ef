"""The broker inside the process: for one process, for tests, and for development."""

from __future__ import annotations

import asyncio
import secrets
import threading
import time
from collections import OrderedDict, deque
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from typing import Self

from channels.core._backend import (
    DEFAULT_MAX_PAYLOAD,
    ChannelsBackend,
    History,
    HistoryRequest,
    Listener,
    Lost,
    Message,
    Outcome,
)
from channels.core._errors import (
    ConfigurationError,
    HistoryNotSupported,
    NotRunningError,
    PayloadTooLarge,
)
from channels.core._event import BEGINNING, Event, Position
from channels.core._parking import Parking
from channels.core.options import check_count, check_seconds

CROWD = 1_000
"""Events that may wait for a listener before publishing lets the event loop run.

A loop around ``wait_published()`` never waits for anything else here, so nobody would receive.
"""


class MemoryChannelsBackend(ChannelsBackend):
    """Keep everything in this process; the fastest backend, for a single process.

    Plugins that are given the same instance see each other's events, on the same event loop or
    on another. History is kept while nobody listens and while the backend is closed; it goes
    with the object.

    Args:
        history: How many events to keep per channel. 0 keeps none, and events then have no
            positions. Default 0.
        max_age: Seconds that an event is kept at most. Default None: no limit.
        max_channels: How many channels' records to keep; beyond it, the record of the channel
            that was silent longest is forgotten, though never while somebody listens to
            it. Default 10,000.
        max_payload: The largest event in bytes. Default 1 MiB.

    Raises:
        ConfigurationError: A value is out of its range.
    """

    def __init__(
        self,
        history: int = 0,
        *,
        max_age: float | None = None,
        max_channels: int = 10_000,
        max_payload: int = DEFAULT_MAX_PAYLOAD,
    ) -> None:
        check_count(0, takes="how many events to keep, 0 for none", history=history)
        check_seconds(or_none=True, max_age=max_age)
        check_count(1, max_channels=max_channels, max_payload=max_payload)
        self.keeps_history = history > 0
        self.max_payload = max_payload
        self._history = history
        self._max_age = max_age
        self._max_channels = max_channels
        self._records: OrderedDict[str, _Record] = OrderedDict()
        self._listeners: dict[str, dict[_MemoryListener, None]] = {}
        self._woken: dict[_MemoryListener, None] = {}
        self._lock = threading.Lock()

    @classmethod
    def _from_url(cls, url: str, options: Mapping[str, object]) -> Self:
        rest = url.partition("://")[2]
        if rest:
            raise ConfigurationError(
                f"memory:// takes no {rest!r}; its options are history, max_age, max_channels "
                f"and max_payload, as in memory://?history=100"
            )
        make: type = cls
        backend: Self = make(**options)
        return backend

    async def publish(self, messages: Sequence[Message]) -> Sequence[Outcome]:
        if not self._entered:
            raise NotRunningError("the memory backend is closed: use it inside 'async with'")
        with self._lock:
            outcomes = [self._publish(channel, data) for channel, data in messages]
            woken, self._woken = self._woken, {}
        is_crowded = False
        for listener in woken:
            listener.wake()
            is_crowded |= len(listener.arrived) > CROWD
        if is_crowded:
            await asyncio.sleep(0)
        return outcomes

    def _publish(self, channel: str, data: bytes) -> Outcome:
        if len(data) > self.max_payload:
            return PayloadTooLarge(channel, len(data), self.max_payload)
        if self.keeps_history:
            event = self._record(channel).append(channel, data, self._max_age)
        else:
            event = Event(data, channel)
        for listener in self._listeners.get(channel, ()):
            listener.arrived.append(event)
            self._woken[listener] = None
        return event.position

    @asynccontextmanager
    async def listen(self) -> AsyncIterator[Listener]:
        listener = _MemoryListener(self)
        try:
            yield listener
        finally:
            await listener.unsubscribe(list(listener.channels))

    async def get_history(self, requests: Sequence[HistoryRequest]) -> Sequence[History]:
        if not self.keeps_history:
            raise HistoryNotSupported("this memory backend keeps none; pass history=N")
        with self._lock:
            return [self._read(request) for request in requests]

    def _read(self, request: HistoryRequest) -> History:
        record = self._records.get(request.channel)
        since = request.since
        if record is None:
            return History((), None, since is None or since == BEGINNING)
        record.expire(self._max_age)
        events = list(record.events)
        complete = True
        if since is not None:
            oldest = record.offset - len(events) + 1
            known = since.epoch == record.epoch or since == BEGINNING
            complete = known and oldest - 1 <= since.offset <= record.offset
            if known:
                events = events[max(0, since.offset + 1 - oldest) :]
        if request.limit is not None and len(events) > request.limit:
            events = events[len(events) - request.limit :]
            complete = since is None
        return History(events, record.top, complete)

    def _subscribe(self, listener: _MemoryListener, channel: str) -> Position | None:
        self._listeners.setdefault(channel, {})[listener] = None
        record = self._records.get(channel)
        return None if record is None else record.top

    def _unsubscribe(self, listener: _MemoryListener, channel: str) -> None:
        listeners = self._listeners.get(channel, {})
        listeners.pop(listener, None)
        if not listeners:
            self._listeners.pop(channel, None)

    def _record(self, channel: str) -> _Record:
        record = self._records.get(channel)
        if record is None:
            self._make_room()
            record = self._records[channel] = _Record(self._history)
        else:
            self._records.move_to_end(channel)
        return record

    def _make_room(self) -> None:
        # Records with listeners are passed over, a few a time: the next new channel goes on.
        for _ in range(16):
            if len(self._records) < self._max_channels:
                return
            channel = next(iter(self._records))
            if channel in self._listeners:
                self._records.move_to_end(channel)
            else:
                del self._records[channel]


class _Record:
    """What is kept of one channel."""

    __slots__ = ("epoch", "events", "offset", "times")

    def __init__(self, history: int) -> None:
        self.epoch = secrets.token_hex(6)
        self.offset = 0
        self.events: deque[Event] = deque(maxlen=history)
        self.times: deque[float] = deque(maxlen=history)

    @property
    def top(self) -> Position:
        return Position(self.epoch, self.offset)

    def append(self, channel: str, data: bytes, max_age: float | None) -> Event:
        self.expire(max_age)
        self.offset += 1
        event = Event(data, channel, self.top)
        self.events.append(event)
        if max_age is not None:
            self.times.append(time.monotonic())
        return event

    def expire(self, max_age: float | None) -> None:
        if max_age is None:
            return
        oldest = time.monotonic() - max_age
        while self.times and self.times[0] < oldest:
            self.times.popleft()
            self.events.popleft()


class _MemoryListener:
    """A list that publishers append to, and that the iteration takes whole."""

    def __init__(self, backend: MemoryChannelsBackend) -> None:
        self.channels: set[str] = set()
        self.arrived: list[Event | Lost] = []
        self._backend = backend
        self._loop = asyncio.get_running_loop()
        self._parking = Parking()
        self._is_waiting = False

    async def subscribe(self, channels: Sequence[str]) -> Mapping[str, Position | None]:
        self.channels.update(channels)
        with self._backend._lock:
            return {channel: self._backend._subscribe(self, channel) for channel in channels}

    async def unsubscribe(self, channels: Sequence[str]) -> None:
        self.channels.difference_update(channels)
        with self._backend._lock:
            for channel in channels:
                self._backend._unsubscribe(self, channel)

    def wake(self) -> None:
        """Let the iteration go on; called from any thread, after a publish."""
        if not self._is_waiting:
            return
        if asyncio.get_running_loop() is self._loop:
            self._parking.wake()
        else:
            with suppress(RuntimeError):  # its loop was closed without leaving listen()
                self._loop.call_soon_threadsafe(self._parking.wake)

    async def __aiter__(self) -> AsyncIterator[Sequence[Event | Lost]]:
        while True:
            self._is_waiting = True  # before the look: another thread looks here after it has added
            while not self.arrived:
                await self._parking
            self._is_waiting = False
            with self._backend._lock:
                arrived, self.arrived = self.arrived, []
            yield arrived
