"""A broker whose every misfortune is drawn from one random generator."""

from __future__ import annotations

import asyncio
import random
import secrets
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager

from channels.core import (
    BEGINNING,
    BackendUnavailable,
    ChannelsBackend,
    Event,
    History,
    HistoryRequest,
    Listener,
    Lost,
    Message,
    Outcome,
    Position,
    PublishUnconfirmed,
)
from channels.core.memory import MemoryChannelsBackend


class Lineage(MemoryChannelsBackend):
    """Memory whose records can begin an epoch that descends from the one before.

    Attributes:
        bases: For each epoch that descends from another, that one and the last offset of it.
    """

    def __init__(self, history: int) -> None:
        super().__init__(history)
        self.bases: dict[str, Position] = {}

    def fail_over(self, channel: str, lost: int) -> None:
        record = self._records.get(channel)
        if record is None:
            return
        for _ in range(min(lost, len(record.events))):
            record.events.pop()
            record.offset -= 1
        base, record.epoch = record.top, secrets.token_hex(6)
        self.bases[record.epoch] = base

    def _read(self, request: HistoryRequest) -> History:
        record = self._records.get(request.channel)
        since = request.since
        if record is not None and since is not None and since != BEGINNING:
            epoch, offset = record.epoch, since.offset
            while epoch != since.epoch and epoch in self.bases:
                epoch, base = self.bases[epoch]
                offset = min(offset, base)
            if epoch == since.epoch:
                request = request._replace(since=Position(record.epoch, offset))
        return super()._read(request)


class SimulatedBackend(ChannelsBackend):
    """Memory's records behind a network that delays, repeats, swallows and breaks.

    Args:
        rng: Decides everything.
        history: Events kept per channel; 0: none, and no positions.
    """

    def __init__(self, rng: random.Random, history: int) -> None:
        self.memory = Lineage(history)
        self.keeps_history = history > 0
        self.rng = rng
        self.is_up = True
        self.calm = False
        self.swallows = True
        self._listeners: set[SimulatedListener] = set()

    async def open(self) -> None:
        await self.memory.__aenter__()

    async def close(self) -> None:
        await self.memory.__aexit__(None, None, None)

    async def delay(self) -> None:
        if not self.calm and self.rng.random() < 0.7:
            await asyncio.sleep(self.rng.choice((0, 0, 0.001, 0.01, 0.3)))

    async def trouble(self, probability: float = 0.05) -> None:
        await self.delay()
        if not self.is_up or (not self.calm and self.rng.random() < probability):
            raise BackendUnavailable("simulated")

    def cut(self) -> None:
        for listener in list(self._listeners):
            listener.cut()

    def flush(self, channel: str) -> None:
        """Lose the record of a channel; the next event begins another epoch."""
        self.memory._records.pop(channel, None)

    def fail_over(self, channel: str, lost: int) -> None:
        """Come back without the last writes; the next epoch remembers where it began."""
        self.memory.fail_over(channel, lost)

    async def publish(self, messages: Sequence[Message]) -> Sequence[Outcome]:
        await self.trouble()
        outcomes: list[Outcome] = []
        unreachable: set[str] = set()
        for message in messages:
            if not self.calm and self.rng.random() < 0.02:
                unreachable.add(message.channel)
            if message.channel in unreachable:
                outcomes.append(BackendUnavailable("simulated"))
                continue
            [outcome] = await self.memory.publish([message])
            if not self.calm and self.rng.random() < 0.02:
                outcome = PublishUnconfirmed("simulated")
            outcomes.append(outcome)
        return outcomes

    @asynccontextmanager
    async def listen(self) -> AsyncIterator[Listener]:
        await self.trouble(0.2)
        async with self.memory.listen() as inner:
            listener = SimulatedListener(self, inner)
            self._listeners.add(listener)
            try:
                yield listener
            finally:
                self._listeners.discard(listener)

    async def get_history(self, requests: Sequence[HistoryRequest]) -> Sequence[History]:
        await self.trouble()
        histories = await self.memory.get_history(requests)
        await self.delay()
        return histories


class SimulatedListener:
    def __init__(self, backend: SimulatedBackend, inner: Listener) -> None:
        self._backend = backend
        self._inner = inner
        self._cut = asyncio.Event()

    def cut(self) -> None:
        self._cut.set()

    def _check(self) -> None:
        if self._cut.is_set():
            raise BackendUnavailable("simulated cut")

    async def subscribe(self, channels: Sequence[str]) -> Mapping[str, Position | None]:
        await self._backend.delay()
        self._check()
        await self._backend.trouble(0.03)
        tops = await self._inner.subscribe(channels)
        await self._backend.delay()
        self._check()
        return tops

    async def unsubscribe(self, channels: Sequence[str]) -> None:
        await self._backend.delay()
        self._check()
        await self._inner.unsubscribe(channels)

    async def __aiter__(self) -> AsyncIterator[Sequence[Event | Lost]]:
        rng = self._backend.rng
        arriving = aiter(self._inner)
        seen: list[Event | Lost] = []
        cut = asyncio.ensure_future(self._cut.wait())
        upcoming: asyncio.Future[Sequence[Event | Lost]] | None = None
        try:
            while True:
                upcoming = asyncio.ensure_future(anext(arriving))
                await asyncio.wait({cut, upcoming}, return_when=asyncio.FIRST_COMPLETED)
                self._check()
                batch = list(await upcoming)
                await self._backend.delay()
                self._check()
                if not self._backend.calm and rng.random() < 0.03:
                    lost = rng.choice(batch)
                    assert isinstance(lost, Event)
                    await self._inner.unsubscribe([lost.channel])
                    batch = [e for e in batch if isinstance(e, Event) and e.channel != lost.channel]
                    batch.insert(rng.randint(0, len(batch)), Lost((lost.channel,)))
                elif self._backend.keeps_history and not self._backend.calm:
                    if seen and rng.random() < 0.05:
                        batch = [*rng.sample(seen, 1), *batch]  # comes twice
                    if self._backend.swallows and rng.random() < 0.05:
                        batch.pop(rng.randrange(len(batch)))  # a lost doorbell
                    seen = [*seen[-20:], *batch]
                if batch:
                    yield batch
        finally:
            cut.cancel()
            if upcoming is not None:
                upcoming.cancel()
                await asyncio.wait({upcoming})
