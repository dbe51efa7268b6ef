"""Deleting, beside the traffic, what is beyond the history kept."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager

from channels.core._backend import Message
from channels.core._errors import BackendException
from channels.core._event import Position
from channels.core._tasks import end
from channels.core.postgres._lane import Lane
from channels.core.postgres._record import Excess, Record

logger = logging.getLogger("channels.postgres")

TRIM_AFTER = 1.0
SWEEP_EVERY = 60.0

_AT_ONCE = 2_000


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
        self._long: dict[str, Position] = {}
        self._trimmed: dict[str, Position] = {}
        self._trimming: asyncio.Task[None] | None = None
        self._sweeping: asyncio.Task[None] | None = None
        self._warned = False

    def appended(self, messages: Sequence[Message], positions: Sequence[Position]) -> None:
        """Note which channels have become longer than their history."""
        for message, position in zip(messages, positions, strict=True):
            if position.offset > self._keep:
                self._long[message.channel] = position
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
                tops, self._long = self._long, {}
                with self._trying("trim the history"):
                    if not await self._trim_down(tops):
                        self._long = tops | self._long
        finally:
            self._trimming = None

    async def _trim_down(self, tops: dict[str, Position]) -> bool:
        """Delete what lies beyond the history before these positions; False if it is not our turn.

        How far it came is kept until the next time only, for the channels that are in both.
        """
        known = {
            channel: position.offset
            for channel, position in self._trimmed.items()
            if channel in tops and position.epoch == tops[channel].epoch
        }
        self._trimmed = {}
        if unknown := [channel for channel in tops if channel not in known]:
            async with self._lane.connection() as connection:
                oldest = await self._record.oldest(connection, unknown)
            known |= {channel: offset - 1 for channel, offset in oldest.items()}
        for portion in _portions(
            Excess(channel, after, tops[channel].offset - self._keep)
            for channel, after in known.items()
        ):
            async with self._lane.connection() as connection:  # in turn with who reads
                if not await self._record.trim(connection, portion):
                    return False
            for channel, _, upto in portion:
                self._trimmed[channel] = Position(tops[channel].epoch, upto)
        return True

    async def _sweep(self) -> None:
        while True:
            await asyncio.sleep(SWEEP_EVERY)
            with self._trying("sweep up"):
                more = True
                while more:
                    async with self._lane.connection() as connection:  # in turn with who reads
                        more = await self._record.sweep(connection)

    @contextmanager
    def _trying(self, what: str) -> Iterator[None]:
        try:
            yield
            self._warned = False
        except BackendException as exc:
            if not self._warned:
                logger.warning("PostgreSQL: could not %s; it is tried again: %s", what, exc)
                self._warned = True


def _portions(excesses: Iterable[Excess]) -> Iterator[Sequence[Excess]]:
    """Cut into portions of so few events that a statement is short, however many there are."""
    portion: list[Excess] = []
    room = _AT_ONCE
    for channel, start, upto in excesses:
        after = start
        while after < upto:
            last = min(upto, after + room)
            portion.append(Excess(channel, after, last))
            room -= last - after
            after = last
            if not room:
                yield portion
                portion, room = [], _AT_ONCE
    if portion:
        yield portion
