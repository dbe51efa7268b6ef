"""Two processes behind one broker are restarted in turn while clients count."""

from __future__ import annotations

import asyncio
import json
import os
import random
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed, InvalidHandshake

from channels.core import AsyncPublisher
from kit import eventually
from kit.fixtures import PostgresSpace, RedisSpace

from .process import Served, serving

pytestmark = pytest.mark.extended


@pytest.fixture(params=["redis", "postgres"])
def broker(request: pytest.FixtureRequest) -> str:
    if request.param == "redis":
        space: RedisSpace = request.getfixturevalue("redis_space")
        stream = space.url.replace("redis://", "redis+stream://")
        return f"{stream}?history=5000&key_prefix={space.key_prefix}"
    database: PostgresSpace = request.getfixturevalue("postgres_space")
    url = database.url.replace("postgresql://", "postgresql+asyncpg://")
    return f"{url}?history=5000&create_schema=true"


class Counter:
    """A client that resumes, somewhere else if need be, and expects number after number."""

    def __init__(self, processes: list[Served]) -> None:
        self._processes = processes
        self._since: str | None = None
        self.last: int | None = None
        self.codes: list[int] = []
        self.unrecovered = 0

    async def count(self) -> None:
        while True:
            served = random.choice(self._processes)
            query = "" if self._since is None else f"?since={self._since}"
            try:
                async with connect(f"{served.ws}/ws/numbers{query}", proxy=None) as socket:
                    await self._read(socket)
            except ConnectionClosed as exc:
                self.codes.append(exc.rcvd.code if exc.rcvd else 1006)
            except (InvalidHandshake, OSError):
                await asyncio.sleep(random.uniform(0.02, 0.1))

    async def _read(self, socket: AsyncIterator[str | bytes]) -> None:
        async for message in socket:
            record = json.loads(message)
            match record["type"]:
                case "joined":
                    self.unrecovered += record["recovered"] is False
                    self._since = record["channels"]["numbers"]
                case "event":
                    number = int(record["data"])
                    assert self.last in (None, number - 1), (self.last, number)
                    self.last, self._since = number, record["id"]
                case other:
                    raise AssertionError(other)


@asynccontextmanager
async def counting(processes: list[Served], count: int) -> AsyncIterator[list[Counter]]:
    clients = [Counter(processes) for _ in range(count)]
    tasks = [asyncio.create_task(client.count()) for client in clients]
    try:
        yield clients
        assert [task.exception() for task in tasks if task.done()] == []
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)


@pytest.mark.parametrize("count", [40, pytest.param(200, marks=pytest.mark.faults)])
async def test_nothing_is_missed_and_nothing_comes_twice(broker: str, count: int) -> None:
    environment = {**os.environ, "BROKER": broker}
    published = 0
    enough = asyncio.Event()

    async def publish(publisher: AsyncPublisher) -> None:
        nonlocal published
        while not enough.is_set():  # one that is cancelled may have sent what it did not count
            await publisher.publish(str(published + 1), "numbers")
            published += 1
            await asyncio.sleep(0.01)

    async with AsyncExitStack() as stack, AsyncPublisher(broker) as publisher:

        async def start(index: int) -> Served:
            server = ("uvicorn-sansio", "uvicorn-shared")[index]
            context = serving(server, "tests.servers.relay:app", **environment)
            return await stack.enter_async_context(context)

        processes = [await start(0), await start(1)]
        async with counting(processes, count) as clients, asyncio.TaskGroup() as group:
            writer = group.create_task(publish(publisher))
            await eventually(lambda: all(c.last for c in clients), "all to count", 20)
            for index in range(2):
                old = processes[index]
                processes[index] = processes[1 - index]
                old.terminate()
                await old.ended()
                processes[index] = await start(index)
            enough.set()
            await writer
            await eventually(lambda: {c.last for c in clients} == {published}, "the last", 20)
            assert {code for client in clients for code in client.codes} == {1012}
            assert sum(client.unrecovered for client in clients) == 0
            assert sum(len(client.codes) for client in clients) >= count
