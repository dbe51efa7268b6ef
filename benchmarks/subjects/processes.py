"""Several processes on one broker, all on the core of what is measured.

They meet over the broker itself: each says that it is ready, and then waits for the word.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections.abc import Awaitable, Callable

from benchmarks.subjects import broker
from benchmarks.subjects.broker import PAYLOAD, Client

GO = b"go"
PATIENCE = 30.0
"""Seconds within which the processes have to be ready, and then to be done."""


async def publish(
    library: str, kind: str, processes: int, publishers: int, seconds: float
) -> dict[str, float]:
    """Publish from all of them, from so many tasks in each.

    Returns:
        Events per ``second``, all together, and ``us`` of their CPU time for each.
    """
    found = await run(
        "publish_when_told", library, kind, processes, publishers=publishers, seconds=seconds
    )
    rates = [each["second"] for each in found]
    spent = sum(each["us"] * each["second"] for each in found)
    return {"second": sum(rates), "us": spent / sum(rates)}


async def receive(library: str, kind: str, processes: int, events: int) -> dict[str, float]:
    """Receive in all of them what one process, on the other core, publishes as fast as it can.

    Returns:
        The ``us`` of CPU time per event in each of them.
    """

    async def load(client: Client, name: str) -> None:
        left = iter(range(events))

        async def publish_some() -> None:
            for _ in left:
                await client.publish(PAYLOAD, name)

        await asyncio.gather(*(publish_some() for _ in range(64)))

    found = await run("receive_all", library, kind, processes, load=load, events=events)
    return {"us": sum(each["us"] for each in found) / processes}


async def run(
    function: str,
    library: str,
    kind: str,
    processes: int,
    load: Callable[[Client, str], Awaitable[None]] | None = None,
    **arguments: object,
) -> list[dict[str, float]]:
    """Run a function of this module in so many processes at once, and make a load meanwhile."""
    name = broker.channel_name()
    task = {
        "function": f"processes:{function}",
        "arguments": {"library": library, "kind": kind, "name": name, **arguments},
        "core": "measured",
    }
    async with broker.opened(library, kind) as client, asyncio.timeout(2 * PATIENCE):
        ready = client.stream(await client.subscribe([f"{name}-ready"]))
        started = [
            await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "benchmarks.worker"),
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
            )
            for _ in range(processes)
        ]
        answers = [
            asyncio.create_task(process.communicate(json.dumps(task).encode() + b"\n"))
            for process in started
        ]
        async with asyncio.timeout(PATIENCE):
            for _ in range(processes):
                await anext(ready)
        await client.publish(GO, f"{name}-go")
        if load is not None:
            await load(client, name)
        return [json.loads(answer) for answer, _ in await asyncio.gather(*answers)]


async def publish_when_told(
    library: str, kind: str, name: str, publishers: int, seconds: float
) -> dict[str, float]:
    """Publish for so long, when told to."""
    async with broker.opened(library, kind) as client:
        go = client.stream(await client.subscribe([f"{name}-go"]))
        await client.publish(b"", f"{name}-ready")
        await anext(go)
        return await broker.publish_for(client, [name], publishers, seconds)


async def receive_all(library: str, kind: str, name: str, events: int) -> dict[str, float]:
    """Receive so many events."""
    async with broker.opened(library, kind) as client, asyncio.timeout(PATIENCE):
        stream = client.stream(await client.subscribe([name]))
        await client.publish(b"", f"{name}-ready")
        received, cpu = 0, time.process_time()
        async for _ in stream:
            received += 1
            if received == events:
                break
        return {"us": (time.process_time() - cpu) * 1e6 / events}
