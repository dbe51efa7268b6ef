"""Giving one run of events to all members of a channel."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence, Sized
from itertools import accumulate, chain, islice
from operator import length_hint
from types import MethodType
from typing import Any, Protocol, cast

from channels.core._event import Event, Position
from channels.core._subscriber import Subscriber

Target = Callable[[Sequence[Event]], bool]

CHUNK = 64
"""Members served before the first look at the clock."""

GROWTH = 15
"""How many times as many as were served so far are served at most before the next look."""

MAX_HOLD = 0.001
"""Seconds after which a fan-out lets the event loop run.

It is kept where members cost about the same, and a first chunk does not take longer.
"""


class Group(Protocol):
    """Sinks that make the same of what they are given."""

    def prepare(self, given: Any) -> Sized | None:
        """Return what may be written to all of them until the loop goes on; None: call them."""
        ...

    @property
    def write(self) -> Callable[[Any, Any], int]:
        """Write to a member what was prepared; return how much of it was written.

        Raises:
            OSError: Nothing of it was.
        """
        ...


class SharedSink(Protocol):
    """A sink that may be served as one of a group: without being called, in the same words.

    A sink with an attribute ``shared_group`` is one. It tells beforehand, with
    :meth:`Subscriber.busy`, when it takes nothing more, and with :meth:`Subscriber.regroup` when
    its group is another one.
    """

    @property
    def shared_group(self) -> Group | None:
        """The group; None: it has to be called."""
        ...

    @property
    def shared_writer(self) -> Any:
        """Where the group writes for this sink."""
        ...

    def finish(self, prepared: Any, written: int) -> object:
        """Take over where not all that was prepared could be written."""
        ...

    def __call__(self, events: Sequence[Event], /) -> bool: ...


def enlist(target: Target) -> tuple[Group | None, Any]:
    """Return the group that a sink is served with, if any, and what serves it there."""
    if type(target) is MethodType:  # most are a subscriber's own; it would take its time to say no
        return None, target
    group: Group | None = getattr(target, "shared_group", None)
    return group, target if group is None else cast("SharedSink", target).shared_writer


Parts = Mapping[Group | None, Mapping[Subscriber, Any]]
"""Members by the group that they are served with, and what serves them: see :func:`enlist`."""


class Snapshot:
    """The members of a channel at one moment; shared by all runs until somebody comes or leaves.

    Attributes:
        groups: Of each part, the group; None for the part of those who are served alone.
        stops: Where each part ends.
        members: Of all parts, one after the other.
        targets: What serves each of them.
    """

    __slots__ = ("_order", "groups", "members", "stops", "targets")

    def __init__(self, parts: Parts) -> None:
        self._order: dict[Subscriber, int] | None = None
        self.groups = list(parts)
        self.stops = list(accumulate(map(len, parts.values())))
        self.members = list(chain.from_iterable(parts.values()))
        self.targets = list(chain.from_iterable(part.values() for part in parts.values()))

    def index(self, subscriber: Subscriber) -> int:
        """Return the place of ``subscriber``, -1 if it is not in here."""
        if self._order is None:
            self._order = {member: index for index, member in enumerate(self.members)}
        return self._order.get(subscriber, -1)


class FanOut:
    """One run of a channel's events, on its way to those who were members when it began.

    Args:
        channel: The channel's name.
        events: What to deliver, in order.
        snapshot: To whom.
        before: The channel's position before this run, which holds for whom it has not reached.
    """

    __slots__ = (
        "_changed",
        "_channel",
        "_left",
        "_part",
        "_prepared",
        "_snapshot",
        "before",
        "events",
    )

    def __init__(
        self,
        channel: str,
        events: Sequence[Event],
        snapshot: Snapshot,
        before: Position | None,
    ) -> None:
        self.before = before
        self.events = events
        self._channel = channel
        self._snapshot = snapshot
        self._left = iter(snapshot.targets)
        self._changed: dict[Subscriber, Target | None] = {}
        self._part = 0
        self._prepared: Any = None

    @property
    def _next(self) -> int:
        return len(self._snapshot.targets) - length_hint(self._left)

    def is_ahead_of(self, subscriber: Subscriber) -> bool:
        """Tell whether ``subscriber`` is still to be given this run."""
        return (
            self._snapshot.index(subscriber) >= self._next
            and self._changed.get(subscriber, True) is not None
        )

    def change(self, subscriber: Subscriber, target: Target | None) -> None:
        """Serve ``subscriber`` through ``target`` when its turn comes; None: it has left.

        Who left and came back meanwhile came after this run.
        """
        served = self._next
        if served and self._snapshot.members[served - 1] is subscriber:
            return  # it was served just now, which is why it changes; nobody need look out for it
        if self._changed.get(subscriber, target) is not None or target is None:
            self._changed[subscriber] = target

    def run(self) -> bool:
        """Serve until everybody is served, or the time is up; say whether everybody is."""
        total = len(self._snapshot.targets)
        begin = start = self._next
        if begin == total:
            return True
        if self._part or self._snapshot.groups[0] is not None:
            self._prepare()
        started = time.perf_counter()
        count = CHUNK
        while count > 0:
            end = min(start + count, total)
            while start < end:
                self._serve(start, end)
                start = self._next
            if end == total:
                return True
            served, elapsed = start - begin, time.perf_counter() - started
            in_time = served * (MAX_HOLD / max(elapsed, 1e-9) - 1)  # at the pace so far
            count = int(min(GROWTH * served, in_time))
        return False

    async def finish(self) -> None:
        """Serve everybody; let the loop run whenever the time is up."""
        while not self.run():  # noqa: ASYNC110 - waits for nothing, lets others run
            await asyncio.sleep(0)

    def _serve(self, start: int, end: int) -> None:
        """Serve up to ``end``, or to the next who needs a second look."""
        snapshot = self._snapshot
        while start >= snapshot.stops[self._part]:
            self._part += 1
            self._prepare()
        count = min(end, snapshot.stops[self._part]) - start
        try:
            if self._changed:
                self._serve_changed()
            elif (group := snapshot.groups[self._part]) is None:
                self._serve_alone(count)
            elif self._prepared is not None:
                self._serve_group(group, count)
            else:
                self._serve_each(count)
        except (Exception, asyncio.CancelledError) as exc:
            snapshot.members[self._next - 1].failed(exc)
            self._prepared = None  # whoever is told may have sent something

    def _prepare(self) -> None:
        group = self._snapshot.groups[self._part]
        try:
            self._prepared = None if group is None else group.prepare(self.events)
        except Exception:  # each of the sinks will say so
            self._prepared = None

    # The loops below run once per delivery: the iterator itself knows who is being served.

    def _serve_alone(self, count: int) -> None:
        events = self.events
        for deliver in islice(self._left, count):
            if not deliver(events):
                self._snapshot.members[self._next - 1].refused(self._channel, events)
                break

    def _serve_group(self, group: Group, count: int) -> None:
        prepared = self._prepared
        size = written = len(prepared)
        write = group.write
        try:
            for writer in islice(self._left, count):
                written = write(writer, prepared)
                if written != size:
                    break
        except OSError:
            written = 0
        if written != size:
            sink = cast("SharedSink", self._snapshot.members[self._next - 1].target())
            sink.finish(prepared, written)

    def _serve_each(self, count: int) -> None:
        """Call the sinks of a group for which nothing could be prepared."""
        events, members = self.events, self._snapshot.members
        for index, _ in enumerate(islice(self._left, count), self._next):
            if not members[index].target()(events):
                members[index].refused(self._channel, events)
                break

    def _serve_changed(self) -> None:
        """Serve one member, with a look at whether it left or is served otherwise by now."""
        next(self._left)
        subscriber = self._snapshot.members[self._next - 1]
        current = self._changed.get(subscriber, subscriber.target())
        if current is not None and not current(self.events):
            subscriber.refused(self._channel, self.events)
