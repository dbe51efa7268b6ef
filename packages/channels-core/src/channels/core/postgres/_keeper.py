"""Deleting, beside the traffic, what is beyond the history kept."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence

from channels.core._backend import Message
from channels.core._errors import BackendException
from channels.core._event import Position
from channels.core.postgres._lane import Lane
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
        tasks = [task for task in (self._trimming, self._sweeping) if task is not None]
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)

    async def _trim(self) -> None:
        try:
            while self._long:
                await asyncio.sleep(TRIM_AFTER)
                channels, self._long = list(self._long), set()
                try:
                    async with self._lane.connection() as connection:
                        await self._record.trim(connection, channels)
                except BackendException as exc:
                    self._warn("trim the history", exc)
        finally:
            self._trimming = None

    async def _sweep(self) -> None:
        while True:
            await asyncio.sleep(SWEEP_EVERY)
            try:
                async with self._lane.connection() as connection:
                    await self._record.sweep(connection)
                self._warned = False
            except BackendException as exc:
                self._warn("sweep up", exc)

    def _warn(self, what: str, exc: BackendException) -> None:
        if not self._warned:
            logger.warning("PostgreSQL: could not %s; it is tried again: %s", what, exc)
            self._warned = True
