"""The channels of one process: who wants what, and the order in which events reach them."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from weakref import WeakSet

from channels.core._backend import ChannelsBackend, History, HistoryRequest
from channels.core._backoff import Backoff
from channels.core._channel import Channel, Join
from channels.core._errors import (
    BackendException,
    BackendUnavailable,
    NotRunningError,
)
from channels.core._event import BEGINNING, Event, Position, before, is_newer
from channels.core._parking import Parking
from channels.core._subscriber import Subscriber
from channels.core._tasks import begin, call, end

logger = logging.getLogger("channels")

REPAIR_BATCH = 500
"""Channels whose missing events are read in one call."""

MAX_HOLD = 0.00025
"""Seconds of events of several channels after which the event loop runs."""

HISTORY_PATIENCE = 10.0
"""Seconds that a connected backend may fail to read history before the gap is told."""


class Router:
    """Maps channels to subscribers; drops duplicates and repairs gaps once per channel.

    The wanted state (``channels``, ``changed``) changes at once and synchronously. The broker's
    subscriptions are made equal to it by whoever holds the connection.

    Args:
        backend: Where missing events are read.
        on_gap: Called with a channel's name when events of it are lost for good.
        on_connect: Called each time a connection is there.
    """

    def __init__(
        self,
        backend: ChannelsBackend,
        on_gap: Callable[[str], None],
        on_connect: Callable[[], None] = lambda: None,
    ) -> None:
        self.channels: dict[str, Channel] = {}
        self.changed: dict[str, None] = {}
        self.wake = Parking()  # where the reconciler waits for changes
        self.connected = asyncio.Event()
        self._apart: WeakSet[Subscriber] = WeakSet()  # those who may be in no channel
        self._backend = backend
        self._on_gap = on_gap
        self._on_connect = on_connect
        self._holes: dict[str, Channel] = {}
        self._repairer: asyncio.Task[None] | None = None
        self._fan_outs: set[asyncio.Task[None]] = set()
        self._closed = False

    # -- what is wanted --------------------------------------------------------------------

    def enter(self, subscriber: Subscriber, names: Iterable[str], join: Join) -> None:
        """Let ``subscriber`` into channels that it is not in.

        The join is told of each once the broker has confirmed it, which may be at once.

        Raises:
            NotRunningError: The plugin stopped.
        """
        self._check_open()
        if not names:
            self._apart.add(subscriber)
        for name in names:
            channel = self.channels.get(name)
            if channel is None:
                channel = self.channels[name] = Channel(name)
            channel.expect(subscriber, join)
            if channel.confirmed:
                channel.confirm()
            else:
                self.changed[name] = None
        if self.changed:
            self.wake.wake()

    def leave(self, subscriber: Subscriber, names: Iterable[str]) -> None:
        """Take ``subscriber`` out of channels; those that it was not in are passed over."""
        if subscriber.end_reason is None:
            self._apart.add(subscriber)
        for name in names:
            channel = self.channels.get(name)
            if channel is None:
                continue
            channel.dismiss(subscriber)
            if channel.is_wanted:
                continue
            if self.connected.is_set():
                self.change((name,))
            else:
                self.forget(channel)

    def change(self, names: Iterable[str]) -> None:
        """Have the broker's subscriptions of ``names`` compared with what is wanted."""
        for name in names:
            self.changed[name] = None
        self.wake.wake()

    def forget(self, channel: Channel) -> None:
        """Drop a channel that nobody wants."""
        if self.channels.get(channel.name) is channel:
            del self.channels[channel.name]
            self.changed.pop(channel.name, None)
            self._holes.pop(channel.name, None)

    # -- what the broker says --------------------------------------------------------------

    def connect(self) -> None:
        """Begin with a new connection, on which nothing is subscribed."""
        self.connected.set()
        self.changed.clear()
        self.change(self.channels)
        self._on_connect()

    def disconnect(self) -> None:
        """End with a connection: no channel is confirmed any more."""
        self.connected.clear()
        self.unconfirm(self.channels)
        for channel in [channel for channel in self.channels.values() if not channel.is_wanted]:
            self.forget(channel)

    def unconfirm(self, names: Iterable[str]) -> None:
        for name in names:
            if (channel := self.channels.get(name)) is not None:
                channel.confirmed = False
                channel.early.clear()

    def confirm(self, tops: Mapping[str, Position | None]) -> None:
        """Note that channels are subscribed, and what their records' tops were then."""
        keeps_history = self._backend.keeps_history
        for name, top in tops.items():
            channel = self.channels.get(name)
            if channel is None:
                continue
            if not keeps_history:
                if channel.was_confirmed:
                    self._gap(channel)
                    self._take_early(channel)
            elif channel.position is None:
                if channel.was_confirmed:  # its place was lost with a record that could not be read
                    self._gap(channel)
                channel.position = top or BEGINNING
            elif channel.is_behind(top):
                self._read_again(channel)
            channel.confirm()

    def refuse(self, name: str, error: BackendException) -> None:
        """Note that the broker will not let us subscribe to a channel."""
        channel = self.channels.get(name)
        if channel is None:
            return
        for join in list(channel.waiting.values()):
            join.fail(error)
        if channel.members:
            logger.error("channel %r is refused: %s; its subscribers get nothing", name, error)
            self._gap(channel)

    # -- events ----------------------------------------------------------------------------

    async def take(self, events: Sequence[Event]) -> None:
        """Give events that arrived together to whom they concern.

        Lets the loop run whenever the time is up, and returns when all have it: this is what slows
        the reading of the connection down. What a cancellation leaves out is missed like any
        other event of a connection that is gone.
        """
        deadline = time.perf_counter() + MAX_HOLD
        for name, run in _by_channel(events):
            if time.perf_counter() > deadline:
                await asyncio.sleep(0)
                deadline = time.perf_counter() + MAX_HOLD
            channel = self.channels.get(name)
            if channel is None:
                continue
            if channel.was_confirmed and not channel.confirmed and not self._backend.keeps_history:
                channel.hold_early(run)  # the gap before them is yet to be told
            elif channel.busy:
                channel.hold(run)
            else:
                self._advance(channel, run)
        if self._fan_outs:
            await asyncio.wait(self._fan_outs)

    def _take_early(self, channel: Channel) -> None:
        early, channel.early = channel.early, []
        if channel.busy:
            channel.hold(early)
        elif early:
            self._advance(channel, early)

    def _advance(self, channel: Channel, run: Sequence[Event]) -> None:
        reached = channel.position
        ready, rest = channel.accept(run)
        fan_out = channel.deliver(ready, reached) if ready else None
        if fan_out is None and not rest:
            return
        self._occupy(channel)
        channel.held = [*rest, *channel.held]
        task = begin(self._release(channel), "channels-fan-out")
        self._fan_outs.add(task)
        task.add_done_callback(self._fan_outs.discard)

    async def _release(self, channel: Channel) -> None:
        """Deliver what a busy channel holds, until nothing is held or a hole must be mended."""
        while True:
            if channel.fan_out is not None:
                await channel.fan_out.finish()
                channel.fan_out = None
            if channel.stale:
                self._repair(channel)
                return
            held, channel.held = channel.held, []
            if not held:
                channel.busy = False
                channel.hole = None
                if channel.idle is not None:
                    channel.idle.set()
                return
            reached = channel.position
            ready, rest = channel.accept(held)
            channel.held = [*rest, *channel.held]
            if ready:
                channel.deliver(ready, reached)
            elif rest:
                hole = (channel.position, rest[0].position)
                if hole != channel.hole:
                    channel.hole = hole
                    self._repair(channel)
                    return
                assert rest[0].position is not None
                self._gap(channel)
                channel.advance(before(rest[0].position))

    # -- repair ----------------------------------------------------------------------------

    async def catch_up(self, channel: Channel) -> None:
        """Bring a channel to where its record is now.

        Raises:
            NotRunningError: The plugin stopped.
        """
        self._check_open()
        self._read_again(channel)
        if channel.idle is None:
            channel.idle = asyncio.Event()
        await channel.idle.wait()
        self._check_open()

    def _read_again(self, channel: Channel) -> None:
        """Read what the channel has not delivered; the owner of a busy one does it."""
        channel.stale = True
        if not channel.busy:
            self._occupy(channel)
            self._repair(channel)

    def _occupy(self, channel: Channel) -> None:
        channel.busy = True
        channel.idle = None

    def _repair(self, channel: Channel) -> None:
        self._holes[channel.name] = channel
        if self._closed:
            return
        if self._repairer is None or self._repairer.done():
            self._repairer = begin(self._repair_all(), "channels-repair")

    async def _repair_all(self) -> None:
        while self._holes:
            channels = [self._holes.pop(name) for name in list(self._holes)[:REPAIR_BATCH]]
            for channel in channels:
                channel.stale = False
            requests = [
                HistoryRequest(channel.name, since=channel.position or BEGINNING)
                for channel in channels
            ]
            arrived = [channel.held_epochs() for channel in channels]
            histories = await self._read_each(requests)
            for channel, history, epochs in zip(channels, histories, arrived, strict=True):
                if self.channels.get(channel.name) is channel:
                    if history is not None:
                        # What arrived before the record was read is not of a later epoch.
                        top = history.position or BEGINNING
                        channel.bury(epochs - {top.epoch})
                    self._mend(channel, history)
                    await self._release(channel)

    async def _read_each(self, requests: Sequence[HistoryRequest]) -> Sequence[History | None]:
        """Read histories together, or apart where one of them spoils it; None: not to be read."""
        try:
            return await self.read(requests, HISTORY_PATIENCE)
        except BackendException as exc:
            if len(requests) > 1 and not isinstance(exc, BackendUnavailable):
                middle = len(requests) // 2
                first = await self._read_each(requests[:middle])
                return [*first, *await self._read_each(requests[middle:])]
            logger.error("cannot read what %d channels missed: %s", len(requests), exc)
        except Exception:
            logger.exception("the backend failed to read what %d channels missed", len(requests))
        return [None] * len(requests)

    def _mend(self, channel: Channel, history: History | None) -> None:
        """Deliver what was read after the channel's position; say so if it is not all."""
        reached = channel.position
        if history is None:
            self._gap(channel)
            channel.position = None
            return
        if reached is None:  # the gap was told when the record could not be read
            channel.advance(channel.restart(history.position or BEGINNING))
            return
        events = history.events
        if not history.complete:
            self._gap(channel)
        else:
            events = [event for event in events if is_newer(event, reached)]
        newest = events[-1].position if events else history.position
        channel.advance(newest or BEGINNING)
        if events:
            channel.deliver(events, reached)

    async def read(self, requests: Sequence[HistoryRequest], patience: float) -> Sequence[History]:
        """Read history; try again for so many seconds while the broker is connected.

        Raises:
            BackendException: What the last try said.
            NotRunningError: The plugin stopped.
        """
        backoff = Backoff()
        loop = asyncio.get_running_loop()
        deadline = loop.time() + patience
        while True:
            try:
                histories = await call(self._backend.get_history(requests))
                if len(histories) != len(requests):
                    raise RuntimeError(
                        f"{len(histories)} histories came for {len(requests)} requests"
                    )
                return histories
            except BackendUnavailable:
                self._check_open()
                if loop.time() > deadline:
                    raise
            await backoff.pause()
            if not self.connected.is_set():
                self._check_open()
                await self.connected.wait()
                self._check_open()
                deadline = loop.time() + patience

    def _gap(self, channel: Channel) -> None:
        channel.tell_gap()
        self._on_gap(channel.name)

    # -- the end ---------------------------------------------------------------------------

    def end_streams(self, error: Exception) -> None:
        """End every stream, and fail who still waits to join; begin no repair any more."""
        self._closed = True
        if self._repairer is not None:
            self._repairer.cancel()
        if not self.connected.is_set():  # wake who waits for it to read history
            self.connected.set()
            self.connected.clear()
        for channel in self.channels.values():
            if channel.idle is not None:
                channel.idle.set()
            for join in list(channel.waiting.values()):
                join.fail(error)
        for subscriber in {*self._apart, *self._subscribers()}:
            subscriber.end("stopped")

    def _subscribers(self) -> Iterator[Subscriber]:
        for channel in self.channels.values():
            yield from channel.subscribers()

    def _check_open(self) -> None:
        if self._closed:
            raise NotRunningError("the plugin stopped")

    async def close(self) -> None:
        """End what still runs; no connection is left that could begin more of it."""
        await end(*self._fan_outs, *([self._repairer] if self._repairer else []))


def _by_channel(events: Sequence[Event]) -> Iterable[tuple[str, Sequence[Event]]]:
    """Split what arrived together by channel, each channel's order kept."""
    first = events[0].channel
    if len(events) == 1 or all(event.channel == first for event in events):
        return ((first, events),)
    runs: dict[str, list[Event]] = {}
    for event in events:
        runs.setdefault(event.channel, []).append(event)
    return runs.items()
