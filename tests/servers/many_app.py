"""Ten thousand clients: ours, or Litestar's own channels to compare, by environment."""

import gc
import os
import sys
from typing import Any

from litestar import Litestar, get

from channels.litestar import ChannelsPlugin

channels: Any
if os.environ.get("RIVAL"):
    from litestar.channels import ChannelsPlugin as Rival
    from litestar.channels.backends.memory import MemoryChannelsBackend

    channels = Rival(
        backend=MemoryChannelsBackend(),
        channels=["news"],
        create_ws_route_handlers=True,
        ws_handler_base_path="/ws",
    )
else:
    channels = ChannelsPlugin(
        "memory://",
        channels=["news"],
        create_ws_route_handlers=True,
        ws_handler_base_path="/ws",
        drain_on_signal=True,
    )


@get("/memory")
async def memory() -> int:
    gc.collect()
    with open("/proc/self/statm") as file:  # noqa: ASYNC230, PTH123 (it is no real file)
        return int(file.read().split()[1]) * 4096


@get("/blocks")
async def blocks() -> int:
    gc.collect()
    return sys.getallocatedblocks()


@get("/counts")
async def counts() -> list[int]:
    return [channels.gateway.connection_count, channels.subscriber_count("news")]


@get("/publish")
async def publish() -> None:
    channels.publish("x" * 100, "news")


app = Litestar(
    [memory, blocks, counts, publish], plugins=[channels], logging_config=None, openapi_config=None
)
