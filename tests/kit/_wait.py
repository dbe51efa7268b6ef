"""Wait for a condition, never for a time."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from inspect import isawaitable

INTERVAL = 0.003


def wait_until(condition: Callable[[], object], what: str, timeout: float = 5.0) -> None:
    """Block until ``condition()`` is true.

    Args:
        condition: Called every few milliseconds; its exceptions come out.
        what: What is waited for, for the error.
        timeout: Seconds.

    Raises:
        TimeoutError: It did not become true in time.
    """
    deadline = time.monotonic() + timeout
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError(f"waited {timeout} s for {what}")
        time.sleep(INTERVAL)


async def eventually(
    condition: Callable[[], object | Awaitable[object]], what: str, timeout: float = 5.0
) -> None:
    """Wait until ``condition()``, or what awaiting it gives, is true; see `wait_until`."""
    deadline = time.monotonic() + timeout
    while True:
        result = condition()
        if isawaitable(result):
            result = await result
        if result:
            return
        if time.monotonic() > deadline:
            raise TimeoutError(f"waited {timeout} s for {what}")
        await asyncio.sleep(INTERVAL)
