"""Draining when the process is told to end, before its server hears of it."""

from __future__ import annotations

import asyncio
import logging
import signal
from collections.abc import Awaitable, Callable
from types import FrameType
from typing import Any

logger = logging.getLogger("channels")


class TerminationHandler:
    """Stands before the handlers of SIGTERM and SIGINT that a server has set.

    The first signal starts the drain, and is passed on to the server when it has ended; a second
    one is passed on at once. A server that listens to signals through its event loop (hypercorn,
    granian) hears the first at once too, and gives its connections the time it is configured to.

    Args:
        drain: What to do first.
    """

    def __init__(self, drain: Callable[[], Awaitable[object]]) -> None:
        self._drain = drain
        self._loop = asyncio.get_running_loop()
        self._previous: dict[int, Any] = {}
        self._draining: asyncio.Task[None] | None = None
        self._is_told = False

    def install(self) -> None:
        """Take the place of the present handlers; only in the main thread, else warn."""
        for number in (signal.SIGTERM, signal.SIGINT):
            try:
                self._previous[number] = signal.signal(number, self._handle)
            except ValueError:
                logger.warning("drain_on_signal works in the main thread only; call drain()")
                return

    async def remove(self) -> None:
        """Put the handlers back."""
        for number, previous in self._previous.items():
            if signal.getsignal(number) == self._handle:
                signal.signal(number, previous)
        if self._draining is not None and not self._draining.done():
            self._draining.cancel()
            await asyncio.wait([self._draining])

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if self._is_told:
            self._pass_on(number, frame)
        else:
            self._is_told = True
            self._loop.call_soon_threadsafe(self._begin, number)

    def _begin(self, number: int) -> None:
        self._draining = self._loop.create_task(self._drain_first(number), name="channels-drain")

    async def _drain_first(self, number: int) -> None:
        try:
            await self._drain()
        except Exception:
            logger.exception("draining failed")
        self._pass_on(number, None)

    def _pass_on(self, number: int, frame: FrameType | None) -> None:
        previous = self._previous[number]
        if callable(previous):
            previous(number, frame)
        elif previous == signal.SIG_DFL:
            signal.signal(number, signal.SIG_DFL)
            signal.raise_signal(number)
