"""A client that tries everything, beside one that behaves."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import suppress

import httpx
import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidHandshake

from kit import eventually

from .process import Served, on_servers, serving

# What is tried runs in processes of its own.
pytestmark = pytest.mark.extended


@pytest.fixture(params=on_servers("uvicorn-sansio", "uvicorn-shared"))
async def served(request: pytest.FixtureRequest) -> AsyncIterator[Served]:
    async with serving(request.param, "tests.servers.app:app") as served:
        yield served


async def code_after(socket: ClientConnection) -> int | None:
    with suppress(ConnectionClosed):
        async with asyncio.timeout(5):
            while True:
                await socket.recv()
    return socket.close_code


async def test_it_is_refused_and_nobody_else_is_harmed(
    served: Served, request: pytest.FixtureRequest
) -> None:
    url = f"{served.ws}/ws/news"
    async with (
        httpx.AsyncClient(base_url=served.http, trust_env=False) as http,
        connect(url) as good,
    ):
        assert json.loads(await good.recv())["type"] == "joined"

        # Huge messages, and more of them than anybody needs.
        async with connect(url, max_size=None) as socket:
            await socket.send("x" * 100_000)
            assert await code_after(socket) == 1009
        async with connect(f"{served.ws}/chat") as socket:
            with suppress(ConnectionClosed):
                for _ in range(100):
                    await socket.send("flood")
            # granian shuts its side right after the close frame. What the client still sends is
            # answered with a reset, its next write fails, and asyncio then drops the connection
            # with the frame that waits to be read.
            resets = {1006} if "granian" in request.node.name else set()
            assert await code_after(socket) in {4429} | resets

        # Names that are not there, thousands of them and odd ones.
        names = [*(f"name-{n}" for n in range(300)), "%00", "%24x", "x" * 5000, "%ff", "*"]
        for name in names:
            response = await http.get(f"/events/{name}")
            assert response.status_code == 404, name
        for name in names[-8:]:
            with pytest.raises((InvalidHandshake, EOFError)):
                await connect(f"{served.ws}/ws/{name}")

        # Pages of others, and ids that are none.
        for query, headers in (("", {"Origin": "null"}), ("?since=1;drop", {})):
            with pytest.raises(InvalidHandshake):
                await connect(url + query, additional_headers=headers)

        # Sockets that are half open: a handshake that does not end, a request that nobody reads.
        halves = [await asyncio.open_connection("127.0.0.1", served.port) for _ in range(20)]
        for index, (_, writer) in enumerate(halves):
            whole = index % 2
            line = b"GET /events/news HTTP/1.1\r\nHost: x\r\n" + (b"\r\n" if whole else b"")
            writer.write(line)
            await writer.drain()

        await http.post("/news", json={"n": 1})
        async with asyncio.timeout(5):
            assert json.loads(await good.recv())["data"] == {"n": 1}
        for _, writer in halves:
            writer.transport.abort()

        async def only_one_left() -> bool:
            return (await http.get("/counts")).json() == [1, 1]

        await eventually(only_one_left, "only the good client to be left", 5)
