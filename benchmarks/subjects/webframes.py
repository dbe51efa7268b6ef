"""One WebSocket connection as a plain socket: its handshake, its frames, and what is in them."""

from __future__ import annotations

import socket
import zlib

from benchmarks.servers.texts import text

TIMEOUT = 30.0
"""Seconds without a byte after which a run has failed."""
CLOSED = "the server closed a connection"
DEFLATE = (
    "Sec-WebSocket-Extensions: permessage-deflate; "
    "server_no_context_takeover; client_no_context_takeover\r\n"
)
SOCKET_IO_CONNECT = bytes([0x81, 0x82, 0, 0, 0, 0]) + b"40"


class Watch:
    """What one connection got, taken apart: the numbered texts, each once and in order.

    Args:
        size: Of each text.
        deflate: Whether frames are compressed.

    Attributes:
        events: How many texts have come.
        bytes: How many bytes have come.
    """

    def __init__(self, size: int, deflate: bool) -> None:
        self.events = 0
        self.bytes = 0
        self._size = size
        self._deflate = deflate
        self._data = bytearray()

    def feed(self, data: bytes | memoryview) -> int:
        """Look at what has come.

        Returns:
            How many texts it completed.

        Raises:
            AssertionError: A frame is not that of the next text.
        """
        self.bytes += len(data)
        self._data += data
        before = self.events
        while frame := first_frame(self._data):
            head, payload, length = frame
            del self._data[:length]
            self._check(head, payload)
            self.events += 1
        return self.events - before

    def _check(self, head: int, payload: bytes) -> None:
        expected = text(self.events, self._size)
        if head != (0xC1 if self._deflate else 0x81):
            raise AssertionError(f"a frame begins with {head:#x} where {expected[:20]!r} was due")
        if self._deflate:
            payload = zlib.decompress(payload + b"\0\0\xff\xff\3\0", wbits=-15)
        if expected.encode() not in payload:
            raise AssertionError(f"{payload[:40]!r} came where {expected[:20]!r} was due")


def first_frame(data: bytes | bytearray) -> tuple[int, bytes, int] | None:
    """Return the first byte, the payload and the length of a server's frame that begins ``data``.

    None if it has not come in full.
    """
    if len(data) < 2:
        return None
    start, length = 2, data[1]
    if length > 125:
        start = 4 if length == 126 else 10
        length = int.from_bytes(data[2:start], "big")
    end = start + length
    if len(data) < end:
        return None
    return data[0], bytes(data[start:end]), end


def connect(port: int, path: str, headers: str = "") -> socket.socket:
    """Connect a socket and open a WebSocket over it."""
    connected = socket.create_connection(("127.0.0.1", port), timeout=TIMEOUT)
    connected.sendall(
        f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nUpgrade: websocket\r\n"
        "Connection: Upgrade\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
        f"Sec-WebSocket-Version: 13\r\n{headers}\r\n".encode()
    )
    response = b""
    while not response.endswith(b"\r\n\r\n"):
        response += connected.recv(1) or b"\r\n\r\n"
    assert b" 101 " in response, response[:100]
    if "EIO=4" in path:
        read_frame(connected)
        connected.sendall(SOCKET_IO_CONNECT)
        read_frame(connected)
    return connected


def read_frame(connected: socket.socket) -> tuple[int, bytes]:
    """Read one short frame of a server: its first byte and its payload."""
    head, length = read(connected, 2)
    if length == 126:
        length = int.from_bytes(read(connected, 2), "big")
    return head, read(connected, length)


def read(connected: socket.socket, count: int) -> bytes:
    """Read so many bytes."""
    data = b""
    while len(data) < count:
        more = connected.recv(count - len(data))
        if not more:
            raise ConnectionError(CLOSED)
        data += more
    return data
