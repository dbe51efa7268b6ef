"""The connections through a `TcpProxy`, and the state of the network between their ends."""

import asyncio
import os
import socket
import struct
from collections import deque
from typing import Final, Literal, cast

Direction = Literal["to_server", "to_client"]

_BUFFER: Final = 64 * 1024
_RESET_ON_CLOSE: Final = struct.pack("hh" if os.name == "nt" else "ii", 1, 0)


class Network:
    """What holds for all links of one proxy: what passes, and how much has."""

    def __init__(self, host: str, port: int) -> None:
        self.upstream = (host, port)
        self.is_swallowing = False
        self.stalled: set[Direction] = set()
        self.latency = 0.0
        self.accepted = 0
        self.passed: dict[Direction, int] = {"to_server": 0, "to_client": 0}
        self.swallowed = 0
        self.links: set[Link] = set()
        self._empty = asyncio.Event()

    def opened(self, link: "Link") -> None:
        self.accepted += 1
        self.links.add(link)
        self._empty.clear()

    def closed(self, link: "Link") -> None:
        self.links.discard(link)
        if not self.links:
            self._empty.set()

    async def wait_empty(self) -> None:
        """Wait until no link is left."""
        if self.links:
            await self._empty.wait()


class Link:
    """One client's connection and the one to the server that belongs to it."""

    def __init__(self, network: Network, accepted: socket.socket) -> None:
        self.network = network
        self.is_torn = False
        self.client = End(self, accepted)
        self.server = End(self)
        self._pipes = (
            Pipe(self, "to_server", self.client, self.server),
            Pipe(self, "to_client", self.server, self.client),
        )
        network.opened(self)
        connecting = asyncio.create_task(self._connect(accepted), name="TcpProxy connects")
        connecting.add_done_callback(self._stop_connecting)
        self._connecting: asyncio.Task[None] | None = connecting

    async def _connect(self, accepted: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        try:
            await loop.connect_accepted_socket(lambda: self.client, accepted)
            await loop.create_connection(lambda: self.server, *self.network.upstream)
        except OSError:
            self.client.reset()

    def _stop_connecting(self, _: asyncio.Task[None]) -> None:
        self._connecting = None
        self.client.stop_connecting()
        self.ended()

    def flush(self) -> None:
        for pipe in self._pipes:
            pipe.flush()

    def reset(self) -> None:
        """Close both ends at once, with a reset instead of a good-bye."""
        for pipe in self._pipes:
            pipe.discard()
        if self._connecting is not None:
            self._connecting.cancel()
        self.client.reset()
        self.server.reset()

    def passes(self, direction: Direction, data: bytes) -> bool:
        """Count ``data`` and tell whether the network passes it on."""
        if direction == "to_client" and self.network.is_swallowing:
            self.network.swallowed += len(data)
            self.is_torn = True
            return False
        self.network.passed[direction] += len(data)
        return True

    def finish(self, end: "End") -> None:
        """Say good-bye on ``end``, as its opposite has; both have: close."""
        if all(pipe.is_finished for pipe in self._pipes):
            self.client.close()
            self.server.close()
        else:
            end.write_end()

    def ended(self) -> None:
        """Leave the proxy when nothing of the link is left."""
        if not (self._connecting or self.client.is_open or self.server.is_open):
            self.network.closed(self)


class Pipe:
    """One direction of a link: what arrived and has not been passed on.

    In the queue ``b""`` stands for the end of the stream and None for a reset.
    """

    def __init__(self, link: Link, direction: Direction, source: "End", target: "End") -> None:
        self._link = link
        self._direction: Direction = direction
        self._source = source
        self._target = target
        self._queue: deque[tuple[float, bytes | None]] = deque()
        self._size = 0
        self._timer: asyncio.TimerHandle | None = None
        self._is_discarded = False
        self.is_finished = False
        source.incoming = self
        target.outgoing = self

    def feed(self, data: bytes | None) -> None:
        if self._is_discarded:
            return
        due = asyncio.get_running_loop().time() + self._link.network.latency
        self._queue.append((due, data))
        self._size += len(data or b"")
        self.flush()

    def flush(self) -> None:
        """Pass on what is due, as far as the other side takes it."""
        loop = asyncio.get_running_loop()
        self._cancel_timer()
        while (
            self._queue
            and self._target.is_writable
            and self._direction not in self._link.network.stalled
        ):
            due, data = self._queue[0]
            if due > loop.time():
                self._timer = loop.call_at(due, self.flush)
                break
            self._queue.popleft()
            self._size -= len(data or b"")
            self._deliver(data)
        self._source.set_reading(self._size < _BUFFER)

    def discard(self) -> None:
        self._is_discarded = True
        self._queue.clear()
        self._size = 0
        self._cancel_timer()

    def _deliver(self, data: bytes | None) -> None:
        if data is None:
            self._link.reset()
        elif data == b"":
            self.is_finished = True
            self._link.finish(self._target)
        elif self._link.passes(self._direction, data):
            self._target.write(data)

    def _cancel_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


class End(asyncio.Protocol):
    """A link's connection to the client, or the one to the server."""

    incoming: Pipe
    outgoing: Pipe

    def __init__(self, link: Link, accepted: socket.socket | None = None) -> None:
        self._link = link
        self._accepted = accepted
        self._transport: asyncio.Transport | None = None
        self._is_reset = False
        self.is_open = accepted is not None
        self.is_writable = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self.is_open = True
        self.is_writable = True
        if self._is_reset:
            self.reset()
        self.outgoing.flush()

    def data_received(self, data: bytes) -> None:
        self.incoming.feed(data)

    def eof_received(self) -> bool:
        self.incoming.feed(b"")
        return True  # the other direction goes on

    def pause_writing(self) -> None:
        self.is_writable = False

    def resume_writing(self) -> None:
        self.is_writable = True
        self.outgoing.flush()

    def connection_lost(self, exc: Exception | None) -> None:
        self.is_open = False
        self.is_writable = False
        self.outgoing.discard()
        if exc is not None:
            self.incoming.feed(None)
        self._link.ended()

    def set_reading(self, wanted: bool) -> None:
        transport = self._transport
        if transport is None or transport.is_closing() or wanted == transport.is_reading():
            return
        if wanted:
            transport.resume_reading()
        else:
            transport.pause_reading()

    def write(self, data: bytes) -> None:
        if self._transport is not None and not self._transport.is_closing():
            self._transport.write(data)

    def write_end(self) -> None:
        if self._transport is not None and not self._transport.is_closing():
            self._transport.write_eof()

    def close(self) -> None:
        if self._transport is not None:
            self._transport.close()

    def reset(self) -> None:
        self._is_reset = True
        if self._transport is not None:
            if not self._transport.is_closing():
                connection = self._transport.get_extra_info("socket")
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
            self._transport.abort()
        elif self._accepted is not None and self._accepted.fileno() >= 0:
            self._accepted.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)

    def stop_connecting(self) -> None:
        """Close what was accepted and then never got a transport."""
        if self._transport is None and self._accepted is not None:
            self._accepted.close()
            self.is_open = False
