"""The guide's applications, each served by uvicorn."""

import asyncio
import json
from collections.abc import Awaitable, Callable
from typing import Any

import httpx
import pytest
from websockets.asyncio.client import ClientConnection, connect

from examples.guide import outside, testing_an_app
from servers.process import serving


async def record(socket: ClientConnection) -> Any:
    async with asyncio.timeout(5):
        return json.loads(await socket.recv())


@pytest.mark.parametrize("name", ["starlette_app", "fastapi_app"])
async def test_the_same_pieces_serve_each_framework(name: str) -> None:
    async with (
        serving("uvicorn-sansio", f"examples.guide.{name}:app") as served,
        httpx.AsyncClient(trust_env=False) as http,
        connect(f"{served.ws}/ws/news") as news,
        connect(f"{served.ws}/chat") as chat,
        http.stream("GET", f"{served.http}/events/news") as response,
    ):
        assert (await record(news))["type"] == (await record(chat))["type"] == "joined"
        published = await http.post(f"{served.http}/news", json={"text": "hi"})
        ids = published.json()
        assert await record(news) == {
            "type": "event",
            "channel": "news",
            "id": ids["news"],
            "data": {"text": "hi"},
        }
        async for line in response.aiter_lines():
            if line == f"id: {ids['news']}":
                break
        await chat.send("hello")
        assert (await record(chat))["data"] == "hello"


async def test_a_handler_of_fastapi_returns_a_stream() -> None:
    async with (
        serving("uvicorn-sansio", "examples.guide.fastapi_app:app") as served,
        httpx.AsyncClient(base_url=served.http, trust_env=False) as http,
        http.stream("GET", "/rooms/front-page/events") as response,
    ):
        assert (await http.get("/rooms/cellar/events")).status_code == 404
        assert response.headers["content-type"] == "text/event-stream; charset=utf-8"
        lines = response.aiter_lines()
        assert await anext(line async for line in lines if line == "event: joined")
        ids = (await http.post("/news", json={"text": "hi"})).json()
        assert await anext(line async for line in lines if line == f"id: {ids['news']}")


async def test_the_chat_of_ones_own_handlers() -> None:
    app = "examples.guide.litestar_chat:app"
    async with (
        serving("uvicorn-sansio", app) as served,
        httpx.AsyncClient(trust_env=False) as http,
        connect(f"{served.ws}/chat?user=ann") as ann,
        connect(f"{served.ws}/chat?user=guest") as guest,
    ):
        assert (await record(ann))["type"] == (await record(guest))["type"] == "joined"
        await ann.send("hello")
        assert (await record(ann))["data"] == (await record(guest))["data"] == "hello"
        await guest.send("hello")
        assert (await record(guest))["type"] == "error"
        async with http.stream("GET", f"{served.http}/chat/events") as response:
            async for line in response.aiter_lines():
                if line.startswith("data: ") and '"hello"' in line:
                    break


async def test_publishing_from_outside() -> None:
    assert await asyncio.to_thread(outside.nightly, "memory://?history=1")
    await outside.import_rows("memory://", ["a", "b"])


@pytest.mark.parametrize(
    "example", [testing_an_app.test_an_order_is_published, testing_an_app.test_an_order_is_packed]
)
async def test_an_application_is_tested(example: Callable[[], Awaitable[None]]) -> None:
    await example()
