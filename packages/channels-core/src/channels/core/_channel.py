"""One channel of this process: how far it has come, and who gets what comes next."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Iterable, Iterator, Sequence
from itertools import chain
from typing import Any, Final, Protocol, TypeVar

from channels.core._errors import SubscriberStateError
from channels.core._event import BEGINNING, Event, Gap, Position, before, follows, is_newer
from channels.core._fanout import FanOut, Group, Snapshot, Target, enlist
from channels.core._subscriber import Subscriber

MAX_HELD = 10_000
"""Events held per channel, and per joining subscriber, before they are read again instead."""

MAX_DEAD = 8
"""Epochs remembered per channel of which nothing is delivered any more."""

_EMPTY: Final[list[Event]] = []  # for all that hold nothing; nothing is added to it
_NOBODY: Final[dict[Subscriber, Any]] = {}  # the same
_NO_GROUPS: Final[dict[Group | None, Any]] = {}  # the same

T = TypeVar("T")


class Join(Protocol):
    """A subscribe() that waits for the broker to confirm its channels."""

    def reads(self, channel: str) -> bool:
        """Tell whether it goes on to read the channel's history."""
        ...

    def confirm(self, channel: str) -> None: ...

    def fail(self, error: Exception) -> None: ...


class Gate:
    """Holds what a channel delivers while a subscriber's history is being read.

    Attributes:
        level: Once the history was handed over: its top, which the channel has yet to reach.
    """

    __slots__ = ("held", "level", "max_held", "overflowed")

    def __init__(self, max_held: int) -> None:
        self.held: list[Event] = []
        self.max_held = max_held
        self.overflowed = False
        self.level: Position | None = None

    def see(self, events: Sequence[Event]) -> None:
        self.held += events
        if len(self.held) > self.max_held:
            self.held.clear()
            self.overflowed = True

    def reopen(self) -> bool:
        """Tell whether it overflowed, so that history must be read again; begin anew."""
        overflowed, self.overflowed = self.overflowed, False
        return overflowed

    def take_beyond(self, top: Position | None) -> list[Event]:
        """Take out what is newer than ``top``, of the epoch that the channel has come to."""
        held, self.held = self.held, []
        newest_first: list[Event] = []
        for event in reversed(held):
            at = event.position
            if (
                at is not None
                and top is not None
                and (at.epoch != top.epoch or at.offset <= top.offset)
            ):
                break
            newest_first.append(event)
        return newest_first[::-1]


