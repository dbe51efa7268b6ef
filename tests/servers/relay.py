"""One of several processes behind one broker, for clients that resume."""

import os

from starlette.applications import Starlette
from starlette.routing import WebSocketRoute

from channels.core import ChannelsPlugin
from channels.core.asgi import Gateway

channels = ChannelsPlugin(os.environ["BROKER"], channels=["numbers"])
gateway = Gateway(channels, encoding="envelope", drain_on_signal=True)
app = Starlette(
    routes=[WebSocketRoute("/ws/{channel}", gateway.websocket_endpoint())],
    lifespan=gateway.lifespan,
)
