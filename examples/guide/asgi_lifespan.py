"""Server-sent events and WebSockets from a bare ASGI application, without a framework."""

from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from channels.core import ChannelsPlugin
from channels.core.asgi import Gateway

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

channels = ChannelsPlugin("memory://?history=100", channels=["news"])
gateway = Gateway(channels)
event_stream = gateway.event_stream_endpoint("news")
websocket = gateway.websocket_endpoint("news")


async def app(scope: Message, receive: Receive, send: Send) -> None:
    match scope["type"]:
        case "lifespan":
            await receive()
            async with gateway:
                await send({"type": "lifespan.startup.complete"})
                await receive()
            await send({"type": "lifespan.shutdown.complete"})
        case "http":
            await event_stream(scope, receive, send)
        case "websocket":
            await websocket(scope, receive, send)
