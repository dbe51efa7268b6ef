"""python-socketio: ``emit`` to everybody, on uvicorn."""

from __future__ import annotations

import asyncio

import socketio

from benchmarks.servers import harness
from benchmarks.servers.texts import Texts


async def serve(texts: Texts) -> None:
    server = socketio.AsyncServer(async_mode="asgi", cors_allowed_origins="*")
    emitting: set[asyncio.Task[None]] = set()

    async def emit(count: int) -> None:
        for text in texts.take(count):
            await server.emit("news", text)

    def publish(count: int) -> None:
        task = asyncio.create_task(emit(count))
        emitting.add(task)
        task.add_done_callback(emitting.discard)

    path = "/socket.io/?EIO=4&transport=websocket"
    await harness.serve_asgi(socketio.ASGIApp(server), path, publish)
