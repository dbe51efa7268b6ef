"""Run one server until stdin ends: ``python -m benchmarks.servers NAME SIZE``."""

from __future__ import annotations

import asyncio
import importlib
import sys

from benchmarks import machine
from benchmarks.servers.texts import Texts


async def main(name: str, size: int) -> None:
    """Serve until whoever started this goes away."""
    module = importlib.import_module(f"benchmarks.servers.{name}")
    serving = asyncio.create_task(module.serve(Texts(size)))
    reading = asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)
    await asyncio.wait([serving, reading], return_when=asyncio.FIRST_COMPLETED)
    if serving.done():
        serving.result()


if __name__ == "__main__":
    machine.pin("measured")
    machine.allow_descriptors()
    name, size = sys.argv[1], int(sys.argv[2])
    try:
        import uvloop
    except ImportError:
        asyncio.run(main(name, size))
    else:
        uvloop.run(main(name, size))
