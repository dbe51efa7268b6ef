"""Events at speed, while clients leave, die, fail, talk, and do not read."""

from __future__ import annotations

import asyncio
import json
import socket
from contextlib import AsyncExitStack
from typing import Any

import httpx
import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

from kit import eventually

from .process import serving

# What is tried runs in processes of its own.
pytestmark = pytest.mark.extended

COUNT = 400


async def check(client: ClientConnection, echoes: int = 0) -> None:
    """Read numbers to the end, of each channel in order, and ``echoes`` of one's own messages."""
    next_number: dict[str, int] = {}
    while len(next_number) < 2 or set(next_number.values()) != {-1} or echoes:
        text = await client.recv()
        if text == "hello":
            echoes -= 1
            continue
        record = json.loads(text)
        if record["type"] == "joined":
            next_number = dict.fromkeys(record["channels"], 0)
            continue
        assert record["type"] == "event", record
        channel, data = record["channel"], record["data"]
        if data == "end":
            assert next_number[channel] == COUNT
            next_number[channel] = -1
        else:
            assert int(data) == next_number[channel]
            next_number[channel] += 1


async def talk(client: ClientConnection) -> None:
    reading = asyncio.create_task(check(client, echoes=20))
    for _ in range(20):
        await client.send("hello")
        await asyncio.sleep(0.01)
    await reading


async def leave(client: ClientConnection, after: int, how: str) -> None:
    for _ in range(after):
        await client.recv()
    if how == "closes":
        await client.close(4000)
    elif how == "dies":
        client.transport.abort()
    else:
        await client.send("fail")
        with pytest.raises(ConnectionClosed):
            while True:
                await client.recv()


@pytest.mark.parametrize(
    "server",
    [
        "uvicorn-sansio",
        "uvicorn-shared",
        pytest.param("uvicorn-wsproto-shared", marks=pytest.mark.extended),
        pytest.param("granian", marks=pytest.mark.extended),
    ],
)
async def test_all_that_stay_get_everything_in_order(server: str) -> None:
    async with (
        serving(server, "tests.servers.storm_app:app") as served,
        httpx.AsyncClient(base_url=served.http, trust_env=False, timeout=30) as http,
        AsyncExitStack() as stack,
    ):

        async def client(**options: Any) -> ClientConnection:
            options = {"compression": None, "close_timeout": 1, **options}
            return await stack.enter_async_context(connect(f"{served.ws}/ws", **options))

        async def narrow() -> ClientConnection:
            """Connect one for whom the network takes little."""
            sock = socket.socket()
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            sock.setblocking(False)
            await asyncio.get_running_loop().sock_connect(sock, ("127.0.0.1", served.port))
            return await client(sock=sock)

        async def are_left(count: int) -> bool:
            return (await http.get("/counts")).json() == [count, count]

        stays = [await client(compression="deflate" if n % 2 else None) for n in range(8)]
        talks = [await client() for _ in range(4)]
        slow = [await narrow() for _ in range(4)]
        async with asyncio.timeout(30), asyncio.TaskGroup() as group:
            for one in stays:
                group.create_task(check(one))
            for one in talks:
                group.create_task(talk(one))
            for number, how in enumerate(["closes", "dies", "fails"] * 4):
                leaving = await client(max_queue=None)
                group.create_task(leave(leaving, 20 * number, how))
            waited_for = (await http.post("/storm", params={"count": COUNT})).json()
            assert waited_for >= len(slow), "the backlog was not needed: nothing was shown"
            for one in slow:  # until now they have read nothing
                group.create_task(check(one))
        await eventually(lambda: are_left(16), "only those who stayed", 5)
        await stack.aclose()
        await eventually(lambda: are_left(0), "nobody", 5)
