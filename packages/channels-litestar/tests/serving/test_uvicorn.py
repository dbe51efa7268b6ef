"""Clients that vanish, on each WebSocket implementation that uvicorn has."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
from litestar import Litestar
from websockets.asyncio.client import ClientConnection, connect

from channels.litestar import ChannelsPlugin
from kit import eventually

from .server import WEBSOCKETS, Server, serving

# From what uvicorn's first implementation uses of websockets.
pytestmark = pytest.mark.filterwarnings("ignore:remove second argument:DeprecationWarning")


@pytest.fixture
def plugin() -> ChannelsPlugin:
    return ChannelsPlugin(
        "memory://?history=10",
        channels=["news"],
        create_ws_route_handlers=True,
        create_sse_route_handlers=True,
        ws_handler_base_path="/ws",
    )


@pytest.fixture(params=WEBSOCKETS)
async def server(plugin: ChannelsPlugin, request: pytest.FixtureRequest) -> AsyncIterator[Server]:
    app = Litestar(plugins=[plugin], logging_config=None)
    async with serving(app, request.param) as server:
        yield server


def deliveries() -> list[str]:
    return [
        task.get_name()
        for task in asyncio.all_tasks()
        if task.get_name() in ("channels-websocket", "channels-event-stream")
    ]


async def none_left(plugin: ChannelsPlugin, seconds: float) -> None:
    await eventually(
        lambda: (
            not plugin.gateway.connection_count
            and not plugin.subscriber_count("news")
            and not deliveries()
        ),
        "everything of the clients to be gone",
        seconds,
    )


async def clients(server: Server, count: int) -> list[ClientConnection]:
    url = f"ws://127.0.0.1:{server.port}/ws/news"
    return list(await asyncio.gather(*(connect(url) for _ in range(count))))


async def test_clients_cut_under_traffic_leave_nothing(
    server: Server, plugin: ChannelsPlugin
) -> None:
    async def publish() -> None:
        while True:
            await plugin.wait_published(b"x" * 1000, "news")
            await asyncio.sleep(0)

    connected = await clients(server, 20)
    assert plugin.subscriber_count("news") == 20
    traffic = asyncio.create_task(publish())
    try:
        for client in connected:
            assert len(await client.recv()) == 1000
        for client in connected:
            client.transport.abort()
        await none_left(plugin, 2.0)
    finally:
        traffic.cancel()
        await asyncio.wait([traffic])


async def test_an_idle_client_that_leaves_is_noticed_at_once(
    server: Server, plugin: ChannelsPlugin
) -> None:
    rude, polite, stays = await clients(server, 3)
    rude.transport.abort()
    await eventually(lambda: plugin.subscriber_count("news") == 2, "one to be gone", 0.5)
    await polite.close()
    await eventually(lambda: plugin.subscriber_count("news") == 1, "two to be gone", 0.5)
    plugin.publish("hi", "news")
    assert await stays.recv() == "hi"
    await stays.close()
    await none_left(plugin, 0.5)


async def test_nothing_that_is_published_after_the_handshake_is_missed(
    server: Server, plugin: ChannelsPlugin
) -> None:
    for number in range(20):
        async with connect(f"ws://127.0.0.1:{server.port}/ws/news") as client:
            await plugin.wait_published(str(number), "news")
            assert await client.recv() == str(number)


async def test_stopping_closes_the_clients_that_are_there(plugin: ChannelsPlugin) -> None:
    app = Litestar(plugins=[plugin], logging_config=None)
    async with serving(app) as server:
        [client] = await clients(server, 1)
        server.should_exit = True
        await client.wait_closed()
        assert client.close_code == 1012
