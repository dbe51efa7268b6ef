"""A real uvicorn in the test's own event loop."""

from __future__ import annotations

import asyncio
import warnings
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any

import uvicorn

WEBSOCKETS = ("websockets", "websockets-sansio", "wsproto")


class Server(uvicorn.Server):
    """Leaves the signals of the test run alone."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield

    @property
    def port(self) -> int:
        port: int = self.servers[0].sockets[0].getsockname()[1]
        return port


@asynccontextmanager
async def serving(app: Any, ws: str = "websockets-sansio", **options: Any) -> AsyncIterator[Server]:
    """Serve ``app`` on a free port."""
    config = uvicorn.Config(
        app, port=0, ws=ws, log_config=None, lifespan="on", timeout_graceful_shutdown=5, **options
    )
    with warnings.catch_warnings():
        # uvicorn's first implementation, and what it imports of websockets, are to be removed.
        warnings.simplefilter("ignore")
        config.load()
    server = Server(config)
    task = asyncio.create_task(server.serve())
    while not server.started:
        assert not task.done(), "the server ended"
        await asyncio.sleep(0.001)
    try:
        yield server
    finally:
        server.should_exit = True
        await task
