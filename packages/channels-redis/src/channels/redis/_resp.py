"""The wire format: commands packed, replies parsed.

Our connections speak RESP2, whatever the client that lent its settings speaks: one dialect,
one parser, and on a connection that only listens nothing that RESP3 would make easier.
"""

from __future__ import annotations

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

    Never reads a byte twice, except the head of the element that is not there whole.
    """

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._at = 0
        self._open: list[tuple[list[Reply], int]] = []

    def feed(self, data: bytes, /) -> None:
        del self._buffer[: self._at]
        self._at = 0
        self._buffer += data

    def gets(self) -> object:
        buffer = self._buffer
        while True:
            end = buffer.find(b"\r\n", self._at)
            if end < 0:
                return NOT_ENOUGH
            kind, line, after = buffer[self._at], bytes(buffer[self._at + 1 : end]), end + 2
            value: Reply
            match chr(kind):
                case "$" if line == b"-1":
                    value = None
                case "$":
                    end = after + _number(line)
                    if len(buffer) < end + 2:
                        return NOT_ENOUGH
                    value, after = bytes(buffer[after:end]), end + 2
                case "*" if line == b"-1":
                    value = None
                case "*" if (size := _number(line)) > 0:
                    self._open.append(([], size))
                    self._at = after
                    continue
                case "*":
                    value = []
                case ":":
                    value = _number(line)
                case "+":
                    value = line
                case "-":
                    value = ReplyError(line.decode(errors="replace"))
                case _:
                    raise ProtocolError(f"a reply cannot begin with {chr(kind)!r}")
            self._at = after
            while self._open:
                items, size = self._open[-1]
                items.append(value)
                if len(items) < size:
                    break
                self._open.pop()
                value = items
            else:
                return value


def _number(line: bytes) -> int:
    try:
        return int(line)
    except ValueError:
        raise ProtocolError(f"{line!r:.40} is not a number") from None


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
