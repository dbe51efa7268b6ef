"""The wire format: commands packed, replies parsed.

Our connections speak RESP2, whatever the client that lent its settings speaks: one dialect,
one parser, and on a connection that only listens nothing that RESP3 would make easier.
"""

from __future__ import annotations

from collections.abc import Sequence
from importlib import import_module
from typing import Final, Protocol


class ReplyError(Exception):
    """An error that the server replied with."""

    @property
    def code(self) -> str:
        """Its first word, such as ``NOSCRIPT``."""
        return str(self).partition(" ")[0]


class ProtocolError(Exception):
    """What arrived is not the Redis protocol."""


Reply = bytes | int | None | ReplyError | list["Reply"]

NOT_ENOUGH: Final = object()
"""What :meth:`Parser.gets` returns when the next reply is not there whole yet."""


class Parser(Protocol):
    """Turn the bytes of a connection into replies."""

    def feed(self, data: bytes, /) -> None:
        """Add what was received."""

    def gets(self) -> object:
        """Return the next reply or ``NOT_ENOUGH``; raise ``ProtocolError`` for nonsense."""


class PythonParser:
    """The parser for where hiredis is not installed.

    Splits what arrived into lines, all at once; a value that has line ends in it is joined again.
    """

    def __init__(self) -> None:
        self._pieces: list[bytes] = []
        self._missing = 0
        """How many bytes at least must come before there is more to read."""
        self._lines: list[bytes] = []
        self._at = 0
        self._tail = b""
        """What came after the last line end."""
        self._array: list[Reply] | None = None
        """The innermost array that is not there whole."""
        self._size = 0
        self._outer: list[tuple[list[Reply], int]] = []

    def feed(self, data: bytes, /) -> None:
        self._pieces.append(data)
        self._missing -= len(data)

    def gets(self) -> object:
        if self._pieces:
            if self._missing > 0:
                return NOT_ENOUGH
            self._split()
        lines, at, end = self._lines, self._at, len(self._lines)
        array, size = self._array, self._size
        value: Reply
        try:
            while at < end:
                line = lines[at]
                at += 1
                kind = line[0]
                if kind == _BULK:
                    length = _SIZES.get(line)
                    if length is None:
                        length = int(line[1:])
                    if at < end and len(lines[at]) == length:
                        value = lines[at]
                        at += 1
                    elif length < 0:
                        value = None
                    elif (used := self._measure(at, length)) > 0:
                        value = b"\r\n".join(lines[at : at + used])
                        at += used
                    else:
                        at -= 1
                        break
                elif kind == _ARRAY:
                    length = _SIZES.get(line)
                    if length is None:
                        length = int(line[1:])
                    if length > 0:
                        if array is not None:
                            self._outer.append((array, size))
                        array, size = [], length
                        continue
                    value = [] if length == 0 else None
                elif kind == _INTEGER:
                    value = int(line[1:])
                elif kind == _STATUS:
                    value = line[1:]
                elif kind == _ERROR:
                    value = ReplyError(line[1:].decode(errors="replace"))
                else:
                    raise ProtocolError(f"a reply cannot begin with {chr(kind)!r}")
                while array is not None:
                    array.append(value)
                    if len(array) < size:
                        break
                    value = array
                    array, size = self._outer.pop() if self._outer else (None, 0)
                else:
                    self._at, self._array = at, None
                    return value
        except (ValueError, IndexError):
            raise ProtocolError(f"{line!r:.40} is no reply") from None
        self._at, self._array, self._size = at, array, size
        return NOT_ENOUGH

    def _split(self) -> None:
        del self._lines[: self._at]
        self._at = self._missing = 0
        *lines, self._tail = b"".join((self._tail, *self._pieces)).split(b"\r\n")
        self._lines += lines
        self._pieces.clear()

    def _measure(self, at: int, length: int) -> int:
        """Return how many lines a value is that has line ends in it; 0: it is not there whole."""
        for used in range(1, len(self._lines) - at + 1):
            length -= len(self._lines[at + used - 1])
            if length == 0:
                return used
            length -= 2
            if length < 0:
                raise ProtocolError("a value is longer than was said")
        self._missing = length + 2 - len(self._tail)
        return 0


_BULK, _ARRAY, _INTEGER, _STATUS, _ERROR = b"$*:+-"
_SIZES = {kind + b"%d" % size: size for kind in (b"$", b"*") for size in range(-1, 200)}
"""What most values begin with; a look-up is cheaper than reading the number."""


def make_parser() -> Parser:
    """Return hiredis' parser where it is installed, else ours."""
    try:
        hiredis = import_module("hiredis")
    except ImportError:
        return PythonParser()
    parser: Parser = hiredis.Reader(
        protocolError=ProtocolError, replyError=ReplyError, notEnoughData=NOT_ENOUGH
    )
    return parser


def argument(value: bytes | str | int) -> bytes:
    """Pack one argument of a command."""
    data = value if isinstance(value, bytes) else str(value).encode()
    return b"$%d\r\n%b\r\n" % (len(data), data)


def command(*words: bytes | str | int) -> bytes:
    """Pack a whole command."""
    return b"*%d\r\n%b" % (len(words), b"".join(map(argument, words)))


def long_command(verb: bytes, words: Sequence[bytes]) -> bytes:
    """The same, of one verb and words that are many."""
    rest = b"".join([b"$%d\r\n%b\r\n" % (len(word), word) for word in words])
    return b"*%d\r\n%b%b" % (len(words) + 1, argument(verb), rest)
