r"""The text that travels through NOTIFY, and the names that it travels under.

    frame = "\x01" "1" kind " " name " " tag [" " payload]

    kind      tag                            payload
    r         epoch-offset                   base64
    R         epoch-offset                   in the channel's record
    l         a text never used before       base64
    L         the same, key of a row         in that row

``name`` is the channel's name in base64, or ``-`` where it is the name that was notified. The
second character is the version. No two frames of a transaction are equal, since the server drops
repeats. Line breaks within base64 mean nothing. What does not begin with ``\x01`` is somebody's
own notification.
"""

from __future__ import annotations

import hashlib
from binascii import Error, a2b_base64, b2a_base64
from typing import NamedTuple

from channels.core._errors import InvalidPositionError
from channels.core._event import Event, Position

INLINE = 5_600
"""The largest payload in bytes that fits a notification of 7,999 beside the longest fields."""

MARK = "\x01"
VERSION = "1"


class Reference(NamedTuple):
    """An event whose payload must be read: from its record, or from the row ``key``."""

    channel: str
    position: Position | None
    key: str


class UnknownFrameError(ValueError):
    """A frame of a version that this release does not know, or a broken one."""


def notify_name(channel: str, utf8: bool) -> str:
    """Return the name to LISTEN to and to NOTIFY for a channel; ``notify_name`` in SQL is its twin.

    It is the channel's own, unless that is over 63 bytes or may not exist in the encoding of a
    database that is not ``utf8``. Channels' own names never begin with ``$``.
    """
    name = channel.encode()
    if len(name) <= 63 and (utf8 or channel.isascii()):
        return channel
    return "$" + hashlib.sha256(name).hexdigest()[:60]


def write(channel: str, listened: str, tag: str, data: bytes | None) -> str:
    """Return the frame of an event without history; ``data`` None where a row holds it."""
    name = "-" if listened == channel else _base64(channel.encode())
    if data is None:
        return f"{MARK}{VERSION}L {name} {tag}"
    return f"{MARK}{VERSION}l {name} {tag} {_base64(data)}"


def read(listened: str, payload: str) -> Event | Reference:
    """Return what a notification carries.

    Raises:
        UnknownFrameError: It is a frame, but not one of this version.
    """
    if not payload.startswith(MARK):
        return Event(payload.encode(), listened)
    if payload[1:2] != VERSION:
        raise UnknownFrameError(f"version {payload[1:2]!r}")
    try:
        kind, name, tag, *rest = payload[2:].split(" ")
        channel = listened if name == "-" else a2b_base64(name).decode()
        position = None if kind in "lL" else Position.parse(tag)
        if kind in "RL":
            return Reference(channel, position, tag)
        if kind in "rl":
            return Event(a2b_base64(rest[0]), channel, position)
    except (ValueError, IndexError, Error, InvalidPositionError) as exc:
        raise UnknownFrameError(f"broken: {exc}") from exc
    raise UnknownFrameError(f"kind {kind!r}")


def _base64(data: bytes) -> str:
    return b2a_base64(data, newline=False).decode("ascii")
