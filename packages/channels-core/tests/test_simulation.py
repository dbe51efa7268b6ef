"""Random joins, leaves, cancellations, outages and cuts; every stream must add up.

Each consumer's stream is checked for contiguity: within an epoch, offsets go up by one, and where
they do not, or where the epoch changes, a gap was told. At the end, with the broker at peace, every
live consumer has come to the top of the record.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections import Counter
from dataclasses import dataclass, field

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from channels.core import (
    BEGINNING,
    BackendException,
    ChannelsPlugin,
    Event,
    Gap,
    Position,
    Subscriber,
)
from kit import virtual_clock
from kit.simulated_broker import SimulatedBackend

CHANNELS = ["a", "b", "c"]


@dataclass
class Consumer:
    """One subscriber, how it joined, and what it was handed."""

    subscriber: Subscriber
    asked: dict[str, object]
    stream: list[Event] = field(default_factory=list)
    task: asyncio.Task[None] | None = None
    left: set[str] = field(default_factory=set)

    async def iterate(self) -> None:
        async for event in self.subscriber.iter_events():
            self.stream.append(event)

    def take(self, events: object) -> bool:
        assert isinstance(events, (list, tuple))
        self.stream.extend(events)
        return True


class Simulation:
    def __init__(self, seed: int, steps: int, history: int, flushes: bool) -> None:
        self.rng = random.Random(seed)
        self.steps = steps
        self.history = history
        self.flushes = flushes
        self.backend = SimulatedBackend(self.rng, history)
        self.gaps: Counter[str] = Counter()
        self.consumers: list[Consumer] = []
        self.joins: list[asyncio.Task[None]] = []
        self.published = 0

    async def run(self) -> None:
        self.plugin = ChannelsPlugin(
            self.backend,
            channels=CHANNELS,
            subscribe_timeout=3,
            on_gap=lambda channel: self.gaps.update([channel]),
        )
        async with self.plugin:
            for _ in range(self.steps):
                await self.step()
            await self.calm_down()
            self.check()
            for consumer in self.consumers:
                await self.plugin.unsubscribe(consumer.subscriber)
                if consumer.task is not None:
                    await consumer.task
            assert not any(self.plugin.subscriber_count(channel) for channel in CHANNELS)
        others = asyncio.all_tasks() - {asyncio.current_task()}
        assert not others, others

    async def step(self) -> None:
        rng = self.rng
        match rng.choices(
            ["publish", "join", "leave", "cancel", "cut", "outage", "back", "flush", "sleep"],
            [40, 12, 5, 3, 3, 2, 4, 2 if self.flushes else 0, 25],
        )[0]:
            case "publish":
                for _ in range(rng.choice((1, 1, 1, 5, 20))):
                    self.published += 1
                    self.plugin.publish(str(self.published), rng.choice(CHANNELS))
            case "join":
                self.joins.append(asyncio.create_task(self.join()))
            case "leave" if self.consumers:
                consumer = rng.choice(self.consumers)
                channels = rng.sample(CHANNELS, rng.randint(1, 2))
                await self.plugin.unsubscribe(consumer.subscriber, channels)
                consumer.left.update(channels)
            case "cancel" if self.joins:
                rng.choice(self.joins).cancel()
            case "cut":
                self.backend.cut()
            case "outage":
                self.backend.is_up = False
                self.backend.cut()
            case "back":
                self.backend.is_up = True
            case "flush":
                self.backend.flush(rng.choice(CHANNELS))
            case "sleep":
                await asyncio.sleep(rng.choice((0, 0, 0.001, 0.05, 1.0)))

    async def join(self) -> None:
        rng = self.rng
        channels = rng.sample(CHANNELS, rng.randint(1, 3))
        history = rng.choice((None, -1, 3)) if self.history else None
        since: dict[str, str | None] | None = None
        old = rng.choice(self.consumers) if self.consumers and self.history else None
        if old is not None and rng.random() < 0.3:
            positions = old.subscriber.positions
            since = {channel: positions.get(channel) for channel in channels}
        try:
            subscriber = await self.plugin.subscribe(channels, history, since, gaps=True)
        except BackendException:
            return
        asked: dict[str, object] = {
            channel: (since or {}).get(channel) or history for channel in channels
        }
        consumer = Consumer(subscriber, asked)
        self.consumers.append(consumer)
        if rng.random() < 0.5:
            subscriber.attach(consumer.take)
        else:
            consumer.task = asyncio.create_task(consumer.iterate())

    async def calm_down(self) -> None:
        self.backend.is_up = True
        self.backend.calm = True
        await asyncio.sleep(20)
        for outcome in await asyncio.gather(*self.joins, return_exceptions=True):
            assert outcome is None or isinstance(outcome, asyncio.CancelledError), outcome
        # What was swallowed last can only be noticed by what comes next, or by a reconnect.
        for channel in CHANNELS:
            await self.plugin.wait_published("end", channel)
        await asyncio.sleep(5)

    def check(self) -> None:
        for consumer in self.consumers:
            for channel in consumer.asked:
                if channel not in consumer.left:
                    self.check_stream(consumer, channel)

    def check_stream(self, consumer: Consumer, channel: str) -> None:
        stream = [event for event in consumer.stream if event.channel == channel]

        def story() -> str:  # a long one, told only of a failure
            return f"{channel}, asked {consumer.asked[channel]!r}: {stream}"

        payloads = [bytes(event) for event in stream if not isinstance(event, Gap)]
        assert len(set(payloads)) == len(payloads), f"an event came twice in {story()}"
        assert payloads, f"the last event did not come in {story()}"
        assert payloads[-1] == b"end", f"the last event did not come in {story()}"
        if not self.history:
            assert payloads[:-1] == sorted(payloads[:-1], key=int), f"order in {story()}"
            return
        asked = consumer.asked[channel]
        last = Position.parse(asked) if isinstance(asked, str) else None
        told = False
        for event in stream:
            if isinstance(event, Gap):
                told = True
                continue
            position = event.position
            assert position is not None
            if last is not None and not told:
                epoch = position.epoch if last == BEGINNING else last.epoch
                assert position == Position(epoch, last.offset + 1), f"a hole in {story()}"
            last, told = position, False
        if asked == -1 and not self.flushes:
            first = next(event.position for event in stream if not isinstance(event, Gap))
            assert first is not None
            assert first.offset == 1, f"history is not whole in {story()}"
        if not self.flushes:
            assert not any(isinstance(event, Gap) for event in stream), f"a false gap in {story()}"


SIMULATED = settings(
    max_examples=200,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)


@pytest.fixture(autouse=True)
def quiet(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.CRITICAL, logger="channels")


@SIMULATED
@given(seed=st.integers(0, 2**32), steps=st.integers(10, 150))
def test_nothing_is_lost_or_repeated_within_the_history(seed: int, steps: int) -> None:
    virtual_clock.run(Simulation(seed, steps, history=100_000, flushes=False).run())


@SIMULATED
@given(seed=st.integers(0, 2**32), steps=st.integers(10, 150))
def test_every_gap_is_told_where_history_is_short_or_lost(seed: int, steps: int) -> None:
    virtual_clock.run(Simulation(seed, steps, history=5, flushes=True).run())


@SIMULATED
@given(seed=st.integers(0, 2**32), steps=st.integers(10, 150))
def test_without_history_nothing_is_repeated_or_out_of_order(seed: int, steps: int) -> None:
    virtual_clock.run(Simulation(seed, steps, history=0, flushes=False).run())
