"""The same loop, through a handler of Litestar: what no library for Litestar can do without."""

from __future__ import annotations

import asyncio
from typing import Any

from litestar import Litestar, WebSocket, websocket
from litestar.exceptions import WebSocketDisconnect

from benchmarks.servers import harness
from benchmarks.servers.send_web import SendLoop
from benchmarks.servers.texts import Texts


async def serve(texts: Texts) -> None:
    loop = SendLoop(texts)

    async def news(socket: WebSocket[Any, Any, Any]) -> None:
        await socket.accept()
        loop.add(socket.send)  # type: ignore[arg-type]
        try:
            while True:
                await socket.receive_data(mode="text")
        except WebSocketDisconnect:
            pass

    app = Litestar(route_handlers=[websocket("/")(news)])
    async with asyncio.TaskGroup() as group:
        group.create_task(loop.run())
        await harness.serve_asgi(app, "/", loop.publish)
