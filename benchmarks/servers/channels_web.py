"""Channels: the generated handler of channels-litestar, on stock uvicorn."""

from __future__ import annotations

from litestar import Litestar

from benchmarks.servers import harness
from channels.core import MemoryChannelsBackend
from channels.litestar import ChannelsPlugin


async def serve() -> None:
    plugin = ChannelsPlugin(
        MemoryChannelsBackend(), channels=["news"], create_ws_route_handlers=True
    )

    def publish(count: int) -> None:
        for _ in range(count):
            plugin.publish(harness.PAYLOAD, "news")

    await harness.serve_asgi(Litestar(plugins=[plugin]), "/news", publish)
