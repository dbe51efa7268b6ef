"""The ways of an event where the application's tasks run as soon as they are created."""

from __future__ import annotations

import asyncio
import logging

import pytest

from channels.core import ChannelsPlugin, Event
from channels.core.asgi import Gateway
from channels.core.asgi._codes import DRAINING, Refusal
from channels.core.asgi._connections import Connections
from kit import eventually

from .fake import event_source, websocket

pytestmark = pytest.mark.usefixtures("eager_tasks")


async def test_each_way_of_an_event(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING, logger="channels")
    plugin = ChannelsPlugin("memory://?history=100", channels=["news"])
    handled: list[Event] = []
    async with Gateway(plugin) as gateway:
        socket_app, stream_app = gateway.websocket_endpoint(), gateway.event_stream_endpoint()
        async with (
            plugin.start_subscription("news") as reading,
            plugin.start_subscription("news") as working,
            working.run_in_background(handled.append),
            websocket(socket_app) as slow,
            websocket(socket_app) as socket,
            event_source(stream_app) as source,
        ):
            for client in slow, socket:
                await client.accepted()
            await source.message()
            assert (await source.block())["event"] == "joined"
            first = asyncio.create_task(anext(reading.iter_events()))
            slow.taking.clear()
            plugin.publish("queued", "news")
            assert await first == b"queued"
            await asyncio.create_task(plugin.wait_published("waited", "news"))
            for text in "queued", "waited":
                assert await socket.data() == text
                assert (await source.block())["data"] == text
            await eventually(lambda: handled == [b"queued", b"waited"], "the worker")
            slow.taking.set()
            assert [await slow.data(), await slow.data()] == ["queued", "waited"]
            await plugin.stop()
            for client in slow, socket:
                assert await client.closed() == 1012
            assert await source.block() != {}
    assert [event async for event in reading.iter_events()] == [b"waited"]
    assert not caplog.records


class Leaving:
    """A client in whose place another one comes as it is dismissed."""

    def __init__(self, connections: Connections) -> None:
        self._connections = connections
        self.answer: Refusal | None = None

    def tick(self) -> None: ...

    async def dismiss(self, spread: float) -> None:
        self.answer = self._connections.enter(Leaving(self._connections))
        self._connections.leave(self)

    def abort(self) -> None: ...


async def test_nobody_is_let_in_from_the_first_moment_of_a_drain() -> None:
    connections = Connections(10, 15.0)
    client = Leaving(connections)
    connections.enter(client)
    assert await connections.drain(3.0) == 0
    assert client.answer is DRAINING
