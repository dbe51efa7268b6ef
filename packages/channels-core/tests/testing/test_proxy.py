"""`TcpProxy` between a client and a server, both plain asyncio streams."""

import asyncio
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Literal

import pytest

from channels.core.testing import TcpProxy

Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]


class Upstream:
    """A server that keeps what it receives and answers with the same in upper case."""

    def __init__(self) -> None:
        self.port = 0
        self.received = bytearray()
        self.endings: list[BaseException | None] = []
        self.writers: list[asyncio.StreamWriter] = []
        self.changed = asyncio.Condition()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.writers.append(writer)
        ending: BaseException | None = None
        try:
            while data := await reader.read(65536):
                self.received += data
                writer.write(data.upper())
                async with self.changed:
                    self.changed.notify_all()
        except ConnectionError as error:
            ending = error
        async with self.changed:
            self.endings.append(ending)
            self.changed.notify_all()
        writer.close()

    async def until(self, condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(5), self.changed:
            await self.changed.wait_for(condition)


@pytest.fixture
async def upstream() -> AsyncIterator[Upstream]:
    upstream = Upstream()
    server = await asyncio.start_server(upstream.serve, "127.0.0.1", 0)
    upstream.port = server.sockets[0].getsockname()[1]
    yield upstream
    server.close()
    for writer in upstream.writers:
        writer.close()
    await upstream.until(lambda: len(upstream.endings) == len(upstream.writers))


@pytest.fixture
async def proxy(upstream: Upstream) -> AsyncIterator[TcpProxy]:
    async with TcpProxy("127.0.0.1", upstream.port) as proxy:
        yield proxy


@asynccontextmanager
async def connect(proxy: TcpProxy) -> AsyncIterator[Streams]:
    reader, writer = await asyncio.open_connection(proxy.host, proxy.port)
    try:
        yield reader, writer
    finally:
        writer.close()


async def read(reader: asyncio.StreamReader, size: int) -> bytes:
    async with asyncio.timeout(5):
        return await reader.readexactly(size)


async def nothing_arrives(reader: asyncio.StreamReader) -> bool:
    try:
        async with asyncio.timeout(0.05):
            return not await reader.read(1)
    except TimeoutError:
        return True


async def test_bytes_pass_unchanged_and_are_counted(proxy: TcpProxy, upstream: Upstream) -> None:
    data = bytes(range(256)) * 8000
    async with connect(proxy) as (reader, writer):
        writer.write(data)
        assert await read(reader, len(data)) == data.upper()
        assert proxy.connections == 1
    assert bytes(upstream.received) == data
    assert (proxy.bytes_to_server, proxy.bytes_to_client) == (len(data), len(data))
    assert proxy.accepted == 1


async def test_a_half_closed_connection_still_carries_the_answer(
    proxy: TcpProxy,
) -> None:
    async with connect(proxy) as (reader, writer):
        writer.write(b"last words")
        writer.write_eof()
        async with asyncio.timeout(5):
            assert await reader.read() == b"LAST WORDS"


async def test_cut_resets_both_sides(proxy: TcpProxy, upstream: Upstream) -> None:
    async with connect(proxy) as (reader, writer):
        writer.write(b"hello")
        await read(reader, 5)
        proxy.cut()
        with pytest.raises(ConnectionResetError):
            await read(reader, 1)
        await upstream.until(lambda: bool(upstream.endings))
        assert isinstance(upstream.endings[0], ConnectionResetError)
        assert proxy.connections == 0
    async with connect(proxy) as (reader, writer):
        writer.write(b"again")
        assert await read(reader, 5) == b"AGAIN"


async def test_cut_while_still_connecting(proxy: TcpProxy) -> None:
    client = socket.create_connection((proxy.host, proxy.port))
    with client:
        client.setblocking(False)
        while not proxy.accepted:  # to act in the very round of it
            await asyncio.sleep(0)
        proxy.cut()
        with pytest.raises(ConnectionResetError):
            async with asyncio.timeout(5):
                await asyncio.get_running_loop().sock_recv(client, 1)


@pytest.mark.parametrize("rounds", range(6))
async def test_no_connection_slips_through_refuse_and_cut(proxy: TcpProxy, rounds: int) -> None:
    with socket.create_connection((proxy.host, proxy.port)) as client:
        client.setblocking(False)
        for _ in range(rounds):
            await asyncio.sleep(0)
        proxy.refuse()
        proxy.cut()
        with pytest.raises(ConnectionResetError):
            async with asyncio.timeout(5):
                await asyncio.get_running_loop().sock_recv(client, 1)


async def test_refuse_keeps_the_open_connections(proxy: TcpProxy) -> None:
    async with connect(proxy) as (reader, writer):
        writer.write(b"a")
        await read(reader, 1)
        proxy.refuse()
        for _ in range(3):
            with pytest.raises(ConnectionRefusedError):
                await asyncio.open_connection(proxy.host, proxy.port)
        writer.write(b"b")
        assert await read(reader, 1) == b"B"
        port = proxy.port
        proxy.accept()
        assert proxy.port == port
        async with connect(proxy) as (second, second_writer):
            second_writer.write(b"c")
            assert await read(second, 1) == b"C"
            assert proxy.connections == 2


async def test_nobody_is_given_the_port_of_a_proxy_that_refuses(
    proxy: TcpProxy,
) -> None:
    proxy.refuse()
    with socket.socket() as other, pytest.raises(OSError, match="in use"):
        other.bind((proxy.host, proxy.port))


@pytest.mark.parametrize("direction", [None, "to_server"])
async def test_stall_towards_the_server_holds_requests(
    proxy: TcpProxy, upstream: Upstream, direction: Literal["to_server"] | None
) -> None:
    async with connect(proxy) as (reader, writer):
        writer.write(b"a")
        await read(reader, 1)
        proxy.stall(direction)
        writer.write(b"bc")
        writer.write_eof()
        assert await nothing_arrives(reader)
        assert upstream.received == b"a"
        assert proxy.connections == 1
        proxy.resume()
        assert await read(reader, 2) == b"BC"
        async with asyncio.timeout(5):
            assert await reader.read() == b""


async def test_stall_towards_the_client_holds_replies(proxy: TcpProxy, upstream: Upstream) -> None:
    async with connect(proxy) as (reader, writer):
        proxy.stall("to_client")
        writer.write(b"a")
        await upstream.until(lambda: upstream.received == b"a")
        assert await nothing_arrives(reader)
        proxy.resume()
        assert await read(reader, 1) == b"A"


async def test_a_connection_made_while_stalled_is_stalled(proxy: TcpProxy) -> None:
    proxy.stall()
    async with connect(proxy) as (reader, writer):
        writer.write(b"a")
        assert await nothing_arrives(reader)
        proxy.resume()
        assert await read(reader, 1) == b"A"


async def test_a_stalled_connection_takes_a_bounded_amount(proxy: TcpProxy) -> None:
    proxy.stall()
    async with connect(proxy) as (reader, writer):
        data = b"x" * 30_000_000
        writer.write(data)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.1):
                await writer.drain()
        proxy.resume()
        assert await read(reader, len(data)) == data.upper()


