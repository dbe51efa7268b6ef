"""Draining when the process is told to end, before its server hears of it."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import socket
import threading
from collections.abc import Awaitable, Callable
from types import FrameType
from typing import Any

logger = logging.getLogger("channels")


class TerminationHandler:
    """Stands between SIGTERM, SIGINT and the server.

    The first of them starts the drain, and is passed on when that has ended; the next one is passed
    on at once. A server may have set a signal handler (uvicorn), or listen through its event loop
    (hypercorn, granian), which reads the numbers of signals from a file descriptor: both are kept
    and passed on to.

    Args:
        drain: What to do first.
    """

    def __init__(self, drain: Callable[[], Awaitable[object]]) -> None:
        self._drain = drain
        self._loop = asyncio.get_running_loop()
        self._previous: dict[int, Any] = {}
        self._loops_fd = -1
        self._ears: tuple[socket.socket, socket.socket] | None = None
        self._draining: asyncio.Task[None] | None = None

    def install(self) -> None:
        """Begin to listen; only in the main thread of a Unix process, else warn."""
        if os.name == "nt" or threading.current_thread() is not threading.main_thread():
            logger.warning("drain_on_signal works in a Unix process's main thread; call drain()")
            return
        self._ears = receiving, sending = socket.socketpair()
        receiving.setblocking(False)
        sending.setblocking(False)
        self._loop.add_reader(receiving, self._read)
        self.claim()
        for number in (signal.SIGTERM, signal.SIGINT):
            previous = signal.getsignal(number)
            if previous != signal.SIG_IGN:
                self._previous[number] = previous
                signal.signal(number, _ignore)

    def claim(self) -> None:
        """Have the numbers of signals written to us; a loop that is run again takes them back."""
        if self._ears is not None:
            ours = self._ears[1].fileno()
            previous = signal.set_wakeup_fd(ours, warn_on_full_buffer=False)
            if previous != ours:
                self._loops_fd = previous

    async def remove(self) -> None:
        """Put everything back."""
        if self._ears is None:
            return
        (receiving, sending), self._ears = self._ears, None
        for number, previous in self._previous.items():
            if signal.getsignal(number) is _ignore:
                signal.signal(number, previous)
        present = signal.set_wakeup_fd(self._loops_fd)
        if present != sending.fileno():
            signal.set_wakeup_fd(present)
        self._loop.remove_reader(receiving)
        receiving.close()
        sending.close()
        if self._draining is not None and not self._draining.done():
            self._draining.cancel()
            await asyncio.wait([self._draining])

    def _read(self) -> None:
        assert self._ears is not None
        for number in self._ears[0].recv(4096):
            if number in self._previous and self._draining is None:
                work = self._drain_first(number)
                self._draining = self._loop.create_task(work, name="channels-drain-on-signal")
            else:
                self._pass_on(number)

    async def _drain_first(self, number: int) -> None:
        try:
            await self._drain()
        except Exception:
            logger.exception("draining failed")
        self._pass_on(number)

    def _pass_on(self, number: int) -> None:
        if self._loops_fd >= 0:
            os.write(self._loops_fd, bytes([number]))
        previous = self._previous.get(number)
        if callable(previous):
            previous(number, None)
        elif previous == signal.SIG_DFL:
            signal.signal(number, signal.SIG_DFL)
            signal.raise_signal(number)


def _ignore(number: int, frame: FrameType | None) -> None:
    """Keep the process alive; the number is read from the socket."""
