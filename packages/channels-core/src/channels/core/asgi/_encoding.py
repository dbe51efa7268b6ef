"""What a client sees of an event."""

from __future__ import annotations

import base64
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Generic, Literal, Protocol, TypeVar

import msgspec

from channels.core._errors import ConfigurationError
from channels.core._event import Event, Gap

Mode = Literal["text", "binary"]
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Joined:
    """What a client is told first.

    Args:
        channels: Each channel, and the id after which its events follow; None where
            the backend keeps no history.
        recovered: Whether what was missed since the id it came with is complete; None: it came
            with none.
        unrecovered: The channels of which events are missing for good.
    """

    channels: Mapping[str, str | None]
    recovered: bool | None = None
    unrecovered: frozenset[str] = frozenset()


class Encoding(Protocol):
    """How events become messages: text, or bytes for binary ones.

    Called once per event, not once per client.
    """

    def event(self, event: Event) -> str | bytes:
        """Return the message for an event."""
        ...

    def gap(self, gap: Gap) -> str | bytes | None:
        """Return the message that says that events are missing; None if there is no way to."""
        ...

    def joined(self, joined: Joined) -> str | bytes | None:
        """Return the first message to a client; None for none."""
        ...


class Raw(Encoding):
    """Payloads as they were published, nothing else: no ids, so a client cannot resume.

    Where events are lost a WebSocket is closed with 4410, as there is no other way to say it.

    Args:
        mode: ``"text"`` sends what is not UTF-8 as a binary message. Default ``"text"``.
    """

    def __init__(self, mode: Mode = "text") -> None:
        self._text = _is_text(mode)

    def event(self, event: Event) -> str | bytes:
        if not self._text:
            return event
        try:
            return event.text
        except UnicodeDecodeError:
            return event

    def gap(self, gap: Gap) -> None:
        return None

    def joined(self, joined: Joined) -> None:
        return None


class Envelope(Encoding):
    """JSON records that carry channel, id and data; they tell of gaps, and a client can resume.

    ``{"type": "joined", "channels": {"news": ID}, "recovered": null, "unrecovered": []}``
    comes first, ``{"type": "event", "channel": "news", "id": ID, "data": ...}`` for each event,
    and ``{"type": "gap", "channel": "news", "reason": "lost"}`` (or ``"dropped"``: by the
    client's full backlog) where events are missing.

    ``data`` is the payload itself where it is a JSON object or array, else a text. What is not
    UTF-8 is base64, and the record then has ``"encoding": "base64"``.

    Args:
        mode: Whether messages are text or binary ones. Default ``"text"``.
    """

    def __init__(self, mode: Mode = "text") -> None:
        self._text = _is_text(mode)

    def event(self, event: Event) -> str | bytes:
        record: dict[str, object] = {"type": "event", "channel": event.channel, "id": event.id}
        try:
            text = event.text
        except UnicodeDecodeError:
            record["data"] = base64.b64encode(event).decode()
            record["encoding"] = "base64"
        else:
            record["data"] = msgspec.Raw(event) if _is_document(event) else text
        return self._message(record)

    def gap(self, gap: Gap) -> str | bytes:
        return self._message(gap_record(gap))

    def joined(self, joined: Joined) -> str | bytes:
        return self._message(joined_record(joined))

    def _message(self, record: object) -> str | bytes:
        encoded = msgspec.json.encode(record)
        return encoded.decode() if self._text else encoded


def gap_record(gap: Gap) -> dict[str, object]:
    reason = "dropped" if gap.dropped else "lost"
    return {"type": "gap", "channel": gap.channel, "reason": reason}


def joined_record(joined: Joined) -> dict[str, object]:
    return {
        "type": "joined",
        "channels": dict(joined.channels),
        "recovered": joined.recovered,
        "unrecovered": sorted(joined.unrecovered),
    }


def _is_document(payload: bytes) -> bool:
    if not payload.lstrip(b" \t\r\n").startswith((b"{", b"[")):
        return False
    try:
        msgspec.json.decode(payload)
    except (msgspec.MsgspecError, RecursionError):
        return False
    return True


def _is_text(mode: str) -> bool:
    if mode not in ("text", "binary"):
        raise ConfigurationError(f"mode={mode!r}: use 'text' or 'binary'")
    return mode == "text"


class Once(Generic[T]):
    """Encode each event once, however many clients it goes to.

    Remembers the last few events, for those who lag.

    Args:
        encode: What to do once.
    """

    def __init__(self, encode: Callable[[Event], T]) -> None:
        self._encode = encode
        self._recent: OrderedDict[int, tuple[Event, T]] = OrderedDict()
        self._bytes = 0

    def __call__(self, event: Event) -> T:
        """Return the encoded event.

        Raises:
            Exception: Whatever the encoding raises.
        """
        known = self._recent.get(id(event))
        if known is not None:
            return known[1]
        encoded = self._encode(event)
        self._recent[id(event)] = event, encoded
        self._bytes += len(event)
        while len(self._recent) > MAX_RECENT or self._bytes > MAX_RECENT_BYTES:
            _, (oldest, _) = self._recent.popitem(last=False)
            self._bytes -= len(oldest)
        return encoded


class LastRun(Generic[T]):
    """Make something of a run of events once for all subscribers of a channel.

    They get the very same object, so that the last one is all there is to remember.

    Args:
        make: What to do once.
    """

    def __init__(self, make: Callable[[Sequence[Event]], T]) -> None:
        self._make = make
        self._last: tuple[Sequence[Event], T] | None = None

    def __call__(self, events: Sequence[Event]) -> T:
        """Return what was made of it."""
        last = self._last
        if last is None or last[0] is not events:
            last = self._last = events, self._make(events)
        return last[1]


MAX_RECENT = 256
"""Events that are remembered with what they were encoded to."""

MAX_RECENT_BYTES = 4 * 1024 * 1024
"""Bytes of payload that are remembered."""