async def test_the_server_does_what_it_is_told_when_its_replies_are_swallowed(
    proxy: TcpProxy, upstream: Upstream
) -> None:
    async with connect(proxy) as (reader, writer):
        writer.write(b"a")
        await read(reader, 1)
        proxy.swallow_replies()
        writer.write(b"increment")
        await upstream.until(lambda: upstream.received == b"aincrement")
        assert await nothing_arrives(reader)
        assert proxy.bytes_swallowed == 9
        proxy.cut()
        proxy.resume()
        with pytest.raises(ConnectionResetError):
            await read(reader, 1)
    async with connect(proxy) as (reader, writer):
        writer.write(b"b")
        assert await read(reader, 1) == b"B"


async def test_resume_resets_a_connection_that_lost_replies(
    proxy: TcpProxy, upstream: Upstream
) -> None:
    async with (
        connect(proxy) as (lossy, writer),
        connect(proxy) as (whole, second_writer),
    ):
        second_writer.write(b"a")
        await read(whole, 1)
        proxy.swallow_replies()
        writer.write(b"b")
        await upstream.until(lambda: len(upstream.received) == 2)
        assert await nothing_arrives(lossy)
        proxy.resume()
        with pytest.raises(ConnectionResetError):
            await read(lossy, 1)
        second_writer.write(b"c")
        assert await read(whole, 1) == b"C"


