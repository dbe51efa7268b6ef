"""Events and their positions in a channel."""

from __future__ import annotations

import re
from functools import cached_property
from typing import Final, NamedTuple, Self

from channels.core._errors import InvalidPositionError

_ID = re.compile(r"([A-Za-z0-9_.~]{1,64})-(0|[1-9][0-9]{0,17})", re.ASCII)


class Position(NamedTuple):
    """Where an event stands in its channel's record.

    Offsets of one epoch are contiguous (1, 2, 3 ...), so that a reader proves loss and
    duplication by counting. The epoch is new whenever the broker's record of the channel
    starts afresh; offsets of different epochs cannot be compared.
    """

    epoch: str
    offset: int

    def __str__(self) -> str:
        return f"{self.epoch}-{self.offset}"

    @classmethod
    def parse(cls, text: str) -> Position:
        """Read the text form that :attr:`Event.id` gives.

        Raises:
            InvalidPositionError: ``text`` is something else.
        """
        match = _ID.fullmatch(text) if isinstance(text, str) else None
        if match is None:
            raise InvalidPositionError(text)
        return cls(match[1], int(match[2]))


BEGINNING: Final = Position("0", 0)
"""The position before the first event of a channel whose record is still empty."""


class Event(bytes):
    """One event: its payload as bytes, which also knows where it came from.

    Made once per event and shared by all subscribers of the process, so treat it as
    immutable. Equality and hash are the payload's: two events with the same bytes are
    equal, whatever their channels.

    Args:
        data: The payload.
        channel: The channel that the event was published to.
        position: Its place in the channel's record, where the backend keeps one.
    """

    channel: str
    position: Position | None

    def __new__(
        cls, data: bytes = b"", channel: str = "", position: Position | None = None
    ) -> Self:
        event = bytes.__new__(cls, data)
        event.channel = channel
        event.position = position
        return event

    @property
    def id(self) -> str | None:
        """An opaque text to resume after, or None where the backend keeps no history."""
        return None if self.position is None else str(self.position)

    @cached_property
    def text(self) -> str:
        """The payload as UTF-8 text, decoded once for all subscribers."""
        return bytes.decode(self)

    def decode(self, encoding: str = "utf-8", errors: str = "strict") -> str:
        """Decode the payload; plain UTF-8 is decoded once for all subscribers.

        Raises:
            UnicodeDecodeError: The payload is not text in ``encoding``.
        """
        if encoding == "utf-8" and errors == "strict":
            return self.text
        return super().decode(encoding, errors)

    def __repr__(self) -> str:
        place = "" if self.position is None else f", id={self.id!r}"
        return f"{type(self).__name__}({bytes(self)!r}, channel={self.channel!r}{place})"

    def __reduce__(self) -> tuple[object, ...]:
        return type(self), (bytes(self), self.channel, self.position)

    def __copy__(self) -> Event:
        return self

    def __deepcopy__(self, memo: object) -> Event:
        return self


class Gap(Event):
    """A marker in an event stream: events of :attr:`channel` are missing at this place.

    Has no payload and no id. Only subscribers that ask for it (``gaps=True``) get it.

    Args:
        data: Empty.
        channel: Whose events are missing.
        position: None.
        dropped: Whether the subscriber itself dropped them: its backlog was full, or its class's
            ``put_nowait`` failed. Default False: they were lost on the way from the broker.
    """

    dropped: bool

    def __new__(
        cls,
        data: bytes = b"",
        channel: str = "",
        position: Position | None = None,
        *,
        dropped: bool = False,
    ) -> Self:
        gap = super().__new__(cls, data, channel, position)
        gap.dropped = dropped
        return gap

    def __reduce__(self) -> tuple[object, ...]:
        return *super().__reduce__(), {"dropped": self.dropped}


def follows(event: Position, position: Position) -> bool:
    """Tell whether nothing can lie between ``position`` and ``event``."""
    return event.offset == position.offset + 1 and (
        event.epoch == position.epoch or position == BEGINNING
    )


def before(position: Position) -> Position:
    """Return the place just before ``position``."""
    return Position(position.epoch, position.offset - 1)


def is_newer(event: Event, position: Position) -> bool:
    """Tell whether ``event`` lies beyond ``position``, or in an epoch that came later."""
    at = event.position
    return at is None or at.epoch != position.epoch or at.offset > position.offset
