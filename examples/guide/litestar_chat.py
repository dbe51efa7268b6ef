"""A chat whose handlers are one's own, in Litestar."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from litestar import Litestar, Request, WebSocket, get, websocket
from litestar.types import ASGIApp

from channels import litestar

if TYPE_CHECKING:
    from channels.litestar import ChannelsPlugin


async def may(
    connection: WebSocket | Request, channel: str, action: Literal["subscribe", "publish"]
) -> bool:
    user = connection.query_params.get("user")
    return action == "subscribe" or user not in (None, "guest")


@websocket("/chat")
async def chat(socket: WebSocket, channels: ChannelsPlugin) -> None:
    session = await channels.gateway.open_websocket(socket, "chat", history=20)
    if session is None:  # refused, and told why
        return
    async with session:
        async for message in session:
            if await session.may("publish", "chat"):
                channels.publish(message, "chat")
            else:
                await session.send('{"type":"error","reason":"guests only listen"}')


@get("/chat/events")
async def events(request: Request, channels: ChannelsPlugin) -> ASGIApp:
    return channels.gateway.event_stream("chat", history=20, connection=request)


app = Litestar(
    [chat, events],
    plugins=[
        litestar.ChannelsPlugin(
            "memory://?history=100",
            channels=["chat"],
            authorize=may,
            encoding="envelope",
            drain_on_signal=True,
        )
    ],
)
