"""Two channels, into which a request lets a storm."""

import asyncio
import contextlib

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route, WebSocketRoute
from starlette.websockets import WebSocket

from channels.core import ChannelsPlugin
from channels.core.asgi import Gateway, Limits, WebSocketSession

channels = ChannelsPlugin("memory://", channels=["a", "b"])
gateway = Gateway(channels, encoding="envelope", limits=Limits(max_backlog_bytes=1 << 26))
sessions: set[WebSocketSession] = set()

SIZE = 6000
"""Bytes of an event: all together are more than the network takes for one who reads nothing."""


async def storm(request: Request) -> JSONResponse:
    count = int(request.query_params["count"])
    async with channels.start_subscription(["a", "b"]) as subscriber:
        for number in range(count):
            for name in ("a", "b"):
                channels.publish(f"{number}".ljust(SIZE), name)
            if number % 50 == 0:
                await asyncio.sleep(0.001)
        channels.publish("end", ["a", "b"])
        events = subscriber.iter_events()
        for _ in range(2 * count + 2):
            await anext(events)
    return JSONResponse(sum(session.subscriber.qsize > 0 for session in sessions))


async def echo(socket: WebSocket) -> None:
    session = await gateway.open_websocket(socket, ["a", "b"])
    if session is not None:
        sessions.add(session)
        try:
            async with session:
                async for message in session:
                    if message == "fail":
                        raise RuntimeError("as asked for")
                    await session.send(message)
        finally:
            sessions.remove(session)


async def counts(request: Request) -> JSONResponse:
    return JSONResponse([gateway.connection_count, channels.subscriber_count("a")])


async def expect_failure(scope: object, receive: object, send: object) -> None:
    with contextlib.suppress(RuntimeError):
        await inner(scope, receive, send)  # type: ignore[arg-type]


inner = Starlette(
    routes=[
        Route("/storm", storm, methods=["POST"]),
        Route("/counts", counts),
        WebSocketRoute("/ws", echo),
    ],
    lifespan=gateway.lifespan,
)
app = expect_failure
