"""Waiting for a while: many at a time, with one timer for all."""

from __future__ import annotations

import asyncio


class Patience:
    """Bounds how long futures are waited for, each equally long.

    The first to begin is the first to be overdue, so one timer is enough, and it need not be
    touched when a future is done in time, as nearly all are. Ten thousand ``asyncio.timeout`` are
    ten thousand timers, made and cancelled.

    Args:
        seconds: How long.
    """

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self.loop = asyncio.get_running_loop()
        self._deadlines: dict[asyncio.Future[None], float] = {}
        self._timer: asyncio.TimerHandle | None = None

    async def wait(self, future: asyncio.Future[None]) -> None:
        """Wait for ``future``, which nobody else does.

        Raises:
            TimeoutError: It was not done in time.
        """
        self._deadlines[future] = deadline = self.loop.time() + self.seconds
        if self._timer is None:
            self._timer = self.loop.call_at(deadline, self._look)
        try:
            await future
        finally:
            del self._deadlines[future]

    def close(self) -> None:
        """Leave no timer behind; nobody waits any more."""
        if self._timer is not None:
            self._timer.cancel()

    def _look(self) -> None:
        self._timer = None
        now = self.loop.time()
        for future, deadline in self._deadlines.items():
            if deadline > now:
                self._timer = self.loop.call_at(deadline, self._look)
                return
            if not future.done():
                future.set_exception(TimeoutError())
