"""litestar.channels: its generated handler, on uvicorn."""

from __future__ import annotations

from litestar import Litestar
from litestar.channels import ChannelsPlugin
from litestar.channels.backends.memory import MemoryChannelsBackend

from benchmarks.servers import harness


async def serve() -> None:
    plugin = ChannelsPlugin(
        MemoryChannelsBackend(), channels=["news"], create_ws_route_handlers=True
    )

    def publish(count: int) -> None:
        for _ in range(count):
            plugin.publish(harness.PAYLOAD, "news")

    await harness.serve_asgi(Litestar(plugins=[plugin]), "/news", publish)
