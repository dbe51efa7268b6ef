"""litestar.channels, with its memory backend."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from itertools import cycle

from litestar.channels import ChannelsPlugin, Subscriber
from litestar.channels.backends.memory import MemoryChannelsBackend

from benchmarks.subjects import inprocess

CHANNEL = "news"


def names(channels: int) -> list[str]:
    return [f"{CHANNEL}-{number}" for number in range(channels)] if channels > 1 else [CHANNEL]


class Stage:
    """Subscribers of some channels, consumed in one of the ways that there are."""

    def __init__(
        self, plugin: ChannelsPlugin, stack: AsyncExitStack, channels: Sequence[str] = (CHANNEL,)
    ) -> None:
        self.received = 0
        self._channels = channels
        self._plugin = plugin
        self._stack = stack
        self._tasks: list[asyncio.Task[None]] = []

    def publish(self, count: int) -> None:
        for _ in range(count):
            for channel in self._channels:
                self._plugin.publish(inprocess.PAYLOAD, channel)

    async def iterate(self, subscriber: Subscriber) -> None:
        async for _ in subscriber.iter_events():
            self.received += 1

    async def consume(self, subscriber: Subscriber, way: str) -> None:
        if way == "iterate":
            self._tasks.append(asyncio.create_task(self.iterate(subscriber)))
        else:
            await self._stack.enter_async_context(
                subscriber.run_in_background(self.count, join=False)
            )

    async def count(self, event: bytes) -> None:
        self.received += 1


@asynccontextmanager
async def running_plugin(history: int = 0) -> AsyncIterator[ChannelsPlugin]:
    backend = MemoryChannelsBackend(history=history)
    async with ChannelsPlugin(backend, arbitrary_channels_allowed=True) as plugin:
        yield plugin


async def deliver(
    way: str, subscribers: int, burst: int, seconds: float, channels: int = 1
) -> dict[str, float]:
    """Deliver bursts to each channel; each has its share of the subscribers."""
    async with running_plugin() as plugin, AsyncExitStack() as stack:
        stage = Stage(plugin, stack, names(channels))
        for _, name in zip(range(subscribers), cycle(names(channels)), strict=False):
            await stage.consume(await plugin.subscribe(name), way)
        return await inprocess.delivery(stage, subscribers, burst, seconds)


async def memory(subscribers: int) -> dict[str, float]:
    async with running_plugin() as plugin, AsyncExitStack() as stack:
        stage = Stage(plugin, stack)

        async def add(count: int) -> None:
            for _ in range(count):
                await stage.consume(await plugin.subscribe(CHANNEL), "iterate")
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
