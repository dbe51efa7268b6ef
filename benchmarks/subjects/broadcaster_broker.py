"""broadcaster over its Redis backend; the kind is "pubsub"."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager

from broadcaster import Broadcast

from benchmarks.subjects.broker import Client


@asynccontextmanager
async def opened(url: str, kind: str) -> AsyncIterator[Client]:
    async with AsyncExitStack() as stack:
        broadcast = await stack.enter_async_context(Broadcast(url))
        # With redis-py 8, version 0.3 hears nothing before something is subscribed a second time.
        await stack.enter_async_context(broadcast.subscribe("first"))

        async def publish(data: bytes, channel: str) -> None:
            await broadcast.publish(channel, data.decode())

        async def subscribe(channels: Sequence[str]) -> AsyncIterator[bytes]:
            (channel,) = channels
            subscriber = await stack.enter_async_context(broadcast.subscribe(channel))
            return (event.message.encode() async for event in subscriber)

        yield Client(publish, subscribe)
