"""asyncpg by itself: NOTIFY over one kept connection, LISTEN on another."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import asyncpg

from benchmarks.subjects.broker import Client


@asynccontextmanager
async def opened(url: str, kind: str) -> AsyncIterator[Client]:
    publishing = await asyncpg.connect(url)
    listening = await asyncpg.connect(url)
    lock = asyncio.Lock()
    arrived: asyncio.Queue[bytes] = asyncio.Queue()

    async def publish(data: bytes, channel: str) -> None:
        async with lock:
            await publishing.execute("SELECT pg_notify($1, $2)", channel, data.decode())

    def on_notify(connection: object, pid: int, channel: str, payload: str) -> None:
        arrived.put_nowait(payload.encode())

    async def events() -> AsyncIterator[bytes]:
        while True:
            yield await arrived.get()

    async def subscribe(channels: Sequence[str]) -> AsyncIterator[bytes]:
        for channel in channels:
            await listening.add_listener(channel, on_notify)
        return events()

    try:
        yield Client(publish, subscribe)
    finally:
        await publishing.close()
        await listening.close()
