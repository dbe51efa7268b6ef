"""What a page of somebody's own would talk to: generated handlers, and the broker of the test."""

import os

from litestar import Litestar, MediaType, get

from channels.litestar import ChannelsPlugin

channels = ChannelsPlugin(
    os.environ["BROKER"],
    channels=["news"],
    create_ws_route_handlers=True,
    ws_handler_base_path="/ws",
    create_sse_route_handlers=True,
    encoding="envelope",
    retry=0.1,
)


@get("/", media_type=MediaType.HTML)
async def page() -> str:
    return "<!doctype html><title>Nothing yet</title>"


app = Litestar([page], plugins=[channels], logging_config=None, openapi_config=None)
