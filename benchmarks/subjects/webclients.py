"""Many WebSocket clients in one process: plain sockets, one epoll, counted bytes.

All events have one size, so a client's frames are its bytes divided by that; the first frame that
each client gets is taken apart and looked at.
"""

from __future__ import annotations

import select
import socket
import time
from collections.abc import Callable

TIMEOUT = 30.0
"""Seconds without a byte after which a run has failed."""

SOCKET_IO_CONNECT = bytes([0x81, 0x82, 0, 0, 0, 0]) + b"40"


class Clients:
    """Connected clients, each of which gets every event.

    Args:
        port: Where the server listens.
        path: What is asked for.
        count: How many.
    """

    def __init__(self, port: int, path: str, count: int) -> None:
        self._sockets = {}
        for _ in range(count):
            connected = connect(port, path)
            self._sockets[connected.fileno()] = connected
        self._received = dict.fromkeys(self._sockets, 0)
        self._poll = select.epoll()
        for descriptor in self._sockets:
            self._poll.register(descriptor, select.EPOLLIN)

    @property
    def count(self) -> int:
        return len(self._sockets)

    def check_first(self, payload: bytes) -> None:
        """Receive one event and look at it; its size is that of all.

        Raises:
            AssertionError: It is not a text frame with ``payload`` in it.
        """
        sizes = set()
        for connected in self._sockets.values():
            connected.settimeout(TIMEOUT)
            head, length = read_frame(connected)
            assert head == 0x81, f"frame begins with {head:#x}"
            assert payload in length, length[:100]
            sizes.add(len(length) + (4 if len(length) > 125 else 2))
            connected.setblocking(False)
        (self._size,) = sizes

    def receive(
        self, events: int, send: Callable[[int], None], burst: int, ahead: int
    ) -> list[float]:
        """Have events published and receive them.

        Args:
            events: How many in all.
            send: Has so many published.
            burst: How many at once.
            ahead: How many bursts are under way at the same time.

        Returns:
            For each delivery the seconds between the publishing and its arrival here.
        """
        size, sockets, received = self._size, self._sockets, self._received
        buffer = bytearray(1 << 16)
        begun: list[float] = []
        complete = [0] * events
        latencies: list[float] = []
        done = 0

        def publish() -> None:
            begun.extend([time.perf_counter()] * burst)
            send(burst)

        for descriptor in received:
            received[descriptor] = 0
        for _ in range(ahead):
            publish()
        while done < events:
            ready = self._poll.poll(TIMEOUT, len(sockets))
            if not ready:
                raise TimeoutError(f"{events - done} of {events} events have not reached everybody")
            for descriptor, _ in ready:
                before = received[descriptor]
                after = received[descriptor] = before + sockets[descriptor].recv_into(buffer)
                now = time.perf_counter()
                if after == before:
                    raise ConnectionError("the server closed a connection")
                for event in range(before // size, after // size):
                    latencies.append(now - begun[event])
                    complete[event] += 1
                    if complete[event] == len(sockets):
                        done += 1
                        if done % burst == 0 and len(begun) < events:
                            publish()
        return latencies

    def close(self) -> None:
        """Disconnect all of them."""
        self._poll.close()
        for connected in self._sockets.values():
            connected.close()


def connect(port: int, path: str) -> socket.socket:
    """Connect a socket and open a WebSocket over it."""
    connected = socket.create_connection(("127.0.0.1", port), timeout=TIMEOUT)
    connected.sendall(
        f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nUpgrade: websocket\r\n"
        "Connection: Upgrade\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
        "Sec-WebSocket-Version: 13\r\n\r\n".encode()
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
            raise ConnectionError("the server closed a connection")
        data += more
    return data
