"""A bare ASGI application, called as a server calls it."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from examples.guide.asgi_lifespan import Message, app, channels

from .running import DEADLINE, until


class Connection:
    """One call of the application: what the server tells it, and what it answers."""

    def __init__(self, scope: Message) -> None:
        self.told: asyncio.Queue[Message] = asyncio.Queue()
        self.answered: asyncio.Queue[Message] = asyncio.Queue()
        self.received = ""
        self.call = asyncio.create_task(app(scope, self.told.get, self.answered.put))

    def tell(self, kind: str) -> None:
        self.told.put_nowait({"type": kind})

    async def answer(self) -> Message:
        async with asyncio.timeout(DEADLINE):
            return await self.answered.get()

    async def event(self) -> dict[str, str]:
        """Return the fields of the next server-sent event."""
        while True:
            block, end, rest = self.received.partition("\n\n")
            if not end:
                self.received += (await self.answer()).get("body", b"").decode()
                continue
            self.received = rest
            fields = dict(line.split(": ", 1) for line in block.split("\n") if ": " in line)
            if "data" in fields:
                return fields


@asynccontextmanager
async def lifespan() -> AsyncIterator[None]:
    server = Connection({"type": "lifespan"})
    server.tell("lifespan.startup")
    assert await server.answer() == {"type": "lifespan.startup.complete"}
    yield
    server.tell("lifespan.shutdown")
    assert await server.answer() == {"type": "lifespan.shutdown.complete"}
    await server.call


@asynccontextmanager
async def browser(last_event_id: str | None = None) -> AsyncIterator[Connection]:
    headers = [] if last_event_id is None else [(b"last-event-id", last_event_id.encode())]
    scope = {"type": "http", "method": "GET", "path": "/", "query_string": b"", "headers": headers}
    connection = Connection(scope)
    connection.tell("http.request")
    assert (await connection.answer())["status"] == 200
    yield connection
    connection.tell("http.disconnect")
    await connection.call


@pytest.mark.parametrize("time", ["first", "second"])
async def test_a_browser_gets_what_is_published_and_resumes(time: str) -> None:
    async with lifespan():
        async with browser() as window:
            assert (await window.event())["event"] == "joined"
            ids = await channels.wait_published("one", "news")
            assert await window.event() == {"id": ids["news"], "data": "one"}
        await until(lambda: not channels.subscriber_count("news"))
        missed = await channels.wait_published("two", "news")
        async with browser(ids["news"]) as window:
            assert json.loads((await window.event())["data"])["recovered"] is True
            assert await window.event() == {"id": missed["news"], "data": "two"}
        async with browser("another-7") as window:
            assert json.loads((await window.event())["data"])["recovered"] is False
            assert (await window.event())["event"] == "gap"
