"""Workloads over a broker; what they run on is a module with ``opened(url, kind)``."""

from __future__ import annotations

import asyncio
import importlib
import json
import os
import secrets
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager, suppress
from dataclasses import dataclass
from statistics import median, quantiles
from typing import Any, Literal

PAYLOAD = b"x" * 100
PACE = 0.02
"""Seconds between two looks at how many events have come."""
QUIET = 2.0
"""Seconds without an event after which the rest is lost."""
START = 10.0
"""Seconds within which the first event has to come."""


@dataclass
class Client:
    """A library that is connected to the broker.

    Attributes:
        publish: Publishes to a channel, and returns when the broker has it.
        subscribe: Subscribes to channels; gives what the library gives, once it says it is
            subscribed.
        stream: Makes the stream of events of that, which by default is one.
    """

    publish: Callable[[bytes, str], Awaitable[object]]
    subscribe: Callable[[Sequence[str]], Awaitable[Any]]
    stream: Callable[[Any], AsyncIterator[bytes]] = aiter


def opened(library: str, kind: str) -> AbstractAsyncContextManager[Client]:
    """Connect a library to the broker of this run."""
    module = importlib.import_module(f"benchmarks.subjects.{library}")
    client: AbstractAsyncContextManager[Client] = module.opened(
        os.environ["BENCHMARKS_BROKER"], kind
    )
    return client


def channel_name() -> str:
    """Return a name that no other sample uses."""
    return f"news-{secrets.token_hex(4)}"


async def publish(
    library: str, kind: str, publishers: int, seconds: float, channels: int = 1
) -> dict[str, float]:
    """Publish from so many tasks at once, each waiting for the broker every time.

    Returns:
        Events per ``second``, and ``us`` of CPU time of this process for each.
    """
    async with opened(library, kind) as client:
        names = [channel_name() for _ in range(channels)]
        return await publish_for(client, names, publishers, seconds)


async def publish_for(
    client: Client, names: Sequence[str], publishers: int, seconds: float
) -> dict[str, float]:
    """Publish to channels from so many tasks for so long, after a time that is not measured."""
    published = 0
    running = True

    async def run(number: int) -> None:
        nonlocal published
        while running:
            await client.publish(PAYLOAD, names[(number + published) % len(names)])
            published += 1

    tasks = [asyncio.create_task(run(number)) for number in range(publishers)]
    await asyncio.sleep(seconds / 5)
    cpu, started, before = time.process_time(), time.perf_counter(), published
    await asyncio.sleep(seconds)
    elapsed, spent = time.perf_counter() - started, time.process_time() - cpu
    count = published - before
    running = False
    await asyncio.gather(*tasks)
    return {"second": count / elapsed, "us": spent * 1e6 / count}


async def flood(library: str, kind: str, events: int) -> dict[str, float]:
    """Receive what another process publishes as fast as it can.

    Returns:
        The ``us`` of CPU time of this process per event that it received, and how many percent of
        the events were ``lost``.
    """
    async with opened(library, kind) as client:
        name = channel_name()
        received = 0

        async def receive(stream: AsyncIterator[bytes]) -> None:
            nonlocal received
            async for _ in stream:
                received += 1

        stream = client.stream(await client.subscribe([name]))
        receiving = asyncio.create_task(receive(stream))
        await asyncio.sleep(0.1)
        cpu = time.process_time()
        publisher = start_publisher(library, kind, name, events)
        seen, spent, quiet = 0, 0.0, 0.0
        while received < events and quiet < (QUIET if seen else START):
            await asyncio.sleep(PACE)
            if received > seen:
                seen, spent, quiet = received, time.process_time() - cpu, 0.0
            else:
                quiet += PACE
        if not seen:
            raise AssertionError("nothing received")
        spent = spent if quiet else time.process_time() - cpu
        publisher.wait()
        receiving.cancel()
        await asyncio.wait([receiving])
    return {"us": spent * 1e6 / received, "lost": 100 * (events - received) / events}


def start_publisher(library: str, kind: str, channel: str, events: int) -> subprocess.Popen[bytes]:
    """Publish from a process of its own, on the other core."""
    task = {
        "function": "broker:publish_many",
        "arguments": {"library": library, "kind": kind, "channel": channel, "events": events},
        "core": "load",
    }
    publisher = subprocess.Popen(
        [sys.executable, "-m", "benchmarks.worker"],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
    )
    assert publisher.stdin is not None
    publisher.stdin.write(json.dumps(task).encode() + b"\n")
    publisher.stdin.close()
    return publisher


async def publish_many(library: str, kind: str, channel: str, events: int) -> dict[str, float]:
    """Publish so many events from 64 tasks."""
    async with opened(library, kind) as client:
        left = iter(range(events))

        async def run() -> None:
            for _ in left:
                await client.publish(PAYLOAD, channel)

        await asyncio.gather(*(run() for _ in range(64)))
    return {}


async def latency(library: str, kind: str, rate: float, seconds: float) -> dict[str, float]:
    """Publish at a rate and receive it.

    Returns:
        The milliseconds until half (``p50``) and 99 of 100 (``p99``) of the events are received.
    """
    async with opened(library, kind) as client:
        name = channel_name()
        stream = client.stream(await client.subscribe([name]))
        latencies: list[float] = []

        async def receive() -> None:
            async for event in stream:
                latencies.append(  # noqa: PERF401 - each at its time
                    time.perf_counter() - float(event)
                )

        receiving = asyncio.create_task(receive())
        count = int(rate * seconds)
        started = time.perf_counter()
        for number in range(count):
            await asyncio.sleep(max(0, started + number / rate - time.perf_counter()))
            await client.publish(b"%.9f" % time.perf_counter(), name)
        deadline = time.monotonic() + 10
        while len(latencies) < count and time.monotonic() < deadline:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
        if len(latencies) != count:
            raise AssertionError(f"{len(latencies)} of {count} events received")
        receiving.cancel()
        with suppress(asyncio.CancelledError):
            await receiving
    return {"p50": median(latencies) * 1e3, "p99": quantiles(latencies, n=100)[-1] * 1e3}


async def subscribe(
    library: str, kind: str, channels: int, way: Literal["in turn", "at once", "one call"]
) -> dict[str, float]:
    """Subscribe to many channels.

    Args:
        library: What is measured.
        kind: What of it.
        channels: How many.
        way: A call for each, in turn or at once; or one call for all.

    Returns:
        The ``seconds`` that it took.
    """
    async with opened(library, kind) as client:
        name = channel_name()
        names = [f"{name}-{number}" for number in range(channels)]
        started = time.perf_counter()
        if way == "one call":
            await client.subscribe(names)
        elif way == "at once":
            subscribing = [asyncio.create_task(client.subscribe([each])) for each in names]
            for task in subscribing:
                await task
        else:
            for each in names:
                await client.subscribe([each])
        return {"seconds": time.perf_counter() - started}


async def idle(library: str, kind: str, channels: int, seconds: float) -> dict[str, float]:
    """Be subscribed while nothing happens.

    Returns:
        The ``percent`` of a core that this process uses.
    """
    async with opened(library, kind) as client:
        name = channel_name()
        await client.subscribe([f"{name}-{number}" for number in range(channels)])
        await asyncio.sleep(1)
        cpu, started = time.process_time(), time.perf_counter()
        await asyncio.sleep(seconds)
        spent, elapsed = time.process_time() - cpu, time.perf_counter() - started
    return {"percent": 100 * spent / elapsed}
