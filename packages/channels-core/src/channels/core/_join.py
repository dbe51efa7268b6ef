"""Joining a subscriber to channels: history first, then live, without a gap or a duplicate."""

from __future__ import annotations

import asyncio
import sys
from collections import deque
from collections.abc import Awaitable, Collection, Generator, Mapping, Sequence
from typing import Any, TypeVar

from channels.core._backend import History, HistoryRequest
from channels.core._channel import Channel, Gate
from channels.core._errors import BackendUnavailable, NotRunningError, SubscriberStateError
from channels.core._event import BEGINNING, Event, Gap, Position, before
from channels.core._parking import Parking
from channels.core._patience import Patience
from channels.core._router import Router
from channels.core._subscriber import Subscriber

T = TypeVar("T")

MAX_READS = 5
"""How often a history is read while publishers overflow the gate, before a gap is told."""


class Joining(Parking):
    """One subscribe(): waits for the broker, then reads history; leaves nothing behind if it fails.

    Awaited once, by a task that is parked here until the last of the channels is confirmed.

    Args:
        router: Where the channels are.
        subscriber: Who joins.
        names: The channels, none of which it is in.
        requests: For some of them, the history to read.
        patience: How long it may take.
    """

    __slots__ = (
        "_names",
        "_patience",
        "_requests",
        "_router",
        "_subscriber",
        "_unconfirmed",
    )

    def __init__(
        self,
        router: Router,
        subscriber: Subscriber,
        names: Collection[str],
        requests: Mapping[str, HistoryRequest],
        patience: Patience,
    ) -> None:
        super().__init__(router.wake)
        self._router = router
        self._subscriber = subscriber
        self._names = names
        self._requests = requests
        self._patience = patience
        self._unconfirmed = len(names)

    def reads(self, channel: str) -> bool:
        return channel in self._requests

    def confirm(self, channel: str) -> None:
        self._unconfirmed -= 1
        if not self._unconfirmed:
            self.wake()

    def fail(self, error: Exception) -> None:
        self.throw(error)

    def __await__(self) -> Generator[Any, None, None]:
        """Join.

        Raises:
            TimeoutError: It took too long.
            BackendException: A channel was refused, or its history cannot be read.
            NotRunningError: The plugin stopped.
            SubscriberStateError: The subscriber was unsubscribed meanwhile.
        """
        deadline = self._patience.begin(self)
        try:
            self._router.enter(self._subscriber, self._names, self)
            if self._unconfirmed:
                self._take()
                yield self
                self._free()
            if self._requests:
                yield from self._read_history(deadline).__await__()
            self._check_alive()
        except BaseException:
            self._free()
            self._router.leave(self._subscriber, self._names)
            self._subscriber.left(self._names)
            raise
        finally:
            self._patience.end(self)

    def _check_alive(self) -> None:
        reason = self._subscriber.end_reason
        if reason == "stopped":
            raise NotRunningError("the plugin stopped")
        if reason == "unsubscribed":
            raise SubscriberStateError("the subscriber was unsubscribed while it joined channels")

    async def _read_history(self, deadline: float) -> None:
        async with asyncio.timeout_at(deadline):
            await self._replay(list(filter(self.reads, self._names)))

    async def _replay(self, names: list[str]) -> None:
        """Read until each history meets what its gate holds; then let the subscriber in."""
        read: dict[str, list[Event]] = {name: [] for name in names}
        tops: dict[str, Position | None] = {}
        incomplete: set[str] = set()
        for _ in range(MAX_READS):
            unmet = [name for name in names if not self._is_met(name, tops)]
            if not unmet:
                break
            for name in unmet:
                if name in tops and self._is_elsewhere(name, tops[name]):
                    await self._router.catch_up(self._channel(name))
                    incomplete.discard(name)
                    read[name].clear()
                    del tops[name]
            requests = [self._next_request(name, tops) for name in unmet]
            histories = await self._router.read(requests, self._patience.seconds)
            for name, history in zip(unmet, histories, strict=True):
                if not history.complete:
                    incomplete.add(name)
                    read[name].append(Gap(channel=name))
                read[name] += history.events
                tops[name] = history.position
        for name in names:
            is_lost = tops.get(name) is None and bool(self._gate(name).held)
            if is_lost:  # the gate holds what came before the record was lost
                self._gate(name).held.clear()
            if is_lost or not self._is_met(name, tops):
                incomplete.add(name)
                read[name].append(Gap(channel=name))
        self._note_recovery(names, incomplete)
        replay: list[Event] = []
        for name in names:
            replay += self._enter_live(name, read[name], tops.get(name), name in incomplete)
        tells_gaps = self._subscriber.tells_gaps
        self._subscriber.replay(
            event for event in replay if tells_gaps or not isinstance(event, Gap)
        )

    def _next_request(self, name: str, tops: Mapping[str, Position | None]) -> HistoryRequest:
        if name in tops:
            return HistoryRequest(name, since=tops[name] or BEGINNING)
        return self._requests[name]

    def _is_met(self, name: str, tops: Mapping[str, Position | None]) -> bool:
        """Tell whether what was read goes up to what the gate holds."""
        if name not in tops or self._gate(name).reopen():
            return False
        return not self._is_elsewhere(name, tops[name])

    def _is_elsewhere(self, name: str, top: Position | None) -> bool:
        """Tell whether history and channel are in different epochs, which cannot be merged."""
        return (top or BEGINNING).epoch != self._channel(name).epoch

    def _gate(self, name: str) -> Gate:
        return self._channel(name).joining[self._subscriber]

    def _channel(self, name: str) -> Channel:
        channel = self._router.channels.get(name)
        if channel is None or self._subscriber not in channel.joining:
            raise SubscriberStateError(f"unsubscribed from {name!r} while joining it")
        return channel

    def _enter_live(
        self, name: str, read: list[Event], top: Position | None, is_incomplete: bool
    ) -> list[Event]:
        """Return what comes before the channel's next event, and let that one in."""
        channel = self._channel(name)
        events = read + self._gate(name).take_beyond(top)
        since = self._requests[name].since
        positions = [event.position for event in events if event.position is not None]
        if since is not None and not is_incomplete:
            handed: Position | None = since
        else:
            handed = before(positions[0]) if positions else top
        enter(channel, self._subscriber, top, handed)
        return events

    def _note_recovery(self, names: list[str], incomplete: set[str]) -> None:
        asked = {name for name in names if self._requests[name].since}
        if asked:
            before = self._subscriber.unrecovered - asked
            self._subscriber.unrecovered = before | (asked & incomplete)
            self._subscriber.recovered = not self._subscriber.unrecovered


