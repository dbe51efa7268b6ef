"""Ending tasks for certain."""

from __future__ import annotations

import asyncio


async def end(*tasks: asyncio.Task[None]) -> None:
    """Cancel tasks and wait until they have ended; ask again where one swallowed it.

    CPython 3.11 loses a cancellation that meets the completion of what the task waits for.
    """
    while pending := [task for task in tasks if not task.done()]:
        for task in pending:
            task.cancel()
        await asyncio.wait(pending, timeout=1.0)
