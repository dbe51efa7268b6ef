"""Raw ASGI on uvicorn: connections that wait, for what a connection costs without a library."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from benchmarks.servers import harness
from benchmarks.servers.texts import Texts

Receive = Callable[[], Awaitable[dict[str, Any]]]
Send = Callable[[dict[str, Any]], Awaitable[None]]


async def app(scope: dict[str, Any], receive: Receive, send: Send) -> None:
    if scope["type"] == "lifespan":
        while (await receive())["type"] == "lifespan.startup":
            await send({"type": "lifespan.startup.complete"})
        await send({"type": "lifespan.shutdown.complete"})
        return
    await receive()
    await send({"type": "websocket.accept"})
    while (await receive())["type"] != "websocket.disconnect":
        pass


async def serve(texts: Texts, **options: object) -> None:
    await harness.serve_asgi(app, "/", lambda count: None, **options)
