"""Each server: delivery, clients that vanish, and SIGTERM."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx
import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed

from kit import eventually

from .process import Served, on_servers, serving

APP = "tests.servers.app:app"


@pytest.fixture(params=on_servers("uvicorn-sansio", "uvicorn-shared"))
async def served(request: pytest.FixtureRequest) -> AsyncIterator[Served]:
    async with serving(request.param, APP) as served:
        yield served


class EventSource:
    """What a browser's EventSource does with one response."""

    def __init__(self, lines: AsyncIterator[str]) -> None:
        self._lines = lines
        self.last_event_id: str | None = None
        self.retries: list[int] = []

    async def event(self) -> tuple[str, str]:
        """Return the next event's type and data."""
        kind, data = "message", []
        async with asyncio.timeout(5):
            async for line in self._lines:
                name, _, value = line.partition(":")
                value = value.removeprefix(" ")
                if name == "data":
                    data.append(value)
                elif name == "event":
                    kind = value
                elif name == "id":
                    self.last_event_id = value
                elif name == "retry":
                    self.retries.append(int(value))
                elif not line and data:
                    return kind, "\n".join(data)
        return "end", ""


@asynccontextmanager
async def event_source(
    served: Served, http: httpx.AsyncClient, last_event_id: str | None = None
) -> AsyncIterator[EventSource]:
    headers = {"accept": "text/event-stream"}
    if last_event_id is not None:
        headers["last-event-id"] = last_event_id
    async with http.stream("GET", f"{served.http}/events/news", headers=headers) as response:
        assert response.status_code == 200
        assert response.headers["content-type"].startswith("text/event-stream")
        yield EventSource(response.aiter_lines())


@pytest.fixture
async def http() -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(trust_env=False, timeout=10) as client:
        yield client


async def counts(served: Served, http: httpx.AsyncClient) -> list[int]:
    found: list[int] = (await http.get(f"{served.http}/counts")).json()
    return found


async def records(socket: Any, count: int) -> list[dict[str, Any]]:
    async with asyncio.timeout(5):
        return [json.loads(await socket.recv()) for _ in range(count)]


async def test_a_server_from_the_first_client_to_sigterm(
    served: Served, http: httpx.AsyncClient
) -> None:
    async def publish(number: int) -> None:
        assert (await http.post(f"{served.http}/news", json=number)).status_code == 200

    async with connect(f"{served.ws}/ws/news") as socket, event_source(served, http) as stream:
        assert (await records(socket, 1))[0]["type"] == "joined"
        assert (await stream.event())[0] == "joined"
        await publish(1)
        assert (await records(socket, 1))[0]["data"] == "1"
        assert json.loads((await stream.event())[1])["data"] == "1"

        # Who leaves while nothing happens is noticed at once, however it leaves.
        rude = await connect(f"{served.ws}/ws/news")
        polite = await connect(f"{served.ws}/ws/news")
        async with event_source(served, http) as closing:
            await closing.event()
            assert await counts(served, http) == [5, 5]
            await polite.close()
            rude.transport.abort()
        await eventually(lambda: _are(served, http, [2, 2]), "three clients to be gone", 2)

        # An EventSource goes on where it was.
        async with event_source(served, http, stream.last_event_id) as resumed:
            assert json.loads((await resumed.event())[1])["recovered"] is True
            await publish(2)
            assert json.loads((await resumed.event())[1])["data"] == "2"
        assert json.loads((await stream.event())[1])["data"] == "2"
        assert (await records(socket, 1))[0]["data"] == "2"

        async with connect(f"{served.ws}/ws/news") as other:
            await records(other, 3)
            served.terminate()
            assert await stream.event() == ("end", "")
            usual, last = stream.retries
            assert usual == 2000
            assert usual <= last <= 2 * usual, "told again, and not all the same"
            for client in (socket, other):
                with pytest.raises(ConnectionClosed):
                    await client.recv()
                assert client.close_code == 1012
                assert client.close_reason == "service restart"
    await served.ended()


async def _are(served: Served, http: httpx.AsyncClient, wanted: list[int]) -> bool:
    return await counts(served, http) == wanted


async def test_who_may_not_is_refused(served: Served, http: httpx.AsyncClient) -> None:
    response = await http.get(f"{served.http}/events/other")
    assert (response.status_code, response.json()["detail"]) == (404, "no such channel")
    with pytest.raises(Exception, match=r"HTTP 40[34]"):
        await connect(f"{served.ws}/ws/other")
    with pytest.raises(Exception, match="HTTP 403"):
        await connect(f"{served.ws}/ws/news", origin="https://evil.example")  # type: ignore[arg-type]
    assert await counts(served, http) == [0, 0]
