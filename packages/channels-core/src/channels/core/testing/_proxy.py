"""A TCP proxy that breaks the network on command."""

import asyncio
import os
import socket
import struct
from collections import deque
from types import TracebackType
from typing import Final, Literal, Self, cast

Direction = Literal["to_server", "to_client"]

_BUFFER: Final = 64 * 1024
_RESET_ON_CLOSE: Final = struct.pack("hh" if os.name == "nt" else "ii", 1, 0)


class TcpProxy:
    """Stand between a client and a server and lose what a network can lose.

    ::

        async with TcpProxy("127.0.0.1", 6379) as proxy:
            backend = MyBackend(f"redis://127.0.0.1:{proxy.port}")
            ...
            proxy.refuse()
            proxy.cut()               # the broker is gone
            ...
            await proxy.accept()      # and back

    Bytes pass unchanged, so TLS and half-closed connections work through it. The commands are
    synchronous where they can be: two in a row act as one, with nothing passing in between. They
    hold for the connections that are open and for those to come. A proxy belongs to the event
    loop it was entered on.

    Args:
        host: Address of the real server. While it cannot be reached, clients are accepted
            and then reset.
        port: Its port.
        listen_port: Where to listen on the loopback interface; 0, the default, takes a free port.

    Attributes:
        latency: Seconds that everything is held back, each way; 0.0 by default. A change counts
            for what arrives from then on and never reorders.
        accepted: Connections accepted so far.
        bytes_to_server: Bytes passed on to the server so far.
        bytes_to_client: Bytes passed on to clients so far.
        bytes_swallowed: Bytes of replies that `swallow_replies` has lost so far.
    """

    def __init__(self, host: str, port: int, *, listen_port: int = 0) -> None:
        self.latency = 0.0
        self.accepted = 0
        self.bytes_to_server = 0
        self.bytes_to_client = 0
        self.bytes_swallowed = 0
        self._upstream = (host, port)
        self._port = listen_port
        self._claim: socket.socket | None = None
        self._server: asyncio.Server | None = None
        self._links: set[_Link] = set()
        self._empty = asyncio.Event()
        self._stalled: set[Direction] = set()
        self._swallowing = False

    @property
    def host(self) -> str:
        """The address that clients connect to."""
        return "127.0.0.1"

    @property
    def port(self) -> int:
        """The port that clients connect to; it stays the same while the proxy refuses."""
        return self._port

    @property
    def connections(self) -> int:
        """How many clients are connected now."""
        return sum(link.client.is_open for link in self._links)

    @property
    def is_accepting(self) -> bool:
        """Whether new connections are accepted; see `refuse`."""
        return self._server is not None

    async def __aenter__(self) -> Self:
        self._claim = _bind(self.host, self._port)
        self._port = cast(int, self._claim.getsockname()[1])
        try:
            await self.accept()
        except BaseException:
            self._claim.close()
            raise
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Stop listening, reset what is connected and wait until all of it is closed.

        That takes two rounds of the event loop: nothing is flushed or waited for.
        """
        self.refuse()
        self.cut()
        assert self._claim is not None
        self._claim.close()
        while self._links:
            self._empty.clear()
            await self._empty.wait()

    def cut(self) -> None:
        """Reset every connection on both sides; what is on its way is lost."""
        for link in self._links.copy():
            link.reset()

    def refuse(self) -> None:
        """Refuse new connections; those that are open stay."""
        if self._server is not None:
            self._server.close()
            self._server = None

    async def accept(self) -> None:
        """Accept new connections again, as it does from the start."""
        if self._server is None:
            listener = _bind(self.host, self._port)
            loop = asyncio.get_running_loop()
            self._server = await loop.create_server(lambda: _Link(self).client, sock=listener)

    def stall(self, direction: Direction | None = None) -> None:
        """Let nothing through and keep every connection open, like a cable that was pulled.

        Closing is not let through either. New connections are accepted, and stalled. What
        arrives meanwhile waits (in buffers of limited size) until `resume`.

        Args:
            direction: Stall only what goes this way, "to_server" or "to_client"; None, the
                default, is both.
        """
        self._stalled |= {direction} if direction else {"to_server", "to_client"}

    def swallow_replies(self) -> None:
        """Let requests through and lose what the server answers.

        The server does as it is told and the client cannot know. `cut` then makes the client
        notice, `resume` ends it.
        """
        self._swallowing = True

    def resume(self) -> None:
        """End `stall` and `swallow_replies`; what was stalled goes its way.

        A connection that lost replies is reset: its stream has a hole.
        """
        self._stalled.clear()
        self._swallowing = False
        for link in self._links.copy():
            if link.is_torn:
                link.reset()
            else:
                link.flush()

    def _opened(self, link: "_Link") -> None:
        self.accepted += 1
        self._links.add(link)

    def _closed(self, link: "_Link") -> None:
        self._links.discard(link)
        if not self._links:
            self._empty.set()

    def _forward(self, link: "_Link", direction: Direction, data: bytes) -> bool:
        """Count ``data`` and tell whether it is passed on."""
        if direction == "to_server":
            self.bytes_to_server += len(data)
        elif self._swallowing:
            self.bytes_swallowed += len(data)
            link.is_torn = True
            return False
        else:
            self.bytes_to_client += len(data)
        return True

    def _is_stalled(self, direction: Direction) -> bool:
        return direction in self._stalled


class _Link:
    """One client's connection and the one to the server that belongs to it."""

    def __init__(self, proxy: TcpProxy) -> None:
        self.proxy = proxy
        self.is_torn = False
        self._connecting: asyncio.Task[None] | None = None
        self.client = _End(self)
        self.server = _End(self)
        self._pipes = (
            _Pipe(self, "to_server", self.client, self.server),
            _Pipe(self, "to_client", self.server, self.client),
        )

    def client_connected(self) -> None:
        if not self.proxy.is_accepting:
            self.client.reset()  # was accepted just before `TcpProxy.refuse`
            return
        self.proxy._opened(self)
        self._connecting = asyncio.create_task(self._connect(), name="TcpProxy connects")
        self._connecting.add_done_callback(self._stop_connecting)

    async def _connect(self) -> None:
        loop = asyncio.get_running_loop()
        try:
            await loop.create_connection(lambda: self.server, *self.proxy._upstream)
        except OSError:
            self.client.reset()

    def _stop_connecting(self, _: asyncio.Task[None]) -> None:
        self._connecting = None
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

    def finish(self, end: "_End") -> None:
        """Say good-bye on ``end``, as its opposite has; both have: close."""
        if all(pipe.is_finished for pipe in self._pipes):
            self.client.close()
            self.server.close()
        else:
            end.write_end()

    def ended(self) -> None:
        """Leave the proxy when nothing of the link is left."""
        if not (self._connecting or self.client.is_open or self.server.is_open):
            self.proxy._closed(self)


