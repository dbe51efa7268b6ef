from __future__ import annotations

import asyncio
import itertools
import time
from contextlib import AsyncExitStack

import pytest

from channels.core import ChannelsPlugin
from channels.core.asgi import CloseCode, Gateway

from . import fake
from .fake import event_source, websocket


@pytest.fixture(autouse=True, params=[False, True], ids=["sent", "shared"])
def shares_frames(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fake, "shares_frames", request.param)


@pytest.fixture
async def plugin() -> ChannelsPlugin:
    return ChannelsPlugin("memory://", channels=["news"])


async def test_everybody_is_sent_what_waits_and_then_away(plugin: ChannelsPlugin) -> None:
    async with (
        Gateway(plugin) as gateway,
        websocket(gateway.websocket_endpoint()) as socket,
        event_source(gateway.event_stream_endpoint()) as stream,
    ):
        await socket.accepted()
        await stream.message()
        await stream.message()
        socket.taking.clear()
        stream.taking.clear()
        for text in ("one", "two"):
            await plugin.wait_published(text, "news")
            await asyncio.sleep(0)
        drain = asyncio.create_task(gateway.drain(5))
        await asyncio.sleep(0)
        socket.taking.set()
        stream.taking.set()
        assert [await socket.data(), await socket.data()] == ["one", "two"]
        assert await socket.closed() == CloseCode.RESTART
        body = (await stream.message())["body"] + (await stream.message())["body"]
        assert body == b"data: one\n\ndata: two\n\n"
        last = await stream.message()
        assert last["body"].startswith(b"retry: ")
        assert not last["more_body"]
        assert await drain == 0
        assert await gateway.drain() == 0, "it can be called again"


async def test_event_streams_come_back_spread_over_time(plugin: ChannelsPlugin) -> None:
    async with Gateway(plugin, retry=2) as gateway, AsyncExitStack() as stack:
        app = gateway.event_stream_endpoint()
        clients = [await stack.enter_async_context(event_source(app)) for _ in range(20)]
        for client in clients:
            await client.message()
            await client.message()
        await gateway.drain()
        retries = [int((await client.message())["body"].split()[1]) for client in clients]
        assert all(2000 <= retry <= 4000 for retry in retries)
        assert len(set(retries)) > 10


async def test_nobody_is_let_in_any_more(plugin: ChannelsPlugin) -> None:
    async with Gateway(plugin) as gateway:
        await gateway.drain()
        app = gateway.websocket_endpoint()
        async with websocket(app) as client:
            assert (await client.refused())[0] == 503
        async with websocket(app, can_deny=False) as client:
            assert await client.closed() == CloseCode.TRY_LATER
        stream = gateway.event_stream_endpoint()
        async with event_source(stream) as client:
            assert (await client.refused())[0] == 503
        async with event_source(stream, headers={"accept": "text/event-stream"}) as client:
            status, body = await client.refused()
            assert (status, body[:7]) == (200, b"retry: "), "an EventSource shall try again"
    async with gateway, websocket(app) as client:
        await client.accepted()


async def test_who_does_not_leave_is_cut_at_the_deadline(plugin: ChannelsPlugin) -> None:
    async with (
        Gateway(plugin) as gateway,
        websocket(gateway.websocket_endpoint()) as socket,
        event_source(gateway.event_stream_endpoint()) as stream,
    ):
        await socket.accepted()
        await stream.message()
        await stream.message()
        for client in (socket, stream):
            client.taking.clear()
        plugin.publish("x", "news")
        began = time.monotonic()
        assert await gateway.drain(0.2) == 2
        assert time.monotonic() - began < 1.0
        await socket.ended()
        await stream.ended()
        assert not gateway.connection_count


async def test_closings_are_spread(plugin: ChannelsPlugin) -> None:
    async with Gateway(plugin) as gateway, AsyncExitStack() as stack:
        app = gateway.websocket_endpoint()
        clients = [await stack.enter_async_context(websocket(app)) for _ in range(300)]
        for client in clients:
            await client.accepted()
        closed: list[float] = []

        async def note(index: int) -> None:
            assert await clients[index].closed() == CloseCode.RESTART
            closed.append(time.monotonic())

        async with asyncio.TaskGroup() as group:
            for index in range(300):
                group.create_task(note(index))
            group.create_task(gateway.drain(10))
        assert 0.1 < closed[-1] - closed[0] < 3
        gaps = sorted(late - early for early, late in itertools.pairwise(closed))
        assert gaps[-1] > 0.005, "in batches"


async def test_leaving_the_gateway_drains(plugin: ChannelsPlugin) -> None:
    async with AsyncExitStack() as stack:
        async with Gateway(plugin) as gateway:
            client = await stack.enter_async_context(websocket(gateway.websocket_endpoint()))
            await client.accepted()
        assert await client.closed() == CloseCode.RESTART
