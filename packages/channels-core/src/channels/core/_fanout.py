"""Giving one run of events to all members of a channel."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from itertools import islice
from operator import length_hint

from channels.core._event import Event, Position
from channels.core._subscriber import Subscriber

Target = Callable[[Sequence[Event]], bool]

CHUNK = 64
"""Members served before the first look at the clock."""

GROWTH = 3
"""How many times as many as were served so far are served before the next look."""

MAX_HOLD = 0.00025
"""Seconds after which a fan-out lets the event loop run, at the end of a chunk.

Members that cost about the same hold the loop for at most four times as long, 1 ms, or for one
first chunk.
"""


class Snapshot:
    """The members of a channel at one moment; shared by all runs until somebody comes or leaves."""

    __slots__ = ("_order", "members", "targets")

    def __init__(self, members: Mapping[Subscriber, Target]) -> None:
        self.members = list(members)
        self.targets = list(members.values())
        self._order: dict[Subscriber, int] | None = None

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

    __slots__ = ("_changed", "_channel", "_left", "_snapshot", "before", "events")

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
        if self._changed.get(subscriber, target) is not None or target is None:
            self._changed[subscriber] = target

    def run(self) -> bool:
        """Serve until everybody is served, or the time is up; say whether everybody is."""
        deadline = time.perf_counter() + MAX_HOLD
        begin = self._next
        while length_hint(self._left):
            self._serve(max(CHUNK, GROWTH * (self._next - begin)))
            if time.perf_counter() > deadline:
                break
        return not length_hint(self._left)

    async def finish(self) -> None:
        """Serve everybody; let the loop run whenever the time is up."""
        while not self.run():  # noqa: ASYNC110 - waits for nothing, lets others run
            await asyncio.sleep(0)

    def _serve(self, count: int) -> None:
        # The loop below runs once per delivery: the iterator itself knows who is being served.
        events = self.events
        end = min(self._next + count, len(self._snapshot.targets))
        while (start := self._next) < end:
            try:
                if self._changed:
                    self._serve_changed()
                    continue
                for deliver in islice(self._left, end - start):
                    if not deliver(events):
                        self._snapshot.members[self._next - 1].refused(self._channel, events)
                        break
            except (Exception, asyncio.CancelledError) as exc:
                self._snapshot.members[self._next - 1].failed(exc)

    def _serve_changed(self) -> None:
        """Serve one member, with a look at whether it left or is served otherwise by now."""
        deliver = next(self._left)
        subscriber = self._snapshot.members[self._next - 1]
        current = self._changed.get(subscriber, deliver)
        if current is not None and not current(self.events):
            subscriber.refused(self._channel, self.events)
