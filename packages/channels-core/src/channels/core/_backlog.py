"""The queue in front of one consumer, with its limits."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from itertools import takewhile
from typing import Final, Literal, get_args

from channels.core._errors import ConfigurationError
from channels.core._event import Event, Gap
from channels.core.options import check_count

_EMPTY: Final[list[Event]] = []  # for all heads that were never filled; nothing is added to it

BacklogStrategy = Literal["backoff", "dropleft", "disconnect"]
_STRATEGIES: Final[tuple[str, ...]] = get_args(BacklogStrategy)


class Backlog:
    """Events that wait, oldest first, under a limit and a strategy for when it is reached.

    The queue is two stacks: ``_head`` is reversed, ``_tail`` is as it came; both take the least
    memory when empty. What is in ``_front`` (reversed too) goes before both and does not count
    against the limits: a replay of history, and marks of what was evicted.

    One event is always taken, however large.
    """

    __slots__ = (
        "_bytes",
        "_front",
        "_head",
        "_max_backlog",
        "_max_bytes",
        "_missing",
        "_strategy",
        "_tail",
        "_tells_gaps",
        "dropped",
    )

    def __init__(
        self, max_backlog: int | None, strategy: BacklogStrategy, max_bytes: int | None
    ) -> None:
        check_backlog(max_backlog, strategy, max_bytes)
        self._max_backlog = max_backlog
        self._max_bytes = max_bytes
        self._strategy = strategy
        self._tells_gaps = False
        self._head: list[Event] = _EMPTY
        self._tail: list[Event] = []
        self._front: list[Event] | None = None
        self._bytes = 0
        self._missing: dict[str, None] | None = None
        self.dropped = 0

    @property
    def qsize(self) -> int:
        """How many events wait for the consumer."""
        return len(self._head) + len(self._tail) + len(self._front or ())

    def is_full(self, event: Event) -> bool:
        """Tell whether ``event`` would exceed the limits."""
        if self._max_backlog is not None and len(self._head) + len(self._tail) >= self._max_backlog:
            return True
        return (
            self._max_bytes is not None
            and self._bytes > 0
            and self._bytes + len(event) > self._max_bytes
        )

    def _offer(self, event: Event) -> bool:
        """Take ``event`` if the strategy allows; say whether it was taken."""
        if self.is_full(event):
            if self._strategy != "dropleft":
                if not isinstance(event, Gap):
                    self._drop(event)
                self._miss(event.channel)
                return False
            while self.is_full(event):
                self._evict()
        self._append(event)
        return True

    def _append(self, event: Event) -> None:
        if self._missing:
            self._mark_missing()
        self._tail.append(event)
        if self._max_bytes is not None:
            self._bytes += len(event)

    def _pop(self) -> Event:
        if self._front:
            event = self._front.pop()
            if not self._front:
                self._front = None
            return event
        if not self._head:
            self._tail.reverse()
            self._head, self._tail = self._tail, []
        event = self._head.pop()
        if self._max_bytes is not None:
            self._bytes -= len(event)
        return event

    def _waiting(self) -> list[Event]:
        """Return all that waits, and the marks of what was dropped behind it."""
        if self._missing:
            self._mark_missing()
        return [*reversed(self._front or ()), *reversed(self._head), *self._tail]

    def _discard(self) -> None:
        self._head, self._tail, self._front, self._bytes = _EMPTY, [], None, 0
        self._missing = None

    def _put_front(self, events: Iterable[Event]) -> None:
        """Put ``events`` before all that waits, past the limits."""
        self._front = [*(self._front or ()), *list(events)[::-1]] or None

    def _withdraw(self, channel: str) -> Sequence[Event]:
        """Take the events of ``channel`` out again, except those in front."""
        waiting = [*reversed(self._head), *self._tail]
        self._head = [event for event in reversed(waiting) if event.channel != channel]
        self._tail = []
        self._bytes = sum(map(len, self._head))
        withdrawn = [event for event in waiting if event.channel == channel]
        if self._missing is not None and channel in self._missing:
            del self._missing[channel]
            withdrawn.append(Gap(channel=channel, dropped=True))
        return withdrawn

    def _forget(self, channels: Collection[str]) -> None:
        """Drop all that waits of ``channels``."""
        if self._missing is not None:
            self._missing = {name: None for name in self._missing if name not in channels} or None
        front, head, tail = (
            [event for event in part or () if event.channel not in channels]
            for part in (self._front, self._head, self._tail)
        )
        self._front, self._head, self._tail = front or None, head, tail
        self._bytes = sum(map(len, head)) + sum(map(len, tail))

    def _evict(self) -> None:
        front, self._front = self._front, None
        evicted = self._pop()
        self._front = front
        if isinstance(evicted, Gap):
            gap = evicted
        else:
            self._drop(evicted)
            gap = Gap(channel=evicted.channel, dropped=True)
        if self._tells_gaps:
            # The marks are the last in front: what is before them came before what was evicted.
            marks = takewhile(lambda event: isinstance(event, Gap), front or ())
            if gap.channel not in {mark.channel for mark in marks}:
                self._front = [gap, *(front or ())]

    def _drop(self, event: Event) -> None:
        self.dropped += 1

    def _miss(self, channel: str) -> None:
        """Note that an event of ``channel`` is missing behind what waits."""
        if self._tells_gaps:
            self._missing = {**(self._missing or {}), channel: None}

    def _mark_missing(self) -> None:
        """Mark, behind what waits, the channels whose events were not taken since."""
        self._tail += [Gap(channel=channel, dropped=True) for channel in self._missing or ()]
        self._missing = None


def check_backlog(max_backlog: int | None, strategy: str, max_bytes: int | None = None) -> None:
    """Refuse limits that make no sense.

    Raises:
        ConfigurationError: Naming the one that is wrong.
    """
    if max_backlog is not None or max_bytes is not None:
        check_count(
            1,
            takes="at least 1, or None for no limit",
            or_none=True,
            max_backlog=max_backlog,
            max_backlog_bytes=max_bytes,
        )
    if strategy not in _STRATEGIES:
        raise ConfigurationError(
            f"backlog_strategy={strategy!r}: use one of {', '.join(_STRATEGIES)}"
        )
