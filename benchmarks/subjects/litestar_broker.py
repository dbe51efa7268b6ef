"""litestar.channels over a broker; the kind is "pubsub", "stream", "asyncpg" or "psycopg"."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

from litestar.channels import ChannelsBackend, ChannelsPlugin, Subscriber

from benchmarks.subjects.broker import Client


@asynccontextmanager
async def opened(url: str, kind: str) -> AsyncIterator[Client]:
    async with AsyncExitStack() as stack:
        backend = await _backend(url, kind, stack)
        plugin = await stack.enter_async_context(
            ChannelsPlugin(backend, arbitrary_channels_allowed=True)
        )
        yield Client(plugin.wait_published, plugin.subscribe, Subscriber.iter_events)


async def _backend(url: str, kind: str, stack: AsyncExitStack) -> ChannelsBackend:
    if kind == "asyncpg":
        from litestar.channels.backends.asyncpg import AsyncPgChannelsBackend

        return AsyncPgChannelsBackend(url)
    if kind == "psycopg":
        from litestar.channels.backends.psycopg import PsycoPgChannelsBackend

        return PsycoPgChannelsBackend(url)
    from litestar.channels.backends.redis import (
        RedisChannelsPubSubBackend,
        RedisChannelsStreamBackend,
    )
    from redis.asyncio import Redis

    client = await stack.enter_async_context(Redis.from_url(url))
    if kind == "pubsub":
        return RedisChannelsPubSubBackend(redis=client)
    return RedisChannelsStreamBackend(history=100, redis=client)
