"""WebSockets, event streams, and a handler of one's own, in FastAPI."""

from typing import Any

from fastapi import FastAPI, WebSocket
from starlette.routing import Route, WebSocketRoute

from channels.core import ChannelsPlugin
from channels.core.asgi import Gateway

channels = ChannelsPlugin("memory://?history=100", channels=["news", "chat"])
gateway = Gateway(channels, encoding="envelope", drain_on_signal=True)

app = FastAPI(
    lifespan=gateway.lifespan,
    routes=[
        Route("/events/{channel}", gateway.event_stream_endpoint(history=20)),
        WebSocketRoute("/ws/{channel}", gateway.websocket_endpoint(history=20)),
    ],
)


@app.post("/news")
async def publish(data: dict[str, Any]) -> dict[str, str]:
    return await channels.wait_published(data, "news")


@app.websocket("/chat")
async def chat(socket: WebSocket) -> None:
    session = await gateway.open_websocket(socket, "chat", history=20)
    if session is None:  # refused, and told why
        return
    async with session:
        async for message in session:
            if await session.may("publish", "chat"):
                channels.publish(message, "chat")
