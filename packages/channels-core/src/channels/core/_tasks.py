"""Tasks that begin when they should, and end for certain."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Coroutine
from contextvars import Context
from typing import Any, TypeVar

T = TypeVar("T")


def begin(
    work: Coroutine[Any, Any, T], name: str, context: Context | None = None
) -> asyncio.Task[T]:
    """Begin a task that runs when the loop goes on, not before this returns.

    One of the application's task factory may run at once (:func:`asyncio.eager_task_factory`):
    before the caller has noted it, and in the middle of what the caller is doing.
    """
    return asyncio.Task(work, loop=asyncio.get_running_loop(), name=name, context=context)


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


async def call(awaitable: Awaitable[T]) -> T:
    """Await other people's code; a cancellation that comes out of it unasked is an error.

    It would end the task that awaits it without a trace.
    """
    try:
        return await awaitable
    except asyncio.CancelledError as exc:
        task = asyncio.current_task()
        if task is None or task.cancelling():
            raise
        raise RuntimeError("the call was cancelled from inside") from exc
