import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import TypeAlias

import pytest
from hypothesis import HealthCheck, settings

from channels.core import (
    BackendException,
    BackendUnavailable,
    ChannelsBackend,
    ChannelsPlugin,
    Gap,
    PublishUnconfirmed,
)
from kit import eventually

# An example that takes long tells of a busy machine, not of a defect.
settings.register_profile("any pace", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("any pace")

CHANNEL = "news"


class Proof:
    """A publisher that numbers its events, and what a subscriber made of them."""

    def __init__(self, publisher: ChannelsPlugin) -> None:
        self.publisher = publisher
        self.acknowledged: set[int] = set()
        self.in_doubt: set[int] = set()
        self.not_sent: set[int] = set()
        self.refused: list[BackendException] = []
        self.received: list[int | None] = []
        self.gaps: list[str] = []
        self._next = 0
        self._stopping = False
        self._stopped = asyncio.Event()

    @property
    def numbers(self) -> list[int]:
        return [number for number in self.received if number is not None]

    @property
    def begun(self) -> int:
        """The last number that was given to the publisher, whatever became of it."""
        return self._next

    async def publish(self) -> int:
        """Publish the next number once and note what became of it."""
        self._next += 1
        number = self._next
        try:
            await self.publisher.wait_published(str(number), CHANNEL)
        except PublishUnconfirmed:
            self.in_doubt.add(number)
        except BackendUnavailable:
            self.not_sent.add(number)
        except BackendException as exc:
            self.not_sent.add(number)
            self.refused.append(exc)
        else:
            self.acknowledged.add(number)
        return number

    async def keep_publishing(self) -> None:
        while not self._stopping:
            await self.publish()
            await asyncio.sleep(0.002)
        self._stopped.set()

    async def published(self, count: int) -> None:
        """Wait until so many more were acknowledged."""
        enough = len(self.acknowledged) + count
        await eventually(lambda: len(self.acknowledged) >= enough, f"{count} more acknowledged", 15)

    async def arrived(self) -> None:
        """Wait until what is acknowledged from now on arrives."""
        seen = self.begun
        await eventually(lambda: bool(self.numbers) and self.numbers[-1] > seen, "arrival", 15)

    async def finished(self) -> None:
        """Wait until events arrive again, publish no more, and wait for the last one."""
        await self.arrived()
        self._stopping = True
        await self._stopped.wait()
        last = max(self.acknowledged)
        await eventually(lambda: last in self.numbers, "the last event", 15)

    def check(self) -> None:
        """Once, in order, and what is missing was told at its place."""
        numbers = self.numbers
        assert numbers == sorted(set(numbers))
        assert not self.not_sent.intersection(numbers), "surely not sent, and yet it came"
        before = 0
        told = False
        for item in self.received:
            if item is None:
                told = True
                continue
            missing = self.acknowledged.intersection(range(before + 1, item))
            assert told or not missing, f"missing between {before} and {item}, and nobody said so"
            before, told = item, False


Prove: TypeAlias = Callable[..., AbstractAsyncContextManager[Proof]]


@pytest.fixture
def prove() -> Prove:
    @asynccontextmanager
    async def run(
        backend: ChannelsBackend, publishing: ChannelsBackend | None = None
    ) -> AsyncIterator[Proof]:
        gaps: list[str] = []
        plugin = ChannelsPlugin(backend, channels=[CHANNEL], on_gap=gaps.append)
        publisher = (
            ChannelsPlugin(publishing, channels=[CHANNEL]) if publishing is not None else plugin
        )
        async with plugin:
            if publisher is not plugin:
                await publisher.start()
            proof = Proof(publisher)
            proof.gaps = gaps
            async with plugin.start_subscription([CHANNEL], gaps=True) as subscriber:

                async def receive() -> None:
                    async for event in subscriber.iter_events():
                        proof.received.append(None if isinstance(event, Gap) else int(event))

                tasks = [
                    asyncio.create_task(receive()),
                    asyncio.create_task(proof.keep_publishing()),
                ]
                try:
                    yield proof
                    proof.check()
                finally:
                    for task in tasks:
                        task.cancel()
                    await asyncio.wait(tasks)
                    for task in tasks:
                        if not task.cancelled():
                            task.result()
            if publisher is not plugin:
                await publisher.stop()

    return run
