"""Waiting for a while: many at a time, with one timer for all."""

from __future__ import annotations

import asyncio

from channels.core._parking import Parking


class Patience:
    """Bounds how long those who are parked wait, each equally long.

    The first to begin is the first to be overdue, so one timer is enough, and it need not be
    touched when one ends in time, as nearly all do. Ten thousand ``asyncio.timeout`` are
    ten thousand timers, made and cancelled.

    Args:
        seconds: How long.
    """

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self.loop = asyncio.get_running_loop()
        self._deadlines: dict[Parking, float] = {}
        self._timer: asyncio.TimerHandle | None = None

    def begin(self, parking: Parking) -> float:
        """Wake who is parked there with a :class:`TimeoutError` if it is there for too long.

        Returns:
            When that is, in the time of the loop.
        """
        self._deadlines[parking] = deadline = self.loop.time() + self.seconds
        if self._timer is None:
            self._timer = self.loop.call_at(deadline, self._look)
        return deadline

    def end(self, parking: Parking) -> None:
        """Look after it no more; each that began has to end."""
        del self._deadlines[parking]

    def close(self) -> None:
        """Leave no timer behind; nobody waits any more."""
        if self._timer is not None:
            self._timer.cancel()

    def _look(self) -> None:
        self._timer = None
        now = self.loop.time()
        for parking, deadline in self._deadlines.items():
            if deadline > now:
                self._timer = self.loop.call_at(deadline, self._look)
                return
            parking.throw(TimeoutError())
