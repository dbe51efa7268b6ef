"""What the servers share: their ports, and how they are told to publish."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import Callable
from typing import Any

Publish = Callable[[int], object]
"""Publishes so many events, without waiting."""


class Control(asyncio.Protocol):
    """Publish as many events as each byte says."""

    def __init__(self, publish: Publish) -> None:
        self._publish = publish

    def data_received(self, data: bytes) -> None:
        for count in data:
            self._publish(count)


async def announce(path: str, listening: socket.socket, publish: Publish) -> None:
    """Open the control port and say where everything is."""
    loop = asyncio.get_running_loop()
    control = await loop.create_server(lambda: Control(publish), "127.0.0.1", 0)
    port = control.sockets[0].getsockname()[1]
    address = {"port": listening.getsockname()[1], "control": port, "path": path}
    print(json.dumps(address), flush=True)


def listen() -> socket.socket:
    """Return a socket that listens on a free port."""
    return socket.create_server(("127.0.0.1", 0), backlog=2048)


async def serve_asgi(app: Any, path: str, publish: Publish, **options: object) -> None:
    """Serve an ASGI application with uvicorn; without pings, which would come among the events."""
    import uvicorn

    listening = listen()
    options = {"log_level": "warning", "ws_ping_interval": None, **options}
    config = uvicorn.Config(app, **options)  # type: ignore[arg-type]
    server = uvicorn.Server(config)
    serving = asyncio.create_task(server.serve(sockets=[listening]))
    while not (server.started or serving.done()):  # noqa: ASYNC110 - uvicorn has no event for it
        await asyncio.sleep(0.01)
    await announce(path, listening, publish)
    await serving
