"""WebSockets, event streams, and a handler of one's own, in Starlette."""

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route, WebSocketRoute
from starlette.websockets import WebSocket

from channels.core import ChannelsPlugin
from channels.core.asgi import Gateway

channels = ChannelsPlugin("memory://?history=100", channels=["news", "chat"])
gateway = Gateway(channels, encoding="envelope", drain_on_signal=True)


async def publish(request: Request) -> JSONResponse:
    return JSONResponse(await channels.wait_published(await request.json(), "news"))


async def chat(socket: WebSocket) -> None:
    session = await gateway.open_websocket(socket, "chat", history=20)
    if session is None:  # refused, and told why
        return
    async with session:
        async for message in session:
            if await session.may("publish", "chat"):
                channels.publish(message, "chat")


app = Starlette(
    routes=[
        Route("/news", publish, methods=["POST"]),
        Route("/events/{channel}", gateway.event_stream_endpoint(history=20)),
        WebSocketRoute("/ws/{channel}", gateway.websocket_endpoint(history=20)),
        WebSocketRoute("/chat", chat),
    ],
    lifespan=gateway.lifespan,
)
