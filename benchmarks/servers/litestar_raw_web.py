"""A WebSocket handler of Litestar that waits, for what a connection costs without channels."""

from __future__ import annotations

from typing import Any

from litestar import Litestar, WebSocket, websocket
from litestar.exceptions import WebSocketDisconnect

from benchmarks.servers import harness
from benchmarks.servers.frames_web import WS
from benchmarks.servers.texts import Texts


async def wait(socket: WebSocket[Any, Any, Any]) -> None:
    await socket.accept()
    try:
        while True:
            await socket.receive_data(mode="text")
    except WebSocketDisconnect:
        pass


async def serve(texts: Texts) -> None:
    app = Litestar(route_handlers=[websocket("/")(wait)])
    await harness.serve_asgi(app, "/", lambda count: None, ws=WS)
