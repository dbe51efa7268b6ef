"""What the tests of the examples share."""

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import AbstractAsyncContextManager, asynccontextmanager

import pytest

from channels.core import ChannelsPlugin

DEADLINE = 10

Until = Callable[[Callable[[], object]], Coroutine[object, object, None]]
Background = Callable[..., AbstractAsyncContextManager[asyncio.Task[object]]]


@pytest.fixture
def until() -> Until:
    """Wait for something that others bring about."""

    async def wait(condition: Callable[[], object]) -> None:
        async with asyncio.timeout(DEADLINE):
            while not condition():  # noqa: ASYNC110  (anything at all may be waited for)
                await asyncio.sleep(0.001)

    return wait


@pytest.fixture
def following(until: Until) -> Background:
    """Run an example that has no end of its own, from when it is subscribed to some channels."""

    @asynccontextmanager
    async def run(
        example: Coroutine[object, object, object], channels: ChannelsPlugin, *names: str
    ) -> AsyncIterator[asyncio.Task[object]]:
        task = asyncio.create_task(example)
        try:
            await until(lambda: task.done() or all(map(channels.subscriber_count, names)))
            # The broker confirms a channel to all who wait for it at once.
            async with channels.start_subscription(names):
                pass
            yield task
        finally:
            task.cancel()
            await asyncio.wait([task])
        if not task.cancelled() and (error := task.exception()) is not None:
            raise error

    return run
