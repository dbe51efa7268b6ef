"""WebSockets, event streams, and a handler of one's own, in FastAPI."""

from typing import Annotated, Any

from fastapi import Depends, FastAPI, HTTPException, Request, Response, WebSocket
from starlette.routing import Route, WebSocketRoute
from starlette.types import ASGIApp, Receive, Scope, Send

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


class Streaming(Response):
    """What lets a handler return an ASGI application, which FastAPI would try to write as JSON."""

    def __init__(self, application: ASGIApp) -> None:
        super().__init__()
        self._application = application

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self._application(scope, receive, send)


def room(name: str) -> str:  # a dependency chooses the channel, where a path alone cannot
    channel = {"lobby": "chat", "front-page": "news"}.get(name)
    if channel is None:
        raise HTTPException(404)
    return channel


@app.get("/rooms/{name}/events")
async def room_events(request: Request, channel: Annotated[str, Depends(room)]) -> Streaming:
    return Streaming(gateway.event_stream(channel, history=20, connection=request))


@app.websocket("/chat")
async def chat(socket: WebSocket) -> None:
    session = await gateway.open_websocket(socket, "chat", history=20)
    if session is None:  # refused, and told why
        return
    async with session:
        async for message in session:
            if await session.may("publish", "chat"):
                channels.publish(message, "chat")
