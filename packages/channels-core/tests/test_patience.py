"""Each waits as long as it may, and one timer does for all."""

from __future__ import annotations

import asyncio

import pytest

from channels.core._parking import Parking
from channels.core._patience import Patience
from kit import virtual_clock


async def begin(patience: Patience) -> tuple[Parking, asyncio.Task[None]]:
    parking = Parking()

    async def wait() -> None:
        patience.begin(parking)
        try:
            await parking
        finally:
            patience.end(parking)

    task = asyncio.create_task(wait())
    await asyncio.sleep(0)
    return parking, task


def test_each_is_overdue_at_its_own_time() -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        patience = Patience(10)
        ended: list[float] = []
        tasks: list[asyncio.Task[None]] = []
        for _ in range(3):
            _, task = await begin(patience)
            task.add_done_callback(lambda task: ended.append(loop.time()))
            tasks.append(task)
            await asyncio.sleep(4)
        await asyncio.wait(tasks)
        assert ended == [10, 14, 18]
        for task in tasks:
            with pytest.raises(TimeoutError):
                task.result()

    virtual_clock.run(main())


def test_who_is_done_or_cancelled_is_left_alone() -> None:
    async def main() -> None:
        patience = Patience(10)
        first, done = await begin(patience)
        _, cancelled = await begin(patience)
        await asyncio.sleep(4)
        _, overdue = await begin(patience)
        first.wake()
        cancelled.cancel()
        await done
        await asyncio.wait([overdue])
        assert cancelled.cancelled()
        assert asyncio.get_running_loop().time() == 14
        with pytest.raises(TimeoutError):
            overdue.result()

    virtual_clock.run(main())
