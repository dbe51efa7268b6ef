"""A loop that awaits uvicorn's ``send`` for each client: what no library can do without."""

from __future__ import annotations

import asyncio
from typing import Any

from benchmarks.servers import harness
from benchmarks.servers.asgi_web import Receive, Send
from benchmarks.servers.texts import Texts


class SendLoop:
    """Sends to all from one task.

    Args:
        texts: What is published.
    """

    def __init__(self, texts: Texts) -> None:
        self._texts = texts
        self._due: asyncio.Queue[int] = asyncio.Queue()
        self._sends: dict[int, Send] = {}
        self.publish = self._due.put_nowait

    def add(self, send: Send) -> None:
        """Send to a client, too, until the program ends."""
        self._sends[len(self._sends)] = send

    async def run(self) -> None:
        """Send what is published."""
        while True:
            for text in self._texts.take(await self._due.get()):
                for send in list(self._sends.values()):
                    await send({"type": "websocket.send", "text": text})


async def serve(texts: Texts) -> None:
    loop = SendLoop(texts)

    async def app(scope: dict[str, Any], receive: Receive, send: Send) -> None:
        await receive()
        await send({"type": "websocket.accept"})
        loop.add(send)
        while (await receive())["type"] != "websocket.disconnect":
            pass

    async with asyncio.TaskGroup() as group:
        group.create_task(loop.run())
        await harness.serve_asgi(app, "/", loop.publish, lifespan="off")