class Channel:
    """A channel that somebody here subscribes to, or is about to.

    Invariants:
        * It lives as long as the broker's subscription of it.
        * ``position`` is that of the last event that was given to the members, or is being
          given to them now (``fan_out``).
        * A member is either in ``_alone``, with what serves it, or in one of ``_groups``.
        * While ``busy`` one task owns the delivery; who else has events puts them into ``held``.
    """

    __slots__ = (
        "_alone",
        "_dead",
        "_groups",
        "_snapshot",
        "busy",
        "confirmed",
        "early",
        "fan_out",
        "held",
        "hole",
        "idle",
        "joining",
        "name",
        "position",
        "stale",
        "starts",
        "waiting",
        "was_confirmed",
    )

    def __init__(self, name: str) -> None:
        self.name = name
        self.position: Position | None = None
        self._alone: dict[Subscriber, Target] = _NOBODY
        self._groups: dict[Group | None, dict[Subscriber, Any]] = _NO_GROUPS
        self.starts: dict[Subscriber, Position] = _NOBODY
        self.joining: dict[Subscriber, Gate] = _NOBODY
        self.waiting: dict[Subscriber, Join] = _NOBODY
        self.confirmed = False
        self.was_confirmed = False
        self.busy = False
        self.stale = False
        self.held = _EMPTY
        self.early = _EMPTY
        self.hole: tuple[Position | None, Position | None] | None = None
        self.idle: asyncio.Event | None = None  # set when it is busy no more
        self.fan_out: FanOut | None = None
        self._dead: tuple[str, ...] = ()
        self._snapshot: Snapshot | None = None

    def __repr__(self) -> str:
        return f"<Channel {self.name!r} at {self.position}, {len(self.members)} members>"

    @property
    def epoch(self) -> str:
        """The epoch of the record as far as this channel has come."""
        return (self.position or BEGINNING).epoch

    @property
    def members(self) -> Collection[Subscriber]:
        """Who gets what comes next."""
        if self._groups:
            return [*self._alone, *chain.from_iterable(self._groups.values())]
        return self._alone

    @property
    def is_wanted(self) -> bool:
        return bool(self._alone or self._groups or self.joining or self.waiting)

    def subscribers(self) -> Iterator[Subscriber]:
        """Give all who are in it or about to be."""
        yield from self.members
        yield from self.joining
        yield from self.waiting

    # -- members ---------------------------------------------------------------------------

    def expect(self, subscriber: Subscriber, join: Join) -> None:
        """Let ``subscriber`` in when the channel is confirmed, and tell the join."""
        if self.waiting:
            self.waiting[subscriber] = join
        else:
            self.waiting = {subscriber: join}

    def confirm(self) -> None:
        """Let those in who waited for the broker's word."""
        self.confirmed = self.was_confirmed = True
        waiting, self.waiting = self.waiting, _NOBODY
        for subscriber, join in waiting.items():
            if join.reads(self.name):
                self.joining = _put(self.joining, subscriber, Gate(MAX_HELD))
            else:
                self.admit(subscriber)
            join.confirm(self.name)

    def admit(self, subscriber: Subscriber, handed: Position | None = None) -> None:
        """Make ``subscriber`` a member, who gets what comes after the channel's position.

        Args:
            subscriber: The new member.
            handed: How far its consumer is, if behind the channel: the rest waits in its queue.
        """
        self.joining.pop(subscriber, None)
        subscriber.joined(self.name, self, handed or self.position)
        if self.position is not None:
            self.note_start(subscriber, self.position)
        self._enlist(subscriber)
        self._snapshot = None

    def note_start(self, subscriber: Subscriber, position: Position) -> None:
        """Note where in the channel what ``subscriber`` gets begins."""
        self.starts = _put(self.starts, subscriber, position)

    def dismiss(self, subscriber: Subscriber) -> None:
        if (join := self.waiting.pop(subscriber, None)) is not None:
            join.fail(SubscriberStateError(f"unsubscribed from {self.name!r} while joining it"))
        self.joining.pop(subscriber, None)
        self.starts.pop(subscriber, None)
        if self._delist(subscriber):
            self._changed(subscriber, None)

    def withhold(self, subscriber: Subscriber, max_held: int) -> Gate:
        """Turn a member into one that joins again, holding what waits for it of this channel."""
        gate = Gate(max_held)
        subscriber.position(self.name)  # written down now; later the gate has none
        held = subscriber.withdraw(self.name)
        if self.fan_out is not None and self.fan_out.is_ahead_of(subscriber):
            held = [*held, *self.fan_out.events]
        gate.see(held)
        self.dismiss(subscriber)
        self.joining = _put(self.joining, subscriber, gate)
        return gate

    def retarget(self, subscriber: Subscriber) -> None:
        if self._delist(subscriber):
            self._changed(subscriber, self._enlist(subscriber))

    def _enlist(self, subscriber: Subscriber) -> Target:
        target = subscriber.target()
        group, server = enlist(target)
        if group is None:
            self._alone = _put(self._alone, subscriber, server)
        elif group in self._groups:
            self._groups[group][subscriber] = server
        else:
            self._groups = {**self._groups, group: {subscriber: server}}
        return target

    def _delist(self, subscriber: Subscriber) -> bool:
        """Take a member out; tell whether it was one."""
        if self._alone.pop(subscriber, None) is not None:
            return True
        for group, part in self._groups.items():  # there are few
            if part.pop(subscriber, None) is not None:
                if not part:
                    del self._groups[group]
                return True
        return False

    def _changed(self, subscriber: Subscriber, target: Target | None) -> None:
        self._snapshot = None
        if self.fan_out is not None:
            self.fan_out.change(subscriber, target)

    def position_of(self, subscriber: Subscriber) -> Position | None:
        gate = self.joining.get(subscriber)
        if gate is not None:
            return gate.level
        if self.fan_out is not None and self.fan_out.is_ahead_of(subscriber):
            return self.fan_out.before
        return self.position

    # -- order -----------------------------------------------------------------------------

    def accept(self, events: Sequence[Event]) -> tuple[Sequence[Event], Sequence[Event]]:
        """Advance over ``events``: return what is next in order, and the rest behind a hole.

        What was seen already, and what is of an epoch that was left, is dropped.
        """
        position = self.position
        ready: list[Event] = []
        for index, event in enumerate(events):
            at = event.position
            if at is None:
                ready.append(event)
            elif position is None or follows(at, position):
                if position == BEGINNING and not self._is_alive(at):
                    continue
                ready.append(event)
                position = at
            elif at.offset > position.offset if at.epoch == position.epoch else self._is_alive(at):
                self.advance(position)
                return ready, events[index:]
        if position is not None:
            self.advance(position)
        return ready, ()

    def _is_alive(self, position: Position) -> bool:
        return position.epoch not in self._dead

    def advance(self, position: Position) -> None:
        """Go to ``position``; an epoch that is left for it is dead."""
        old = self.position
        if old is not None and old.epoch != position.epoch and old != BEGINNING:
            self.bury((old.epoch,))
            if position.epoch in self._dead:
                self._dead = tuple(epoch for epoch in self._dead if epoch != position.epoch)
        self.position = position

    def restart(self, top: Position) -> Position:
        """Return where a channel without a place goes on: before what it holds, else at ``top``."""
        for event in self.held:
            if (at := event.position) is not None and at.epoch == top.epoch:
                return min(before(at), top)
        return top

    def held_epochs(self) -> set[str]:
        return {event.position.epoch for event in self.held if event.position is not None}

    def bury(self, epochs: Iterable[str]) -> None:
        """Let what still comes of ``epochs`` be dropped."""
        dead = dict.fromkeys((*self._dead, *epochs))
        self._dead = tuple(dead)[-MAX_DEAD:]

    def is_behind(self, top: Position | None) -> bool:
        """Tell whether the broker's record has, or had, what was not delivered here."""
        position = self.position
        if position is None or top == position:
            return False
        if top is None:
            return position != BEGINNING
        return top.epoch != position.epoch or top.offset > position.offset

    def hold_early(self, events: Sequence[Event]) -> None:
        """Keep what a new connection brings before it is known that it lost nothing."""
        self.early = _add(self.early, events)
        if len(self.early) > MAX_HELD:
            self.early.clear()  # behind a gap, which is told

    def hold(self, events: Sequence[Event]) -> None:
        """Keep what arrives while somebody else delivers; too much of it is read again later."""
        self.held = _add(self.held, events)
        if len(self.held) > MAX_HELD and events[0].position is not None:
            self.held.clear()
            self.stale = True

    # -- delivery --------------------------------------------------------------------------

    def deliver(self, events: Sequence[Event], before: Position | None) -> FanOut | None:
        """Give ``events``, over which the position has advanced, to gates and members.

        Returns:
            What is still to be finished, where the members are too many for one go.
        """
        levelled = self._show_gates(events) if self.joining else ()
        snapshot = self._snapshot
        if snapshot is None:
            parts = {**self._groups, None: self._alone} if self._alone else self._groups
            snapshot = self._snapshot = Snapshot(parts)
        fan_out = FanOut(self.name, events, snapshot, before)
        for subscriber in levelled:
            self.admit(subscriber)
        self.fan_out = fan_out
        if fan_out.run():
            self.fan_out = None
        return self.fan_out

    def _show_gates(self, events: Sequence[Event]) -> list[Subscriber]:
        """Give joining subscribers their part; return whom these events have levelled."""
        levelled: list[Subscriber] = []
        for subscriber, gate in list(self.joining.items()):
            if gate.level is None:
                gate.see(events)
                continue
            newer = [event for event in events if is_newer(event, gate.level)]
            if newer:
                subscriber.deliver(self.name, newer)
            if newer or events[-1].position == gate.level:
                levelled.append(subscriber)
        return levelled

    def tell_gap(self) -> None:
        for subscriber in list(self.members):
            subscriber.tell_gap(self.name)
        for subscriber, gate in list(self.joining.items()):
            if gate.level is not None:
                subscriber.tell_gap(self.name)
            elif subscriber.tells_gaps:
                gate.held.append(Gap(channel=self.name))


def _put(table: dict[Subscriber, T], subscriber: Subscriber, value: T) -> dict[Subscriber, T]:
    """Return ``table`` with ``value`` in it; the one that all share stays empty."""
    if not table:
        return {subscriber: value}
    table[subscriber] = value
    return table


def _add(held: list[Event], events: Sequence[Event]) -> list[Event]:
    """Return ``held`` with ``events`` behind it; the list that all share stays empty."""
    if not held:
        return list(events)
    held += events
    return held
