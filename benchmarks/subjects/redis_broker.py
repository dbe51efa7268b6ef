"""redis-py by itself; the kind is "pubsub", or "script" for what the stream backend runs."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from importlib.resources import files

from redis.asyncio import Redis
from redis.asyncio.client import Pipeline

from benchmarks.subjects.broker import Client


class Pipelined:
    """Sends what is published in one tick as one pipeline."""

    def __init__(self, redis: Redis, script: str | None) -> None:
        self._redis = redis
        self._script = script
        self._waiting: list[tuple[bytes, str, asyncio.Future[None]]] = []
        self._sender: asyncio.Task[None] | None = None

    async def publish(self, data: bytes, channel: str) -> None:
        future = asyncio.get_running_loop().create_future()
        self._waiting.append((data, channel, future))
        if self._sender is None or self._sender.done():
            self._sender = asyncio.create_task(self._send())
        await future

    async def _send(self) -> None:
        while self._waiting:
            waiting, self._waiting = self._waiting, []
            pipeline = self._redis.pipeline(transaction=False)
            for data, channel, _ in waiting:
                self._add(pipeline, data, channel)
            await pipeline.execute()
            for _, _, future in waiting:
                future.set_result(None)

    def _add(self, pipeline: Pipeline, data: bytes, channel: str) -> None:
        if self._script is None:
            pipeline.publish(channel, data)
            return
        keys = (f"raw:{{{channel}}}:meta", f"raw:{{{channel}}}:stream")
        settings = (f"raw:{channel}", "PUBLISH", "run", "nonce", "~", 100, 3_600_000, 86_400_000)
        pipeline.evalsha(self._script, 2, *keys, *settings, data)


@asynccontextmanager
async def opened(url: str, kind: str) -> AsyncIterator[Client]:
    async with AsyncExitStack() as stack:
        redis = await stack.enter_async_context(Redis.from_url(url))
        pubsub = await stack.enter_async_context(redis.pubsub(ignore_subscribe_messages=True))
        script: str | None = None
        if kind == "script":
            source = files("channels.redis").joinpath("publish.lua").read_bytes()
            script = await redis.script_load(source)

        async def events() -> AsyncIterator[bytes]:
            async for message in pubsub.listen():
                yield message["data"]

        async def subscribe(channels: Sequence[str]) -> AsyncIterator[bytes]:
            await pubsub.subscribe(*channels)
            for _ in channels:
                await pubsub.get_message(timeout=10)  # the confirmation, which is taken out
            return events()

        yield Client(Pipelined(redis, script).publish, subscribe)
