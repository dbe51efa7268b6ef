"""Who is connected to this process, and how all of them are sent away."""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Callable, Sequence
from typing import Protocol

from channels.core._tasks import begin
from channels.core.asgi._codes import CROWDED, DRAINING, Refusal

logger = logging.getLogger("channels")

CLOSINGS_PER_SECOND = 500
"""How fast connections are closed in a drain, unless its deadline asks for more."""

BATCH_SECONDS = 0.1
"""Seconds from one batch of closings to the next, on average."""

CHUNK = 256
"""Connections that are looked after in one go."""


class Client(Protocol):
    """A connection as it is looked after."""

    __slots__ = ()

    def tick(self) -> None:
        """Show a sign of life, or leave if the client took nothing since the last tick."""
        ...

    async def dismiss(self, spread: float) -> None:
        """Send what is queued, then close; a reconnect belongs into the next ``spread`` seconds."""
        ...

    def abort(self) -> None:
        """Leave without a word."""
        ...


class Connections:
    """The clients of one gateway.

    Args:
        limit: How many there may be.
        heartbeat: Seconds from one tick to the next of each.
        on_first: Called when a client comes and there was none.
    """

    def __init__(
        self, limit: int, heartbeat: float, on_first: Callable[[], None] | None = None
    ) -> None:
        self._on_first = on_first
        self._limit = limit
        self._heartbeat = heartbeat
        self._clients: set[Client] = set()
        self._due: set[Client] = set()  # who has no tick yet in this heartbeat
        self._none_left = asyncio.Event()
        self._drain: asyncio.Task[int] | None = None

    def __len__(self) -> int:
        return len(self._clients)

    @property
    def draining(self) -> bool:
        """Whether nobody is let in any more."""
        return self._drain is not None

    def enter(self, client: Client) -> Refusal | None:
        """Count a client in, or say why not."""
        if self.draining:
            return DRAINING
        if len(self._clients) >= self._limit:
            return CROWDED
        if not self._clients and self._on_first is not None:
            self._on_first()
        self._clients.add(client)
        return None

    def leave(self, client: Client) -> None:
        self._clients.discard(client)
        self._due.discard(client)  # which would keep all that it holds until its turn
        if not self._clients:
            self._none_left.set()

    async def watch(self) -> None:
        """Tick every client once per heartbeat, not all at once."""
        while True:
            self._due = set(self._clients)
            steps = max(1, -(-len(self._due) // CHUNK))
            for _ in range(steps):
                self._tick_some()
                await asyncio.sleep(self._heartbeat / steps)

    def _tick_some(self) -> None:
        for _ in range(CHUNK):
            if not self._due:
                return
            try:
                self._due.pop().tick()
            except Exception:
                logger.exception("a connection's heartbeat failed")

    async def drain(self, deadline: float) -> int:
        """Let nobody in, and close all within ``deadline`` seconds; the first call counts.

        Returns:
            How many had to be left without a word.
        """
        if self._drain is None:
            self._drain = begin(self._close_all(deadline), "channels-drain")
        return await asyncio.shield(self._drain)

    async def _close_all(self, deadline: float) -> int:
        loop = asyncio.get_running_loop()
        until = loop.time() + deadline
        clients = list(self._clients)
        random.shuffle(clients)
        spread = min(deadline / 2, len(clients) / CLOSINGS_PER_SECOND)
        count = max(1, round(spread / BATCH_SECONDS))
        for batch in _split(clients, count):
            for client in batch:
                if client in self._clients:
                    await _dismiss(client, spread)
            if count > 1:
                await asyncio.sleep(random.uniform(0, 2 * spread / count))
        await self._wait_until_empty(until)
        stalled = list(self._clients)
        for client in stalled:
            _abort(client)
        if stalled:
            logger.warning("%d clients did not leave in time and were cut", len(stalled))
            await self._wait_until_empty(loop.time() + 1.0)
        return len(stalled)

    async def _wait_until_empty(self, until: float) -> None:
        self._none_left.clear()
        if self._clients:
            try:
                async with asyncio.timeout_at(until):
                    await self._none_left.wait()
            except TimeoutError:
                pass


async def _dismiss(client: Client, spread: float) -> None:
    try:
        await client.dismiss(spread)
    except Exception:
        logger.exception("a connection could not be sent away; it is cut")
        _abort(client)


def _abort(client: Client) -> None:
    try:
        client.abort()
    except Exception:
        logger.exception("a connection could not be cut")


def _split(clients: Sequence[Client], count: int) -> list[Sequence[Client]]:
    size = max(1, -(-len(clients) // count))
    return [clients[start : start + size] for start in range(0, len(clients), size)]
