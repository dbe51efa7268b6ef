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


def give_way() -> None:
    """End the running task here if a call it made has swallowed its cancellation.

    For loops that try again whatever a backend raises: drivers turn a cancellation that meets the
    end of their connection into an error of theirs.

    Raises:
        asyncio.CancelledError: The task was cancelled.
    """
    task = asyncio.current_task()
    if task is not None and task.cancelling():
        raise asyncio.CancelledError
