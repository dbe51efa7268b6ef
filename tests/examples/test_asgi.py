"""Server-sent events from a bare ASGI application."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from channels.core import Event, Gap
from examples.guide.asgi_lifespan import Message, app, channels, frame

from .running import until


class Connection:
    """One call of the application: what the server tells it, and what it answers."""

    def __init__(self, scope: Message) -> None:
        self.told: asyncio.Queue[Message] = asyncio.Queue()
        self.answered: asyncio.Queue[Message] = asyncio.Queue()
        self.call = asyncio.create_task(app(scope, self.told.get, self.answered.put))

    def tell(self, kind: str) -> None:
        self.told.put_nowait({"type": kind})

    async def answer(self) -> Message:
        async with asyncio.timeout(5):
            return await self.answered.get()


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
async def client(last_event_id: str | None = None) -> AsyncIterator[Connection]:
    headers = [] if last_event_id is None else [(b"last-event-id", last_event_id.encode())]
    connection = Connection({"type": "http", "headers": headers})
    connection.tell("http.request")
    assert (await connection.answer())["status"] == 200
    yield connection
    connection.tell("http.disconnect")
    await connection.call


@pytest.mark.parametrize("time", ["first", "second"])
async def test_a_client_gets_what_is_published_and_resumes(time: str) -> None:
    async with lifespan():
        async with client() as browser:
            first = (await channels.wait_published("first", "news"))["news"]
            assert (await browser.answer())["body"] == f"id: {first}\ndata: first\n\n".encode()
        await until(lambda: not channels.subscriber_count("news"))
        second = (await channels.wait_published("second", "news"))["news"]
        async with client(first) as browser:
            assert (await browser.answer())["body"] == f"id: {second}\ndata: second\n\n".encode()
        async with client("another-7") as browser:
            assert (await browser.answer())["body"] == b"event: gap\ndata:\n\n"


async def test_a_bad_id_is_the_clients_fault() -> None:
    async with lifespan():
        connection = Connection({"type": "http", "headers": [(b"last-event-id", b"no id")]})
        assert (await connection.answer())["status"] == 400
        await connection.call
        assert channels.subscriber_count("news") == 0


def test_a_payload_of_several_lines_stays_one_event() -> None:
    assert frame(Event(b"a\nb")) == b"id: None\ndata: a\ndata: b\n\n"
    assert frame(Gap(channel="news")) == b"event: gap\ndata:\n\n"