async def test_latency_holds_back_each_way_and_keeps_the_order(proxy: TcpProxy) -> None:
    loop = asyncio.get_running_loop()
    async with connect(proxy) as (reader, writer):
        proxy.latency = 0.05
        start = loop.time()
        writer.write(b"a")
        await asyncio.sleep(0.01)
        proxy.latency = 0.0
        writer.write(b"b")
        assert await read(reader, 2) == b"AB"
        assert loop.time() - start >= 0.05


async def test_a_client_that_vanishes_is_reset_at_the_server(
    proxy: TcpProxy, upstream: Upstream
) -> None:
    async with connect(proxy) as (reader, writer):
        writer.write(b"a")
        await read(reader, 1)
        proxy.stall()
        connection = writer.get_extra_info("socket")
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        writer.transport.abort()
        assert await nothing_arrives(reader)
        assert upstream.endings == []
        proxy.resume()
        await upstream.until(lambda: bool(upstream.endings))
        assert isinstance(upstream.endings[0], ConnectionResetError)


async def test_a_client_is_reset_when_there_is_no_server() -> None:
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        async with (
            TcpProxy("127.0.0.1", bound.getsockname()[1]) as proxy,
            connect(proxy) as (reader, _),
        ):
            with pytest.raises(ConnectionResetError):
                await read(reader, 1)


async def test_leaving_does_not_wait_for_a_server_that_does_not_answer() -> None:
    loop = asyncio.get_running_loop()
    with socket.socket() as full:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        with socket.create_connection(full.getsockname()):  # its queue has room for no other
            async with TcpProxy(*full.getsockname()) as proxy:
                reader, writer = await asyncio.open_connection(proxy.host, proxy.port)
                assert await nothing_arrives(reader)
                start = loop.time()
            assert loop.time() - start < 0.5
            writer.close()


async def test_leaving_closes_everything_at_once(upstream: Upstream) -> None:
    loop = asyncio.get_running_loop()
    before = asyncio.all_tasks()
    async with TcpProxy("127.0.0.1", upstream.port) as proxy:
        reader, writer = await asyncio.open_connection(proxy.host, proxy.port)
        writer.write(b"a")
        await read(reader, 1)
        proxy.stall()
        proxy.latency = 60
        writer.write(b"x" * 1000)
        start = loop.time()
    assert proxy.connections == 0
    assert loop.time() - start < 0.5
    with pytest.raises(ConnectionResetError):
        await read(reader, 1)
    writer.close()
    with pytest.raises(ConnectionRefusedError):
        await asyncio.open_connection(proxy.host, proxy.port)
    await upstream.until(lambda: bool(upstream.endings))
    left = {task.get_coro() for task in asyncio.all_tasks() - before}
    assert all("Upstream" in repr(coroutine) for coroutine in left)


async def test_a_proxy_can_listen_on_a_given_port(upstream: Upstream) -> None:
    async with TcpProxy("127.0.0.1", upstream.port) as first:
        port = first.port
    async with TcpProxy("127.0.0.1", upstream.port, listen_port=port) as second:
        assert second.port == port
        async with connect(second) as (reader, writer):
            writer.write(b"a")
            assert await read(reader, 1) == b"A"
