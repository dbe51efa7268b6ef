"""Ten thousand idle clients on one process, a thousand of which are cut under traffic."""

from __future__ import annotations

import asyncio
import os
import resource
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import httpx
import pytest

from kit import eventually

from .process import Served, serving

HANDSHAKE = (
    b"GET /ws/news HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
)
BATCH = 100


class Client(asyncio.Protocol):
    """Opens a WebSocket, and throws away what it is sent."""

    transport: asyncio.Transport

    def __init__(self) -> None:
        self.accepted = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        transport.write(HANDSHAKE)

    def data_received(self, data: bytes) -> None:
        if not self.accepted.done():
            assert b" 101 " in data, data
            self.accepted.set_result(None)


@asynccontextmanager
async def many(served: Served, count: int) -> AsyncIterator[list[Client]]:
    loop = asyncio.get_running_loop()
    clients: list[Client] = []
    try:
        while len(clients) < count:
            opened = await asyncio.gather(
                *(
                    loop.create_connection(Client, "127.0.0.1", served.port)
                    for _ in range(min(BATCH, count - len(clients)))
                )
            )
            clients += [client for _, client in opened]
            await asyncio.gather(*(client.accepted for _, client in opened))
        yield clients
    finally:
        for client in clients:
            client.transport.abort()
        await asyncio.sleep(0)


async def memory(http: httpx.AsyncClient) -> int:
    return int((await http.get("/memory")).text)


async def bytes_per_client(count: int, rival: str) -> float:
    environment = {**os.environ, "RIVAL": rival}
    async with (
        serving("uvicorn-sansio", "tests.servers.many_app:app", **environment) as served,
        httpx.AsyncClient(base_url=served.http, trust_env=False, timeout=30) as http,
    ):
        async with many(served, BATCH):
            pass
        before = await memory(http)
        async with many(served, count):
            return (await memory(http) - before) / count


@pytest.mark.faults
async def test_ten_thousand_idle_clients_cost_less_than_litestars() -> None:
    count = 10_000
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard < count + 1000:
        pytest.skip("not enough file descriptors")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, count + 1000), hard))
    ours, theirs = await bytes_per_client(count, ""), await bytes_per_client(count, "1")
    assert ours < theirs, (ours, theirs)


@pytest.mark.faults
async def test_a_thousand_that_are_cut_are_gone_within_two_seconds() -> None:
    async with (
        serving("uvicorn-sansio", "tests.servers.many_app:app", **os.environ) as served,
        httpx.AsyncClient(base_url=served.http, trust_env=False, timeout=30) as http,
    ):

        async def publish() -> None:
            while True:
                await http.get("/publish")
                await asyncio.sleep(0.05)  # what two processes on a busy machine can keep up with

        async def are(count: int) -> bool:
            return (await http.get("/counts")).json() == [count, count]

        used: list[int] = []
        for _ in range(4):
            async with many(served, 2000) as clients:
                traffic = asyncio.create_task(publish())
                for client in clients[:1000]:
                    client.transport.abort()
                await eventually(lambda: are(1000), "a thousand to be gone", 2.0)
                traffic.cancel()
                await asyncio.wait([traffic])
            await eventually(lambda: are(0), "all to be gone", 10)
            used.append(int((await http.get("/blocks")).text))
        # In blocks of memory that Python has in use; a client has more than a hundred.
        assert used[3] - used[1] < 2000, used
