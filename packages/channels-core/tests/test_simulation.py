"""Random joins, leaves, cancellations, outages, cuts and restarts; every stream must add up.

Each consumer's stream is checked for contiguity: offsets go up by one, also from an epoch to one
that descends from it, and where they do not a gap was told. At the end, with the broker at peace,
every live consumer has come to the top of the record.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections import Counter
from collections.abc import Coroutine, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from channels.core import (
    BEGINNING,
    BackendException,
    ChannelsPlugin,
    Event,
    Gap,
    NotRunningError,
    Position,
    Subscriber,
    SubscriberStateError,
    _channel,
    _fanout,
    _join,
)
from kit import virtual_clock
from kit.simulated_broker import SimulatedBackend

CHANNELS = ["a", "b", "c"]
MANY = 20
"""Events held before they are read again, few enough to happen."""


@dataclass(eq=False)
class Consumer:
    """One subscriber, how it joined each channel, and what it was handed."""

    subscriber: Subscriber
    rng: random.Random
    asked: dict[str, object] = field(default_factory=dict)
    starts: dict[str, Position | None] = field(default_factory=dict)
    stream: list[Event] = field(default_factory=list)
    task: asyncio.Task[None] | None = None
    left: set[str] = field(default_factory=set)
    busy: bool = False

    async def iterate(self, slowly: bool) -> None:
        while self.subscriber.end_reason is None or self.subscriber.qsize:
            async for event in self.subscriber.iter_events():
                self.stream.append(event)
                if slowly and self.rng.random() < 0.2:
                    await asyncio.sleep(self.rng.choice((0, 0.01, 0.2)))
                if self.rng.random() < 0.05:
                    break

    def take(self, events: Sequence[Event]) -> bool:
        if self.busy:
            return False
        self.stream.extend(events)
        return True

    def take_slowly(self, events: Sequence[Event]) -> bool:
        taken = self.take(events)
        if taken and self.rng.random() < 0.3:
            self.busy = True
            asyncio.get_running_loop().call_later(self.rng.choice((0, 0.01, 0.2)), self.ready)
        return taken

    def ready(self) -> None:
        self.busy = False
        self.subscriber.ready()

    @property
    def lives(self) -> bool:
        return self.subscriber.end_reason is None


@dataclass(eq=False)
class Pipes:
    """Sinks that can be served together, most of the time."""

    rng: random.Random
    all: list[Pipe] = field(default_factory=list)

    def prepare(self, given: Sequence[Event]) -> Sequence[Event] | None:
        return given if self.rng.random() < 0.7 else None

    def write(self, pipe: Pipe, prepared: Sequence[Event]) -> int:
        assert pipe.shared_group is self
        assert pipe.consumer.lives
        if self.rng.random() < 0.1:
            raise BlockingIOError
        written = len(prepared) - (self.rng.random() < 0.1)
        pipe.consumer.take(prepared[:written])
        return written

    def regroup(self) -> None:
        """Let one of them leave, or come back, in the middle of whatever goes on."""
        pipe = self.rng.choice(self.all)
        pipe.is_apart = not pipe.is_apart
        pipe.consumer.subscriber.regroup()


@dataclass(eq=False)
class Pipe:
    """A sink that is one of several; what is written to it past its call must find it ready."""

    consumer: Consumer
    pipes: Pipes
    slowly: bool
    is_apart: bool = False

    def __post_init__(self) -> None:
        self.pipes.all.append(self)

    @property
    def shared_group(self) -> Pipes | None:
        return None if self.consumer.busy or self.is_apart else self.pipes

    @property
    def shared_writer(self) -> Pipe:
        return self

    def __call__(self, events: Sequence[Event]) -> bool:
        if self.consumer.busy:
            return False
        self.write(events)
        return True

    def write(self, events: Sequence[Event]) -> None:
        assert not self.consumer.busy
        take = self.consumer.take_slowly if self.slowly else self.consumer.take
        take(events)
        if self.consumer.busy:
            self.consumer.subscriber.busy()
        if self.consumer.rng.random() < 0.1:
            self.pipes.regroup()

    def finish(self, prepared: Sequence[Event], written: int) -> None:
        self.write(prepared[written:])


class Simulation:
    """A plugin, its consumers, and what befalls them.

    Args:
        seed: Decides everything.
        steps: How much happens.
        history: Events kept per channel; 0: none.
        flushes: Whether records are lost, which makes gaps.
        limits: Whether backlogs are limited and consumers slow, which makes drops.
    """

    def __init__(
        self, seed: int, steps: int, *, history: int, flushes: bool = False, limits: bool = False
    ) -> None:
        self.rng = random.Random(seed)
        self.steps = steps
        self.history = history
        self.flushes = flushes
        self.limits = limits
        self.backend = SimulatedBackend(self.rng, history)
        self.gaps: Counter[str] = Counter()
        self.consumers: list[Consumer] = []
        self.pipes = Pipes(self.rng)
        self.doing: list[asyncio.Task[None]] = []
        self.ids: dict[bytes, str] = {}
        self.published = 0

    async def run(self) -> None:
        rng = self.rng
        self.plugin = ChannelsPlugin(
            self.backend,
            channels=CHANNELS,
            subscribe_timeout=3,
            max_backlog=rng.choice((1, 2, 5, None)) if self.limits else None,
            backlog_strategy=rng.choice(("backoff", "dropleft", "disconnect")),
            on_gap=lambda channel: self.gaps.update([channel]),
        )
        with small_portions(rng.random() < 0.5):
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
        events = {
            "publish": 40,
            "wait": 5 if self.history else 0,  # it may overtake the queue
            "join": 12,
            "further": 5,
            "put": 4 if self.history else 0,
            "leave": 5,
            "quit": 2,
            "cancel": 4,
            "cut": 3,
            "outage": 2,
            "back": 4,
            "flush": 2 if self.flushes else 0,
            "fail over": 2 if self.history else 0,
            "restart": 0.5,
            "sleep": 25,
        }
        live = [consumer for consumer in self.consumers if consumer.lives]
        match rng.choices([*events], [*events.values()])[0]:
            case "publish":
                for _ in range(rng.choice((1, 1, 1, 5, 20))):
                    self.plugin.publish(self.payload(), rng.choice(CHANNELS))
            case "wait":
                self.do(self.wait_published(self.payload(), rng.choice(CHANNELS)))
            case "join":
                self.do(self.join())
            case "further" if live:
                self.do(self.join_further(rng.choice(live)))
            case "put" if live:
                self.do(self.put_history(rng.choice(live)))
            case "leave" if live:
                consumer = rng.choice(live)
                channels = rng.sample(CHANNELS, rng.randint(1, 2))
                consumer.left.update(channels)
                await self.plugin.unsubscribe(consumer.subscriber, channels)
            case "quit" if live:
                await self.plugin.unsubscribe(rng.choice(live).subscriber)
            case "cancel" if self.doing:
                rng.choice(self.doing).cancel()
            case "cut":
                self.backend.cut()
            case "outage":
                self.backend.is_up = False
                self.backend.cut()
            case "back":
                self.backend.is_up = True
            case "flush":
                self.backend.flush(rng.choice(CHANNELS))
            case "fail over":
                # Without a flush nothing that somebody may have been handed is lost.
                self.backend.fail_over(rng.choice(CHANNELS), rng.choice((0, 0, 1, 3)))
            case "restart":
                await self.plugin.stop()
                assert not any(consumer.lives for consumer in self.consumers)
                await self.plugin.start()
            case "sleep":
                await asyncio.sleep(rng.choice((0, 0, 0.001, 0.05, 1.0)))

    def payload(self) -> str:
        self.published += 1
        return str(self.published)

    def do(self, action: Coroutine[Any, Any, None]) -> None:
        self.doing.append(asyncio.create_task(action))

    async def wait_published(self, payload: str, channel: str) -> None:
        try:
            ids = await self.plugin.wait_published(payload, channel)
        except (BackendException, NotRunningError):
            return
        assert bool(ids) == bool(self.history)
        self.ids.update({payload.encode(): at for at in ids.values()})

    async def join(self) -> None:
        rng = self.rng
        channels = rng.sample(CHANNELS, rng.randint(1, 3))
        old = rng.choice(self.consumers) if self.consumers and self.history else None
        since: dict[str, str | None] | None = None
        if old is not None and rng.random() < 0.3:
            positions = old.subscriber.positions
            since = {channel: positions.get(channel) for channel in channels}
        consumer = await self.subscribe(channels, since)
        if consumer is None:
            return
        self.consumers.append(consumer)
        slowly = self.limits and rng.random() < 0.7
        kind = rng.random()
        if kind < 0.25:
            consumer.subscriber.attach(consumer.take_slowly if slowly else consumer.take)
        elif kind < 0.6:
            consumer.subscriber.attach(Pipe(consumer, self.pipes, slowly))
        else:
            consumer.task = asyncio.create_task(consumer.iterate(slowly))

    async def join_further(self, consumer: Consumer) -> None:
        channels = [
            name
            for name in CHANNELS
            if name not in consumer.left and name not in consumer.asked and self.rng.random() < 0.7
        ]
        joined = False
        try:
            joined = await self.subscribe(channels, None, consumer) is not None
        finally:
            if not joined:  # it may have been handed something before that failed
                consumer.left.update(channels)

    async def subscribe(
        self,
        channels: list[str],
        since: dict[str, str | None] | None,
        consumer: Consumer | None = None,
    ) -> Consumer | None:
        history = self.rng.choice((None, -1, 3)) if self.history else None
        known = None if consumer is None else consumer.subscriber
        try:
            subscriber = await self.plugin.subscribe(channels, history, since, known, gaps=True)
        except (BackendException, NotRunningError, SubscriberStateError):
            return None
        consumer = consumer or Consumer(subscriber, self.rng)
        for channel in channels:
            consumer.asked.setdefault(channel, (since or {}).get(channel) or history)
            # A live one may have been handed events since it was let in.
            place = subscriber.place(channel)
            if isinstance(place, _channel.Channel):
                consumer.starts.setdefault(channel, place.starts.get(subscriber))
            else:  # it was in, and left while it waited for the others
                consumer.starts.setdefault(channel, None)
                consumer.left.add(channel)
        return consumer

    async def put_history(self, consumer: Consumer) -> None:
        """Put it for who had none, and only once, so that every event comes once."""
        channels = [name for name, asked in consumer.asked.items() if asked is None]
        for channel in channels:
            consumer.asked[channel] = "put"
        limit = self.rng.choice((None, None, 4))
        try:
            await self.plugin.put_subscriber_history(consumer.subscriber, channels, limit)
        except (BackendException, NotRunningError, SubscriberStateError):
            return

    async def calm_down(self) -> None:
        self.backend.is_up = True
        self.backend.calm = True
        await asyncio.sleep(30)
        for outcome in await asyncio.gather(*self.doing, return_exceptions=True):
            assert outcome is None or isinstance(outcome, asyncio.CancelledError), outcome
        # What was swallowed last can only be noticed by what comes next, or by a reconnect.
        for channel in CHANNELS:
            await self.plugin.wait_published("end", channel)
            await asyncio.sleep(30)

    # -- what must hold --------------------------------------------------------------------

    def check(self) -> None:
        for consumer in self.consumers:
            assert consumer.subscriber.end_reason != "failed", "a sink had something against it"
            for channel in consumer.asked:
                if channel not in consumer.left:
                    self.check_stream(consumer, channel)

    def check_stream(self, consumer: Consumer, channel: str) -> None:
        asked, start = consumer.asked[channel], consumer.starts[channel]
        stream = [event for event in consumer.stream if event.channel == channel]
        story = f"{channel}, asked {asked!r} at {start}, {consumer.subscriber.end_reason}: {stream}"
        events = [event for event in stream if not isinstance(event, Gap)]
        assert len(set(events)) == len(events), f"an event came twice in {story}"
        for event in events:
            assert event.id == self.ids.get(bytes(event), event.id), f"another id in {story}"
        # With room for one, the mark of a gap takes the place of what follows: told as well.
        is_dropped = bool(stream) and isinstance(stream[-1], Gap) and stream[-1].dropped
        if consumer.lives and not (self.limits and is_dropped):
            assert events, f"nothing came in {story}"
            assert events[-1] == b"end", f"the last event did not come in {story}"
            assert consumer.subscriber.position(channel) == events[-1].position
            assert consumer.subscriber.qsize == 0
        if not self.history:
            numbers = [int(event) for event in events if event != b"end"]
            assert numbers == sorted(numbers), f"order in {story}"
            return
        if asked == "put" and start is not None:
            for part in (True, False):
                kept = [e for e in stream if isinstance(e, Gap) or self.is_before(e, start) is part]
                self.check_contiguity(kept, None, story)
        else:
            since = Position.parse(asked) if isinstance(asked, str) else None
            self.check_contiguity(stream, since, story)
        lost = [event for event in stream if isinstance(event, Gap) and not event.dropped]
        if not self.flushes:
            assert not lost, f"a false gap in {story}"
            if asked == -1 and stream and not isinstance(stream[0], Gap):
                assert stream[0].position is not None
                assert stream[0].position.offset == 1, f"history is not whole in {story}"

    def is_before(self, event: Event, start: Position) -> bool:
        at = event.position
        if at is None:
            return False
        epoch, offset = start
        while epoch != at.epoch and epoch in self.backend.memory.bases:
            epoch, offset = self.backend.memory.bases[epoch]
        return epoch == at.epoch and at.offset <= offset

    def check_contiguity(self, stream: list[Event], last: Position | None, story: str) -> None:
        told = False
        for event in stream:
            position = event.position
            if isinstance(event, Gap):
                told = True
                continue
            assert position is not None
            if last is not None and not told:
                assert self.follows(position, last), f"a hole before {position} in {story}"
            last, told = position, False

    def follows(self, position: Position, last: Position) -> bool:
        if last == BEGINNING:
            return position.offset == 1
        epoch, reached = position.epoch, last.offset
        while epoch != last.epoch and epoch in self.backend.memory.bases:
            epoch, base = self.backend.memory.bases[epoch]
            reached = min(reached, base)
        return epoch == last.epoch and position.offset == reached + 1


@contextmanager
def small_portions(wanted: bool) -> Iterator[None]:
    """Let fan-outs yield after every subscriber, and what is held overflow soon."""
    with pytest.MonkeyPatch.context() as patch:
        if wanted:
            patch.setattr(_fanout, "CHUNK", 1)
            patch.setattr(_fanout, "MAX_HOLD", -1.0)
            patch.setattr(_channel, "MAX_HELD", MANY)
            patch.setattr(_join, "MAX_READS", 100)
        yield


at_length = pytest.mark.parametrize(
    "examples",
    [
        30,
        pytest.param(100, marks=pytest.mark.extended),
        pytest.param(1_000, marks=pytest.mark.faults),
    ],
)


@pytest.fixture(autouse=True)
def quiet(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.CRITICAL, logger="channels")


def simulate(examples: int, **options: Any) -> None:
    @settings(max_examples=examples, deadline=None, suppress_health_check=[HealthCheck.too_slow])
    @given(seed=st.integers(0, 2**32), steps=st.integers(10, 150))
    def run(seed: int, steps: int) -> None:
        virtual_clock.run(Simulation(seed, steps, **options).run())

    run()


# One of the five is measured: the others come through the same lines.


@at_length
@pytest.mark.untraced
def test_nothing_is_lost_or_repeated_within_the_history(examples: int) -> None:
    simulate(examples, history=100_000)


@at_length
@pytest.mark.untraced
def test_every_gap_is_told_where_history_is_short_or_lost(examples: int) -> None:
    simulate(examples, history=5, flushes=True)


@at_length
@pytest.mark.untraced
def test_every_drop_is_told_where_backlogs_are_limited(examples: int) -> None:
    simulate(examples, history=100_000, limits=True)


@at_length
def test_every_gap_and_drop_is_told_where_both_are_limited(examples: int) -> None:
    simulate(examples, history=5, flushes=True, limits=True)


@at_length
@pytest.mark.untraced
def test_without_history_nothing_is_repeated_or_out_of_order(examples: int) -> None:
    simulate(examples, history=0)
