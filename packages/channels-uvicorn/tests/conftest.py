"""A real uvicorn in the test's own process, and a client that reads frames by hand."""

from __future__ import annotations

import asyncio
import importlib
import os
import socket
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Any

import pytest
import uvicorn

from channels.uvicorn import SansIOProtocol
from channels.uvicorn.wsproto import WSProtoProtocol

DEADLINE = 15.0
UPGRADE = (
    "GET /?{} HTTP/1.1\r\nHost: test\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nSec-WebSocket-Version: 13\r\n"
)
NAME = "channels.websocket.frames"


@dataclass
class Frame:
    """A frame from the server, as it stood on the wire."""

    opcode: int
    payload: bytes
    fin: bool
    compressed: bool


@dataclass
class Client:
    """A WebSocket client that knows the framing and nothing else."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    response: bytes = b""

    async def read(self) -> Frame:
        first, second = await self.reader.readexactly(2)
        assert not first & 0x30, "a reserved bit"
        assert not second & 0x80, "servers do not mask"
        size = second
        if size > 125:
            shortest = 126 if size == 126 else 0x10000
            size = int.from_bytes(await self.reader.readexactly(2 if size == 126 else 8))
            assert size >= shortest
        payload = await self.reader.readexactly(size)
        return Frame(first & 0x0F, payload, bool(first & 0x80), bool(first & 0x40))

    async def texts(self, count: int) -> list[str]:
        return [(await self.read()).payload.decode() for _ in range(count)]

    async def rest(self) -> list[Frame]:
        """Read all that comes before the end of the stream."""
        frames = []
        try:
            while True:
                frames.append(await self.read())
        except (asyncio.IncompleteReadError, ConnectionError):
            return frames

    def send(self, opcode: int, payload: bytes = b"", *, first: int = 0x80) -> None:
        size = len(payload)
        head = bytes((first | opcode, 0x80 | (min(126, size))))
        if size > 125:
            head += size.to_bytes(2)
        mask = os.urandom(4)
        self.writer.write(head + mask + bytes(b ^ mask[i % 4] for i, b in enumerate(payload)))

    def close(self) -> None:
        self.writer.transport.abort()


@dataclass
class Server:
    """Where a uvicorn listens."""

    port: int
    state: Any
    clients: list[Client]

    async def connect(
        self,
        extensions: str | None = None,
        tls: ssl.SSLContext | None = None,
        limit: int = 2**16,
        buffer: int | None = None,
        query: str = "",
    ) -> Client:
        sock = socket.create_connection(("127.0.0.1", self.port))
        if buffer is not None:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer)
        sock.setblocking(False)
        name = "localhost" if tls else None
        reader, writer = await asyncio.open_connection(
            sock=sock, ssl=tls, server_hostname=name, limit=limit
        )
        offer = f"Sec-WebSocket-Extensions: {extensions}\r\n" if extensions else ""
        writer.write(f"{UPGRADE.format(query)}{offer}\r\n".encode())
        client = Client(reader, writer)
        self.clients.append(client)
        client.response = await reader.readuntil(b"\r\n\r\n")
        return client


App = Callable[[Any, Any, Any], Coroutine[Any, Any, None]]


@asynccontextmanager
async def serving(app: App, ws: Any, **options: Any) -> AsyncIterator[Server]:
    config = uvicorn.Config(app, port=0, ws=ws, lifespan="off", log_config=None, **options)
    config.load()
    server = uvicorn.Server(config)
    server.lifespan = config.lifespan_class(config)
    clients: list[Client] = []
    # What Server.serve() does, without its signals and its ten looks per second.
    await server.startup()
    try:
        port = server.servers[0].sockets[0].getsockname()[1]
        yield Server(port, server.server_state, clients)
    finally:
        for client in clients:
            client.close()
        await until(lambda: not server.server_state.connections)
        await server.shutdown()


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(DEADLINE):
        while not condition():
            await asyncio.sleep(0.001)


def shared(handle: Callable[[Any, Any, Any], Awaitable[object]]) -> App:
    """Make an application that accepts, and hands the connection to ``handle``."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        assert (await receive())["type"] == "websocket.connect"
        offer = scope["extensions"][NAME]
        assert offer["version"] == 1
        await send({"type": "websocket.accept"})
        await handle(offer["connection"], receive, send)

    return app


async def left(receive: Any) -> Any:
    """Wait for the disconnect."""
    while (message := await receive())["type"] != "websocket.disconnect":
        pass
    return message


@dataclass
class Kit:
    """What tests share."""

    run: Callable[[Coroutine[Any, Any, None]], None]
    ws: Any
    serving = staticmethod(serving)
    shared = staticmethod(shared)
    until = staticmethod(until)
    left = staticmethod(left)


Factory = Callable[[], asyncio.AbstractEventLoop]


@pytest.fixture(scope="session")
def loops() -> dict[str, Factory]:
    """Return what makes event loops, after each was used: libuv keeps a pipe for all of its."""
    made: dict[str, Factory] = {"asyncio": asyncio.new_event_loop}
    with suppress(ImportError):
        made["uvloop"] = importlib.import_module("uvloop").new_event_loop
    for factory in made.values():
        with asyncio.Runner(loop_factory=factory) as runner:
            runner.run(asyncio.sleep(0))
    return made


@pytest.fixture(params=["asyncio", "uvloop"])
def run(
    loops: dict[str, Factory], request: pytest.FixtureRequest
) -> Callable[[Coroutine[Any, Any, None]], None]:
    """Return a function that runs a scenario in a loop of one kind."""
    if request.param not in loops:
        pytest.skip(f"{request.param} is not installed")

    def run(coroutine: Coroutine[Any, Any, None]) -> None:
        with asyncio.Runner(loop_factory=loops[request.param]) as runner:
            runner.run(asyncio.wait_for(coroutine, DEADLINE))

    return run


@pytest.fixture(params=[SansIOProtocol, WSProtoProtocol], ids=["sansio", "wsproto"])
def ws(request: pytest.FixtureRequest) -> Any:
    return request.param


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Leave two of the four ways to pair a loop and a protocol to the extended run."""
    for item in items:
        match getattr(item, "callspec", None):
            case object(params={"run": loop, "ws": protocol}):
                if (loop == "asyncio") != (protocol is SansIOProtocol):
                    item.add_marker(pytest.mark.extended)


@pytest.fixture
def kit(run: Callable[[Coroutine[Any, Any, None]], None], ws: Any) -> Kit:
    return Kit(run, ws)


@pytest.fixture
def kit_alone(ws: Any) -> Any:
    """Return what tests share that run in the loop of their own."""
    return Kit(lambda _: None, ws)
