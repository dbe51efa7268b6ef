"""Messages as the bytes that go over the wire, made once for all connections.

A server does not mask its frames, so that a message is the same bytes for everybody; a
compressed one is, too, as long as each message is compressed by itself.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence

UNCOMPRESSED = 0
"""In place of window bits: the connection negotiated no compression that can be shared."""

MIN_WINDOW_BITS = 9
"""The smallest window that zlib can compress for; the protocol allows 8."""

MIN_DEFLATE = 64
"""Bytes of payload below which compression is not tried."""

_TEXT, _BINARY = 0x81, 0x82
_COMPRESSED = 0x40
_SYNC_FLUSH_END = b"\x00\x00\xff\xff"


class Frames(dict[int, bytes]):
    """One or more messages, by the window bits they are compressed for; opaque to applications.

    What is not there yet is made when it is asked for.
    """

    __slots__ = ()


class Message(Frames):
    """One message as one frame."""

    __slots__ = ()

    def __init__(self, data: str | bytes) -> None:
        super().__init__()
        if isinstance(data, str):
            self[UNCOMPRESSED] = _frame(_TEXT, data.encode())
        else:
            self[UNCOMPRESSED] = _frame(_BINARY, data)

    def __missing__(self, window_bits: int) -> bytes:
        plain = self[UNCOMPRESSED]
        wire = self[window_bits] = _deflated(plain, window_bits)
        return wire


class Run(Frames):
    """Several messages in order, written as one."""

    __slots__ = ("_parts",)

    def __init__(self, parts: Sequence[Frames]) -> None:
        super().__init__()
        self._parts = tuple(parts)

    def __missing__(self, window_bits: int) -> bytes:
        wire = self[window_bits] = b"".join([part[window_bits] for part in self._parts])
        return wire


def encode(data: str | bytes) -> Frames:
    """Return a message, text or binary, for any connection of this process.

    Raises:
        UnicodeEncodeError: The text has lone surrogates, which UTF-8 cannot carry.
    """
    return Message(data)


def join(run: Sequence[Frames]) -> Frames:
    """Return several messages as one that is written at once.

    Raises:
        ValueError: There are none.
    """
    if not run:
        raise ValueError("no messages to join")
    return run[0] if len(run) == 1 else Run(run)


def _frame(first: int, payload: bytes) -> bytes:
    size = len(payload)
    if size < 126:
        header = bytes((first, size))
    elif size < 0x10000:
        header = bytes((first, 126)) + size.to_bytes(2)
    else:
        header = bytes((first, 127)) + size.to_bytes(8)
    return header + payload


def _payload(frame: bytes) -> memoryview:
    return memoryview(frame)[{126: 4, 127: 10}.get(frame[1], 2) :]


def _deflated(frame: bytes, window_bits: int) -> bytes:
    """Return ``frame`` compressed, or as it is where that gains nothing."""
    payload = _payload(frame)
    if len(payload) < MIN_DEFLATE:
        return frame
    compressor = zlib.compressobj(wbits=-window_bits)
    data = compressor.compress(payload) + compressor.flush(zlib.Z_SYNC_FLUSH)
    compressed = _frame(frame[0] | _COMPRESSED, data.removesuffix(_SYNC_FLUSH_END))
    return compressed if len(compressed) < len(frame) else frame
