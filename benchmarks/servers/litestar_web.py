"""litestar.channels: its generated handler, on uvicorn."""

from __future__ import annotations

from litestar import Litestar
from litestar.channels import ChannelsPlugin
from litestar.channels.backends.memory import MemoryChannelsBackend

from benchmarks.servers import harness
from benchmarks.servers.texts import Texts


async def serve(texts: Texts) -> None:
    plugin = ChannelsPlugin(
        MemoryChannelsBackend(), channels=["news"], create_ws_route_handlers=True
    )

    def publish(count: int) -> None:
        for text in texts.take(count):
            plugin.publish(text, "news")

    await harness.serve_asgi(Litestar(plugins=[plugin]), "/news", publish)
