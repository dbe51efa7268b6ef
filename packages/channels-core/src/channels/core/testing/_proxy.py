"""A TCP proxy that breaks the network on command."""

import asyncio
import socket
from types import TracebackType
from typing import Self, cast

from channels.core.testing._relay import Direction, Link, Network


class TcpProxy:
    """Stand between a client and a server and lose what a network can lose.

    ::

        async with TcpProxy("127.0.0.1", 6379) as proxy:
            backend = MyBackend(f"redis://127.0.0.1:{proxy.port}")
            ...
            proxy.refuse()
            proxy.cut()               # the broker is gone
            ...
            proxy.accept()            # and back

    Bytes pass unchanged, so TLS and half-closed connections work through it. Commands are not
    awaited: two in a row act as one, with nothing passing in between. They hold for the
    connections that are open and for those to come. A proxy belongs to the event loop it was
    entered on, which must have ``add_reader`` (Windows' proactor loop has not).

    Args:
        host: Address of the real server. While it cannot be reached, clients are accepted
            and then reset.
        port: Its port.
        listen_port: Where to listen on the loopback interface; 0, the default, takes a free port.
    """

    def __init__(self, host: str, port: int, *, listen_port: int = 0) -> None:
        self._network = Network(host, port)
        self._port = listen_port
        self._claim: socket.socket | None = None
        self._listener: socket.socket | None = None

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
        return sum(link.client.is_open for link in self._network.links)

    @property
    def accepted(self) -> int:
        """How many connections have been accepted so far."""
        return self._network.accepted

    @property
    def bytes_to_server(self) -> int:
        """How many bytes have been passed on to the server so far."""
        return self._network.passed["to_server"]

    @property
    def bytes_to_client(self) -> int:
        """How many bytes have been passed on to clients so far."""
        return self._network.passed["to_client"]

    @property
    def bytes_swallowed(self) -> int:
        """How many bytes of replies `swallow_replies` has lost so far."""
        return self._network.swallowed

    @property
    def latency(self) -> float:
        """Seconds that everything is held back, each way; 0.0 by default.

        A change counts for what arrives from then on and never reorders.
        """
        return self._network.latency

    @latency.setter
    def latency(self, seconds: float) -> None:
        self._network.latency = seconds

    async def __aenter__(self) -> Self:
        self._claim = _bind(self.host, self._port)
        self._port = cast(int, self._claim.getsockname()[1])
        try:
            self.accept()
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
        await self._network.wait_empty()

    def cut(self) -> None:
        """Reset every connection on both sides; what is on its way is lost."""
        for link in self._network.links.copy():
            link.reset()

    def refuse(self) -> None:
        """Refuse new connections; those that are open stay."""
        if self._listener is not None:
            asyncio.get_running_loop().remove_reader(self._listener)
            self._listener.close()
            self._listener = None

    def accept(self) -> None:
        """Accept new connections again, as it does from the start."""
        if self._listener is None:
            # Not asyncio's server: what it has accepted and not yet announced slips through `cut`.
            self._listener = _bind(self.host, self._port)
            self._listener.listen()
            loop = asyncio.get_running_loop()
            loop.add_reader(self._listener, self._answer, self._listener)

    def stall(self, direction: Direction | None = None) -> None:
        """Let nothing through and keep every connection open, like a cable that was pulled.

        Closing is not let through either. New connections are accepted, and stalled. What
        arrives meanwhile waits (in buffers of limited size) until `resume`.

        Args:
            direction: Stall only what goes this way, "to_server" or "to_client"; None, the
                default, is both.
        """
        self._network.stalled |= {direction} if direction else {"to_server", "to_client"}

    def swallow_replies(self) -> None:
        """Let requests through and lose what the server answers.

        The server does as it is told and the client cannot know. `cut` then makes the client
        notice, `resume` ends it.
        """
        self._network.is_swallowing = True

    def resume(self) -> None:
        """End `stall` and `swallow_replies`; what was stalled goes its way.

        A connection that lost replies is reset: its stream has a hole.
        """
        self._network.stalled.clear()
        self._network.is_swallowing = False
        for link in self._network.links.copy():
            if link.is_torn:
                link.reset()
            else:
                link.flush()

    def _answer(self, listener: socket.socket) -> None:
        try:
            client, _ = listener.accept()
        except (BlockingIOError, ConnectionAbortedError):
            return  # it changed its mind
        client.setblocking(False)
        Link(self._network, client)


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
