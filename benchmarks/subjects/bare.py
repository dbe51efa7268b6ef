"""What asyncio and the interpreter cost by themselves: the floor under every library."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from benchmarks.subjects import inprocess


class WaitingTasks:
    """Tasks that each wait on one future per event."""

    def __init__(self, count: int) -> None:
        self.received = 0
        self._loop = asyncio.get_running_loop()
        self._futures = [self._loop.create_future() for _ in range(count)]
        self._tasks = [asyncio.create_task(self._wait(index)) for index in range(count)]

    def publish(self, count: int) -> None:
        for future in self._futures:
            future.set_result(None)

    async def _wait(self, index: int) -> None:
        futures, create_future = self._futures, self._loop.create_future
        while True:
            await futures[index]
            self.received += 1
            futures[index] = create_future()


async def wait(subscribers: int, seconds: float) -> dict[str, float]:
    stage = WaitingTasks(subscribers)
    await asyncio.sleep(0)
    return await inprocess.delivery(stage, subscribers, 1, seconds)


class Callbacks:
    """A loop that calls back whoever's backlog is not full."""

    def __init__(self, count: int, limit: int) -> None:
        self.received = 0
        self._limit = limit
        self._members: list[tuple[list[bytes], Callable[[list[bytes]], bool]]] = [
            ([], lambda events: True) for _ in range(count - 1)
        ]
        self._members.append(([], self._count))

    def publish(self, count: int) -> None:
        events = [inprocess.PAYLOAD]
        limit = self._limit
        for backlog, callback in self._members:
            if len(backlog) < limit:
                callback(events)

    def _count(self, events: list[bytes]) -> bool:
        self.received += len(events)
        return True


async def call(subscribers: int, seconds: float) -> dict[str, float]:
    result = await inprocess.delivery(Callbacks(subscribers, 100), 1, 1, seconds)
    return {"us": result["us"] / subscribers}