class _Pipe:
    """One direction of a link: what arrived and has not been passed on.

    In the queue ``b""`` stands for the end of the stream and None for a reset.
    """

    def __init__(self, link: _Link, direction: Direction, source: "_End", target: "_End") -> None:
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
        due = asyncio.get_running_loop().time() + self._link.proxy.latency
        if self._queue:
            due = max(due, self._queue[-1][0])
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
            and not self._link.proxy._is_stalled(self._direction)
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
        elif self._link.proxy._forward(self._link, self._direction, data):
            self._target.write(data)

    def _cancel_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


class _End(asyncio.Protocol):
    """A link's connection to the client, or the one to the server."""

    incoming: _Pipe
    outgoing: _Pipe

    def __init__(self, link: _Link) -> None:
        self._link = link
        self._transport: asyncio.Transport | None = None
        self._is_reset = False
        self.is_open = False
        self.is_writable = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self.is_open = True
        self.is_writable = True
        if self is self._link.client:
            self._link.client_connected()
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
        if self._transport is None:
            return
        connection = self._transport.get_extra_info("socket")
        if not self._transport.is_closing():
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
        self._transport.abort()


def _bind(host: str, port: int) -> socket.socket:
    """Bind without listening.

    One such socket stays bound while the proxy refuses, so that the port remains ours: others
    are not given it, and a client that tries again and again is not given it as its own end,
    which would connect it to itself.
    """
    bound = socket.socket()
    try:
        if hasattr(socket, "SO_REUSEPORT"):
            bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.bind((host, port))
        bound.setblocking(False)
    except BaseException:
        bound.close()
        raise
    return bound
