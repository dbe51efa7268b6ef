"""One call that everybody who needs its result waits for."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Generic, TypeVar

from channels.core import BackendUnavailable

T = TypeVar("T")


class SharedCall(Generic[T]):
    """Run a coroutine function once at a time; who comes meanwhile shares result or error.

    A waiter that is cancelled leaves the call to the others.
    """

    def __init__(self, function: Callable[[], Coroutine[object, object, T]]) -> None:
        self._function = function
        self._task: asyncio.Task[T] | None = None
        self._closed = False

    async def __call__(self) -> T:
        if self._closed:
            raise BackendUnavailable("the backend was closed")
        if self._task is None:
            self._task = asyncio.create_task(self._function())
            self._task.add_done_callback(self._ended)
        task = self._task
        try:
            return await asyncio.shield(task)
        except asyncio.CancelledError:
            if task.cancelled():  # by close(), which is no reason for the caller to end
                raise BackendUnavailable("the backend was closed") from None
            raise

    async def close(self) -> None:
        """Cancel a call under way, wait until it ended, and let no other begin."""
        self._closed = True
        if (task := self._task) is not None:
            task.cancel()
            await asyncio.wait([task])

    def _ended(self, task: asyncio.Task[T]) -> None:
        self._task = None
        if not task.cancelled():
            task.exception()  # seen, if only by those who left
