"""broadcaster: its example for Starlette, with its memory backend, on uvicorn."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from broadcaster import Broadcast
from starlette.applications import Starlette
from starlette.routing import WebSocketRoute
from starlette.websockets import WebSocket

from benchmarks.servers import harness
from benchmarks.servers.texts import Texts


async def serve(texts: Texts) -> None:
    broadcast = Broadcast("memory://")
    publishing: set[asyncio.Task[None]] = set()

    async def news(socket: WebSocket) -> None:
        await socket.accept()
        async with broadcast.subscribe("news") as subscriber:
            async for event in subscriber:
                await socket.send_text(event.message)

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        async with broadcast:
            yield

    async def publish_all(count: int) -> None:
        for text in texts.take(count):
            await broadcast.publish("news", text)

    def publish(count: int) -> None:
        task = asyncio.create_task(publish_all(count))
        publishing.add(task)
        task.add_done_callback(publishing.discard)

    app = Starlette(routes=[WebSocketRoute("/", news)], lifespan=lifespan)
    await harness.serve_asgi(app, "/", publish)
