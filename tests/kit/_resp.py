"""The few lines of a Redis client that the kit needs, so that it does not judge one by itself."""

import socket
from collections.abc import Iterable
from io import BufferedReader
from pathlib import Path

Reply = bytes | int | None | list["Reply"]


class ReplyError(Exception):
    """The server answered with an error."""


def ask(
    address: Path | tuple[str, int],
    commands: Iterable[tuple[object, ...]],
    timeout: float = 5.0,
) -> list[Reply]:
    """Send ``commands`` to a unix socket or a port in one go and return the replies.

    Raises:
        ReplyError: A reply was an error; those before it took effect.
        OSError: Nobody answers there.
    """
    batch = list(commands)
    family = socket.AF_UNIX if isinstance(address, Path) else socket.AF_INET
    with socket.socket(family) as connection:
        connection.settimeout(timeout)
        connection.connect(str(address) if isinstance(address, Path) else address)
        connection.sendall(b"".join(map(_encode, batch)))
        with connection.makefile("rb") as stream:
            return [_read(stream) for _ in batch]


def _encode(command: tuple[object, ...]) -> bytes:
    words = [word if isinstance(word, bytes) else str(word).encode() for word in command]
    return b"*%d\r\n" % len(words) + b"".join(b"$%d\r\n%b\r\n" % (len(w), w) for w in words)


def _read(stream: BufferedReader) -> Reply:
    line = stream.readline()
    if not line.endswith(b"\r\n"):
        raise ConnectionError("the server closed the connection")
    kind, rest = line[:1], line[1:-2]
    match kind:
        case b"+":
            return rest
        case b":":
            return int(rest)
        case b"$":
            return None if rest == b"-1" else stream.read(int(rest) + 2)[:-2]
        case b"*":
            return None if rest == b"-1" else [_read(stream) for _ in range(int(rest))]
        case b"-":
            raise ReplyError(rest.decode())
        case _:
            raise ConnectionError(f"not a Redis reply: {line!r}")