def enter(
    channel: Channel, subscriber: Subscriber, top: Position | None, handed: Position | None
) -> None:
    """Let a joining subscriber in that was given everything until ``top``, or the channel's place.

    Where the channel is not there yet, the gate stays until it is.
    """
    place = channel.position
    if top is not None and (place is None or top.offset > place.offset):
        channel.joining[subscriber].level = top
        subscriber.joined(channel.name, channel, handed)
    else:
        channel.admit(subscriber, handed)


async def put_history(
    router: Router, subscriber: Subscriber, names: Sequence[str], limit: int | None, patience: float
) -> None:
    """Put into a live subscriber's stream what lies before its start in each channel.

    One channel after the other. What the channel delivers meanwhile waits behind its history.
    """
    channels = [_joined(router, subscriber, name) for name in names]
    for channel in channels:
        if subscriber in channel.joining:
            # It joined with history that goes beyond what the channel has come to.
            await _within(patience, router.catch_up(channel))
        start = channel.starts.get(subscriber)
        history = await _read(router, HistoryRequest(channel.name), patience)
        events = _before_start(history, start)
        if limit is not None:
            events = events[max(0, len(events) - limit) :]
        if events and subscriber in channel.members:
            await _put_before_live(router, subscriber, channel, events, patience)
            if start is not None and subscriber in channel.members:
                channel.note_start(subscriber, start)


def _joined(router: Router, subscriber: Subscriber, name: str) -> Channel:
    channel = router.channels.get(name)
    if channel is None or subscriber.place(name) is not channel:
        raise SubscriberStateError(f"the subscriber is not subscribed to {name!r}")
    gate = channel.joining.get(subscriber)
    if gate is not None and gate.level is None:
        raise SubscriberStateError(f"history of {name!r} is being put into the stream already")
    return channel


async def _read(router: Router, request: HistoryRequest, patience: float) -> History:
    [history] = await _within(patience, router.read([request], patience))
    return history


async def _within(seconds: float, waiting: Awaitable[T]) -> T:
    try:
        async with asyncio.timeout(seconds):
            return await waiting
    except TimeoutError:
        raise BackendUnavailable(f"history could not be read within {seconds:g} s") from None


async def _put_before_live(
    router: Router,
    subscriber: Subscriber,
    channel: Channel,
    events: Sequence[Event],
    patience: float,
) -> None:
    """Put ``events`` before those of the channel that wait, or come, while this goes on.

    Once it had to wait for the consumer, what came meanwhile waits for it too: the backlog is as
    full as can be then, and all of it would fall to the strategy.
    """
    name = channel.name
    reached = subscriber.position(name) or channel.position
    gate = channel.withhold(subscriber, subscriber.max_backlog or sys.maxsize)
    covered: Position | None = None  # all until here was put; None: all that the gate lets begin
    pending = deque(events)
    is_live = False  # whether what is pending came after its start, so that losing it is a drop
    is_unread = waited = False

    try:
        while True:
            while pending:
                if channel.joining.get(subscriber) is not gate or subscriber.end_reason:
                    return
                event = pending[0]
                if isinstance(event, Gap):
                    subscriber.tell_gap(name, dropped=event.dropped)
                else:
                    waited = waited or subscriber.is_full(event)
                    await subscriber.put(event)
                pending.popleft()
            is_elsewhere = covered is not None and covered.epoch != channel.epoch
            if gate.reopen() or is_elsewhere:
                is_unread = True
                if is_elsewhere:
                    await _within(patience, router.catch_up(channel))
                request = HistoryRequest(name, since=covered or reached or BEGINNING)
                history = await _read(router, request, patience)
                is_unread = False
                if not history.complete:
                    subscriber.tell_gap(name)
                pending, covered = deque(history.events), history.position
            elif waited and (newer := gate.take_beyond(covered)):
                pending = deque(newer)
                covered = next((e.position for e in reversed(newer) if e.position), covered)
            else:
                return
            is_live = True
    finally:
        if channel.joining.get(subscriber) is gate:
            if is_live and pending:
                subscriber.deliver(name, [*pending])
            if is_unread or gate.overflowed:
                subscriber.tell_gap(name, dropped=True)
            newer = gate.take_beyond(covered)
            enter(channel, subscriber, covered, subscriber.position(name))
            if newer:
                subscriber.deliver(name, newer)


def _before_start(history: History, start: Position | None) -> list[Event]:
    if start is None:
        return list(history.events)
    older: list[Event] = []
    for event in history.events:
        at = event.position
        if at is None or (at.epoch == start.epoch and at.offset <= start.offset):
            older.append(event)
    return older
