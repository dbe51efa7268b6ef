"""Workloads inside one process: no network, only what a library costs per delivery."""

from __future__ import annotations

import asyncio
import gc
import os
import random
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from itertools import pairwise
from pathlib import Path
from typing import Protocol

PAYLOAD = b"x" * 100
WARM_UP = 5
"""Rounds that are not measured."""


class Stage(Protocol):
    """Consumers of one channel, ready to be published to.

    Attributes:
        received: How many deliveries its consumers have counted.
    """

    received: int

    def publish(self, count: int) -> None:
        """Publish so many events, without waiting."""
        ...


async def delivery(stage: Stage, subscribers: int, burst: int, seconds: float) -> dict[str, float]:
    """Publish bursts, each when the one before has reached everybody.

    Returns:
        The microseconds of CPU time that this process spent per delivery.
    """
    rounds = 0
    for _ in range(WARM_UP):
        await _round(stage, subscribers * burst, burst)
    gc.collect()
    started = time.process_time()
    while (spent := time.process_time() - started) < seconds:
        await _round(stage, subscribers * burst, burst)
        rounds += 1
    return {"us": spent * 1e6 / (rounds * subscribers * burst)}


async def _round(stage: Stage, deliveries: int, burst: int) -> None:
    expected = stage.received + deliveries
    stage.publish(burst)
    deadline = time.monotonic() + 30
    while stage.received < expected:
        if time.monotonic() > deadline:
            raise TimeoutError(f"{expected - stage.received} of {deliveries} deliveries missing")
        await asyncio.sleep(0)
    if stage.received > expected:
        raise AssertionError(f"{stage.received - expected} deliveries too many")


async def memory(add: Callable[[int], Awaitable[None]], subscribers: int) -> dict[str, float]:
    """Add subscribers whose consumers wait.

    Args:
        add: Adds so many, and returns when all of them wait.
        subscribers: How many are measured, after a tenth of it that is not.

    Returns:
        The bytes of resident memory that each of them took.
    """
    await add(subscribers // 10)
    gc.collect()
    before = resident_bytes()
    await add(subscribers)
    gc.collect()
    return {"bytes": (resident_bytes() - before) / subscribers}


def resident_bytes() -> int:
    """Return how much physical memory this process occupies."""
    pages = int(Path("/proc/self/statm").read_text("ascii").split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


async def leaving(
    join: Callable[[int], Awaitable[object]],
    leave: Callable[[int], Awaitable[object]],
    leavers: int,
    seconds: float,
) -> dict[str, float]:
    """Let subscribers come to a channel of their own and leave, one after the other.

    Returns:
        The microseconds of CPU time per subscriber that left, what it set off included.
    """
    spent, left = 0.0, 0
    # Collecting garbage among 50,000 channels costs more than to leave them, and is not its price.
    gc.disable()
    while spent < seconds:
        for number in range(leavers):
            await join(number)
        started = time.process_time()
        for number in range(leavers):
            await leave(number)
        for _ in range(10):
            await asyncio.sleep(0)
        spent += time.process_time() - started
        left += leavers
    return {"us": spent * 1e6 / left}


class Writer:
    """Publishes 1, 2, 3 ... as fast as it can."""

    def __init__(self, publish: Callable[[bytes], Awaitable[object]]) -> None:
        self.published = 0
        self._publish = publish

    async def run(self) -> None:
        while True:
            self.published += 1
            await self._publish(b"%d" % self.published)
            if random.random() < 0.1:
                await asyncio.sleep(0)


async def numbers(events: AsyncIterator[bytes], count: int) -> list[int]:
    """Read so many events of a :class:`Writer`."""
    read: list[int] = []
    async for event in events:
        read.append(int(event))
        if len(read) == count:
            break
    return read


async def joining(
    writer: Writer,
    join: Callable[[], AbstractAsyncContextManager[AsyncIterator[bytes]]],
    joins: int,
    history: int,
    live: int,
) -> dict[str, float]:
    """Join, 20 at a time, while the writer writes; check what each of them reads.

    Args:
        writer: Writes meanwhile.
        join: Subscribes, with so much history, and gives the stream.
        joins: How often.
        history: How many events of history.
        live: How many are read after them.

    Returns:
        How many places are wrong in what was read: gaps, repetitions, disorder, a beginning that
        is not so many events back; and how many events were checked.
    """
    random.seed(1)
    task = asyncio.create_task(writer.run())
    while writer.published <= history:  # noqa: ASYNC110 - the writer runs in between
        await asyncio.sleep(0)
    faults = checked = 0

    async def check() -> None:
        nonlocal faults, checked
        for _ in range(random.randrange(10)):
            await asyncio.sleep(0)
        earliest = writer.published - history
        async with join() as events:
            latest = writer.published - history + 1
            stream = await numbers(events, history + live)
        faults += not earliest <= stream[0] <= latest
        faults += sum(after != before + 1 for before, after in pairwise(stream))
        checked += len(stream)

    for _ in range(joins // 20):
        await asyncio.gather(*(check() for _ in range(20)))
    task.cancel()
    await asyncio.wait([task])
    return {"faults": faults, "checked": checked}
