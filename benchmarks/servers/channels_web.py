"""Channels: the generated handler of channels-litestar, on stock uvicorn."""

from __future__ import annotations

from litestar import Litestar

from benchmarks.servers import harness
from benchmarks.servers.texts import Texts
from channels.core import MemoryChannelsBackend
from channels.litestar import ChannelsPlugin


async def serve(texts: Texts, **options: object) -> None:
    plugin = ChannelsPlugin(
        MemoryChannelsBackend(), channels=["news"], create_ws_route_handlers=True
    )

    def publish(count: int) -> None:
        for text in texts.take(count):
            plugin.publish(text, "news")

    await harness.serve_asgi(Litestar(plugins=[plugin]), "/news", publish, **options)
