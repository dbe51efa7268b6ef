"""Run one server until stdin ends."""

from __future__ import annotations

import asyncio
import importlib
import sys

from benchmarks import machine


async def main(name: str) -> None:
    """Serve until whoever started this goes away."""
    module = importlib.import_module(f"benchmarks.servers.{name}")
    serving = asyncio.create_task(module.serve())
    reading = asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)
    await asyncio.wait([serving, reading], return_when=asyncio.FIRST_COMPLETED)
    if serving.done():
        serving.result()


if __name__ == "__main__":
    machine.pin("measured")
    try:
        import uvloop
    except ImportError:
        asyncio.run(main(sys.argv[1]))
    else:
        uvloop.run(main(sys.argv[1]))
