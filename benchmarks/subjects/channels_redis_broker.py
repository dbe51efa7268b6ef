"""Django Channels' layer over Redis' Pub/Sub: a group for each channel; the kind is "pubsub"."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

from channels_redis.pubsub import RedisPubSubChannelLayer

from benchmarks.subjects.broker import Client


@asynccontextmanager
async def opened(url: str, kind: str) -> AsyncIterator[Client]:
    layer = RedisPubSubChannelLayer(hosts=[url])

    async def publish(data: bytes, channel: str) -> None:
        await layer.group_send(channel, {"type": "event", "data": data})

    async def events(name: str) -> AsyncIterator[bytes]:
        while True:
            yield (await layer.receive(name))["data"]

    async def subscribe(channels: Sequence[str]) -> AsyncIterator[bytes]:
        name = await layer.new_channel()
        for channel in channels:
            await layer.group_add(channel, name)
        return events(name)

    try:
        yield Client(publish, subscribe)
    finally:
        await layer.flush()
