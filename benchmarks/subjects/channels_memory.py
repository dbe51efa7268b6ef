"""Channels, with its memory backend."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from itertools import cycle

from benchmarks.subjects import inprocess
from channels.core import ChannelsPlugin, Event, MemoryChannelsBackend, Subscriber

CHANNEL = "news"


def names(channels: int) -> list[str]:
    return [f"{CHANNEL}-{number}" for number in range(channels)] if channels > 1 else [CHANNEL]


class Stage:
    """Subscribers of some channels, consumed in one of the ways that there are."""

    def __init__(self, plugin: ChannelsPlugin, channels: Sequence[str] = (CHANNEL,)) -> None:
        self.received = 0
        self._channels = channels
        self._plugin = plugin
        self._tasks: list[asyncio.Task[None]] = []

    def publish(self, count: int) -> None:
        for _ in range(count):
            for channel in self._channels:
                self._plugin.publish(inprocess.PAYLOAD, channel)

    async def iterate(self, subscriber: Subscriber) -> None:
        async for _ in subscriber.iter_events():
            self.received += 1

    def consume(self, subscriber: Subscriber, way: str) -> None:
        if way == "iterate":
            self._tasks.append(asyncio.create_task(self.iterate(subscriber)))
        else:
            subscriber.attach(self.count)

    def count(self, events: Sequence[Event]) -> bool:
        self.received += len(events)
        return True


@asynccontextmanager
async def running_plugin(history: int = 0) -> AsyncIterator[ChannelsPlugin]:
    backend = MemoryChannelsBackend(history=history)
    async with ChannelsPlugin(backend, arbitrary_channels_allowed=True) as plugin:
        yield plugin


async def deliver(
    way: str, subscribers: int, burst: int, seconds: float, channels: int = 1
) -> dict[str, float]:
    """Deliver bursts to each channel; each has its share of the subscribers."""
    async with running_plugin() as plugin:
        stage = Stage(plugin, names(channels))
        for _, name in zip(range(subscribers), cycle(names(channels)), strict=False):
            stage.consume(await plugin.subscribe(name), way)
        return await inprocess.delivery(stage, subscribers, burst, seconds)


async def call(subscribers: int, seconds: float) -> dict[str, float]:
    """Sinks that do nothing, but for the last one, which counts: the cost of being called."""
    async with running_plugin() as plugin:
        stage = Stage(plugin)
        for _ in range(subscribers - 1):
            (await plugin.subscribe(CHANNEL)).attach(lambda events: True)
        (await plugin.subscribe(CHANNEL)).attach(stage.count)
        result = await inprocess.delivery(stage, 1, 1, seconds)
        return {"us": result["us"] / subscribers}


async def memory(subscribers: int) -> dict[str, float]:
    async with running_plugin() as plugin:
        stage = Stage(plugin)

        async def add(count: int) -> None:
            for _ in range(count):
                stage.consume(await plugin.subscribe(CHANNEL), "iterate")
            await asyncio.sleep(0)

        return await inprocess.memory(add, subscribers)


async def leave(channels: int, seconds: float) -> dict[str, float]:
    async with running_plugin() as plugin:
        await plugin.subscribe([f"other-{number}" for number in range(channels)])
        present: dict[int, Subscriber] = {}

        async def join(number: int) -> None:
            present[number] = await plugin.subscribe(f"own-{number}")

        async def leave(number: int) -> None:
            await plugin.unsubscribe(present.pop(number))

        return await inprocess.leaving(join, leave, 10, seconds)


async def join_during_writes(joins: int, history: int, live: int) -> dict[str, float]:
    """Join with history while a publisher writes as fast as it can, and check each stream."""
    async with running_plugin(history=10_000) as plugin:
        writer = inprocess.Writer(lambda data: plugin.wait_published(data, CHANNEL))

        @asynccontextmanager
        async def join() -> AsyncIterator[AsyncIterator[bytes]]:
            async with plugin.start_subscription(CHANNEL, history=history) as subscriber:
                yield subscriber.iter_events()

        return await inprocess.joining(writer, join, joins, history, live)
