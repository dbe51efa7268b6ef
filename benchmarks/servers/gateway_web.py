"""Channels in plain ASGI, with the shared frames of channels-uvicorn: a gateway's own endpoint."""

from __future__ import annotations

from benchmarks.servers import harness
from benchmarks.servers.frames_web import WS
from benchmarks.servers.texts import Texts
from channels.core import ChannelsPlugin, MemoryChannelsBackend
from channels.core.asgi import Gateway


async def serve(texts: Texts) -> None:
    plugin = ChannelsPlugin(MemoryChannelsBackend(), channels=["news"])

    def publish(count: int) -> None:
        for text in texts.take(count):
            plugin.publish(text, "news")

    async with Gateway(plugin) as gateway:
        app = gateway.websocket_endpoint("news")
        await harness.serve_asgi(app, "/", publish, ws=WS, lifespan="off")
