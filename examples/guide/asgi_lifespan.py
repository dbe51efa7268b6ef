"""Server-sent events from a bare ASGI application, without a framework."""

from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from channels.core import (
    ChannelsPlugin,
    Event,
    Gap,
    InvalidPositionError,
    MemoryChannelsBackend,
)

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

channels = ChannelsPlugin(MemoryChannelsBackend(history=100), channels=["news"])


async def app(scope: Message, receive: Receive, send: Send) -> None:
    if scope["type"] == "lifespan":
        await lifespan(receive, send)
    elif scope["type"] == "http":
        try:
            await stream_news(scope, receive, send)
        except InvalidPositionError:  # it is raised before anything was sent
            await send({"type": "http.response.start", "status": 400, "headers": []})
            await send({"type": "http.response.body", "body": b"unknown Last-Event-ID"})


async def lifespan(receive: Receive, send: Send) -> None:
    await receive()
    async with channels:
        await send({"type": "lifespan.startup.complete"})
        await receive()
    await send({"type": "lifespan.shutdown.complete"})


async def stream_news(scope: Message, receive: Receive, send: Send) -> None:
    async def send_event(event: Event) -> None:
        await send({"type": "http.response.body", "body": frame(event), "more_body": True})

    since = dict(scope["headers"]).get(b"last-event-id", b"").decode() or None
    headers = [(b"content-type", b"text/event-stream"), (b"cache-control", b"no-store")]
    async with channels.start_subscription("news", since=since, gaps=True) as subscriber:
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        async with subscriber.run_in_background(send_event, join=False):
            while (await receive())["type"] != "http.disconnect":
                pass


def frame(event: Event) -> bytes:
    """Write an event as the browser's EventSource reads it, which sends the last id back."""
    if isinstance(event, Gap):
        return b"event: gap\ndata:\n\n"
    lines = [f"id: {event.id}", *(f"data: {line}" for line in event.decode().splitlines())]
    return ("\n".join(lines) + "\n\n").encode()
