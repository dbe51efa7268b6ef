"""Running the examples, in the tests of them."""

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Any

import httpx
import uvicorn
from litestar import Litestar
from websockets.asyncio.client import connect

from channels import core
from channels.litestar import ChannelsPlugin

DEADLINE = 10


async def until(condition: Callable[[], object]) -> None:
    """Wait for something that others bring about."""
    async with asyncio.timeout(DEADLINE):
        while not condition():
            await asyncio.sleep(0.001)


async def subscribed(channels: core.ChannelsPlugin, *names: str) -> None:
    """Wait until somebody is subscribed to each of some channels."""
    await until(lambda: all(map(channels.subscriber_count, names)))
    # The broker confirms a channel to all who wait for it at once.
    async with channels.start_subscription(names):
        pass


@asynccontextmanager
async def following(
    example: Coroutine[object, object, object], channels: core.ChannelsPlugin, *names: str
) -> AsyncIterator[asyncio.Task[object]]:
    """Run an example that has no end of its own, from when it is subscribed to some channels."""
    task = asyncio.create_task(example)
    try:
        await subscribed(channels, *names)
        yield task
    finally:
        task.cancel()
        await asyncio.wait([task])
    if not task.cancelled() and (error := task.exception()) is not None:
        raise error


class Site:
    """An application behind a real server, on this event loop."""

    def __init__(self, app: Litestar, port: int) -> None:
        self.channels = app.plugins.get(ChannelsPlugin)
        self.netloc = f"127.0.0.1:{port}"

    def connect(self, path: str, **options: Any) -> connect:
        """Open a WebSocket, as an asynchronous context manager."""
        return connect(f"ws://{self.netloc}{path}", proxy=None, max_queue=None, **options)

    async def request(self, method: str, path: str, **options: Any) -> httpx.Response:
        """Send a request."""
        async with httpx.AsyncClient(base_url=f"http://{self.netloc}", trust_env=False) as client:
            return await client.request(method, path, **options)


@asynccontextmanager
async def serving(app: Litestar) -> AsyncIterator[Site]:
    """Serve an application while the context is open."""
    config = uvicorn.Config(
        app, port=0, log_level="warning", ws="websockets-sansio", timeout_graceful_shutdown=2
    )
    server = uvicorn.Server(config)
    serve = asyncio.create_task(server.serve())
    try:
        await until(lambda: server.started or serve.done())
        yield Site(app, server.servers[0].sockets[0].getsockname()[1])
    finally:
        server.should_exit = True
        await serve
