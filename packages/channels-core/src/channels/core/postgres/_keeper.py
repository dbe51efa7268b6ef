"""Deleting, beside the traffic, what is beyond the history kept."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from functools import partial

from channels.core._backend import Message
from channels.core._errors import BackendException
from channels.core._event import Position
from channels.core._tasks import end
from channels.core.postgres._lane import Lane
from channels.core.postgres._port import Connection
from channels.core.postgres._record import Record

logger = logging.getLogger("channels.postgres")

TRIM_AFTER = 1.0
SWEEP_EVERY = 60.0


class Keeper:
    """Trim a channel within a second or so of publishing here, and sweep up once a minute.

    The sweep finds what processes left that ended too soon or that publish in SQL, payloads that
    everybody has read, and channels that fell silent. Failing is no one's loss: it is logged once
    and tried again.

    Args:
        lane: The connection to delete on.
        record: What to delete from.
        keep: How many events of a channel are history.
    """

    def __init__(self, lane: Lane, record: Record, keep: int) -> None:
        self._lane = lane
        self._record = record
        self._keep = keep
        self._long: set[str] = set()
        self._trimming: asyncio.Task[None] | None = None
        self._sweeping: asyncio.Task[None] | None = None
        self._warned = False

    def appended(self, messages: Sequence[Message], positions: Sequence[Position]) -> None:
        """Note which channels have become longer than their history."""
        for message, position in zip(messages, positions, strict=True):
            if position.offset > self._keep:
                self._long.add(message.channel)
        if self._long and self._trimming is None:
            self._trimming = asyncio.create_task(self._trim(), name="channels-postgres-trim")

    def start(self) -> None:
        """Begin to sweep; called once it is known that there are tables."""
        if self._sweeping is None:
            self._sweeping = asyncio.create_task(self._sweep(), name="channels-postgres-sweep")

    async def close(self) -> None:
        """Stop."""
        await end(*(task for task in (self._trimming, self._sweeping) if task is not None))

    async def _trim(self) -> None:
        try:
            while self._long:
                await asyncio.sleep(TRIM_AFTER)
                channels, self._long = list(self._long), set()
                await self._repeat(
                    "trim the history", partial(self._record.trim, channels=channels)
                )
        finally:
            self._trimming = None

    async def _sweep(self) -> None:
        while True:
            await asyncio.sleep(SWEEP_EVERY)
            await self._repeat("sweep up", self._record.sweep)

    async def _repeat(self, what: str, portion: Callable[[Connection], Awaitable[bool]]) -> None:
        try:
            more = True
            while more:
                async with self._lane.connection() as connection:  # in turn with who reads
                    more = await portion(connection)
            self._warned = False
        except BackendException as exc:
            if not self._warned:
                logger.warning("PostgreSQL: could not %s; it is tried again: %s", what, exc)
                self._warned = True
