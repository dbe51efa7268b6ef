import asyncio
import threading
import time
from collections.abc import Iterator, Sequence
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from channels.core import (
    BEGINNING,
    ChannelsPlugin,
    ConfigurationError,
    Event,
    History,
    HistoryNotSupported,
    HistoryRequest,
    MemoryChannelsBackend,
    Message,
    NotRunningError,
    Position,
    memory,
)
from channels.core.testing._tap import Tap


async def publish(backend: MemoryChannelsBackend, channel: str, *payloads: bytes) -> None:
    await backend.publish([Message(channel, data) for data in payloads])


async def read(
    backend: MemoryChannelsBackend, channel: str, since: Position | None = None
) -> History:
    [history] = await backend.get_history([HistoryRequest(channel, since=since)])
    return history


@pytest.mark.parametrize(
    "options",
    [{"history": -1}, {"max_age": 0}, {"max_age": -1.0}, {"max_channels": 0}],
    ids=str,
)
def test_an_option_out_of_range_is_named(options: dict[str, int]) -> None:
    [(name, value)] = options.items()
    with pytest.raises(ConfigurationError, match=f"^{name}={value}: pass"):
        MemoryChannelsBackend(**options)


async def test_history_survives_closing() -> None:
    backend = MemoryChannelsBackend(history=5)
    async with backend:
        await publish(backend, "news", b"one")
    async with backend:
        await publish(backend, "news", b"two")
        assert (await read(backend, "news")).events == [b"one", b"two"]


async def test_it_works_only_while_entered() -> None:
    backend = MemoryChannelsBackend()
    with pytest.raises(NotRunningError, match="async with"):
        await publish(backend, "news", b"one")


async def test_history_of_none_says_how_to_have_one() -> None:
    async with MemoryChannelsBackend() as backend:
        with pytest.raises(HistoryNotSupported, match="history=N"):
            await read(backend, "news")


async def test_two_plugins_on_one_instance_see_each_other() -> None:
    backend = MemoryChannelsBackend()
    async with (
        ChannelsPlugin(backend, channels=["news"]) as one,
        ChannelsPlugin(backend, channels=["news"]) as two,
        two.start_subscription("news") as subscriber,
    ):
        one.publish("hello", "news")
        async for event in subscriber.iter_events():
            assert event == b"hello"
            break


# -- age -------------------------------------------------------------------------------------


class Clock(SimpleNamespace):
    now = 1000.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(memory, "time", clock)
    return clock


async def test_events_are_kept_for_max_age(clock: Clock) -> None:
    async with MemoryChannelsBackend(history=10, max_age=60) as backend:
        await publish(backend, "news", b"one")
        clock.now += 30
        await publish(backend, "news", b"two")
        clock.now += 30
        assert (await read(backend, "news")).events == [b"one", b"two"]
        clock.now += 1
        history = await read(backend, "news")
        assert history.events == [b"two"]
        assert history.position is not None
        assert history.position.offset == 2


async def test_what_expired_is_missing_and_the_numbers_go_on(clock: Clock) -> None:
    async with MemoryChannelsBackend(history=10, max_age=60) as backend:
        await publish(backend, "news", b"one", b"two")
        top = (await read(backend, "news")).position
        assert top is not None
        clock.now += 61
        assert await read(backend, "news") == History([], top, complete=True)
        assert await read(backend, "news", top) == History([], top, complete=True)
        assert await read(backend, "news", Position(top.epoch, 1)) == History([], top, False)
        assert await read(backend, "news", BEGINNING) == History([], top, False)
        await publish(backend, "news", b"three")
        history = await read(backend, "news", top)
        assert (history.events, history.complete) == ([b"three"], True)
        assert history.position == Position(top.epoch, 3)


async def test_age_and_number_both_bound(clock: Clock) -> None:
    async with MemoryChannelsBackend(history=2, max_age=60) as backend:
        await publish(backend, "news", b"one", b"two", b"three")
        clock.now += 50
        await publish(backend, "news", b"four")
        assert (await read(backend, "news")).events == [b"three", b"four"]
        clock.now += 11
        assert (await read(backend, "news")).events == [b"four"]


# -- max_channels ----------------------------------------------------------------------------


async def test_the_channel_silent_longest_is_forgotten() -> None:
    async with MemoryChannelsBackend(history=5, max_channels=2) as backend:
        for channel in ("a", "b", "a", "c"):
            await publish(backend, channel, channel.encode())
        assert (await read(backend, "b")).position is None
        assert (await read(backend, "a")).events == [b"a", b"a"]
        assert (await read(backend, "c")).events == [b"c"]


async def test_a_forgotten_channel_begins_a_new_epoch() -> None:
    async with MemoryChannelsBackend(history=5, max_channels=1) as backend:
        await publish(backend, "a", b"one")
        old = (await read(backend, "a")).position
        assert old is not None
        await publish(backend, "b", b"one")
        await publish(backend, "a", b"two")
        history = await read(backend, "a", old)
        assert (history.events, history.complete) == ([b"two"], False)
        assert history.position is not None
        assert history.position.epoch != old.epoch


async def test_a_channel_with_a_listener_is_never_forgotten() -> None:
    async with MemoryChannelsBackend(history=5, max_channels=2) as backend:
        await publish(backend, "heard", b"one")
        async with backend.listen() as listener:
            tops = await listener.subscribe(["heard"])
            for i in range(100):
                await publish(backend, f"other {i}", b"x")
            history = await read(backend, "heard", tops["heard"])
            assert history == History([], tops["heard"], complete=True)
            assert len(backend._records) == 2
        await publish(backend, "a", b"x")
        await publish(backend, "b", b"x")
        assert list(backend._records) == ["a", "b"]


async def test_what_was_just_published_is_there_though_all_others_are_heard() -> None:
    async with (
        MemoryChannelsBackend(history=5, max_channels=2) as backend,
        backend.listen() as all_,
    ):
        for channel in ("a", "b"):
            await publish(backend, channel, b"x")
        await all_.subscribe(["a", "b"])
        for payload in (b"one", b"two"):
            await publish(backend, "new", payload)
        assert (await read(backend, "new")).events == [b"one", b"two"]
        await publish(backend, "newer", b"one")
        assert (await read(backend, "new")).position is None
        assert len(backend._records) == 3


async def test_records_stay_bounded_among_many_that_are_heard() -> None:
    heard = [f"heard {i}" for i in range(50)]
    async with (
        MemoryChannelsBackend(history=1, max_channels=50) as backend,
        backend.listen() as listener,
    ):
        await listener.subscribe(heard)
        for i in range(1000):
            await publish(backend, heard[i % 50], b"x")
            await publish(backend, f"other {i}", b"x")
        assert len(backend._records) <= 60
        assert set(heard) <= backend._records.keys()


# -- threads ---------------------------------------------------------------------------------


class OtherLoop:
    """An event loop in a thread of its own."""

    def __init__(self) -> None:
        self.loop = asyncio.new_event_loop()
        self.thread = threading.Thread(target=self.loop.run_forever)
        self.thread.start()

    def close(self) -> None:
        self.loop.call_soon_threadsafe(self.loop.stop)
        self.thread.join()
        self.loop.close()


@pytest.fixture
def other() -> Iterator[OtherLoop]:
    other = OtherLoop()
    yield other
    other.close()


async def test_two_loops_in_two_threads_hear_each_other(other: OtherLoop) -> None:
    backend = MemoryChannelsBackend(history=10_000)
    expected = [b"%d" % i for i in range(2000)]

    async def publish_all(channel: str) -> None:
        async with backend:
            for data in expected:
                await publish(backend, channel, data)
                if data.endswith(b"00"):
                    await asyncio.sleep(0)

    async def hear(channel: str, ready: threading.Event) -> Sequence[Event]:
        async with backend, backend.listen() as listener, Tap(listener, patience=10) as tap:
            await tap.subscribe(channel)
            ready.set()
            await tap.until_count(len(expected))
            return tap.events

    def over_there(coroutine):  # type: ignore[no-untyped-def]
        return asyncio.wrap_future(asyncio.run_coroutine_threadsafe(coroutine, other.loop))

    heard_here, heard_there = threading.Event(), threading.Event()
    here = asyncio.create_task(hear("to here", heard_here))
    there = over_there(hear("to there", heard_there))
    await asyncio.to_thread(heard_here.wait)
    await asyncio.to_thread(heard_there.wait)
    await asyncio.gather(publish_all("to there"), over_there(publish_all("to here")))
    assert list(await here) == expected
    assert list(await there) == expected


async def test_threads_share_one_numbering() -> None:
    backend = MemoryChannelsBackend(history=10_000)

    async def publisher(number: int) -> None:
        async with backend:
            for i in range(300):
                await publish(backend, "news", b"%d:%d" % (number, i))

    async with backend:
        await asyncio.gather(
            *[asyncio.to_thread(asyncio.run, publisher(number)) for number in range(4)]
        )
        events = (await read(backend, "news")).events
    offsets = [event.position.offset for event in events if event.position is not None]
    assert offsets == list(range(1, 1201))
    for number in range(4):
        own = [event for event in events if event.startswith(b"%d:" % number)]
        assert own == [b"%d:%d" % (number, i) for i in range(300)]


async def test_an_idle_loop_in_another_thread_is_woken_at_once(other: OtherLoop) -> None:
    backend = MemoryChannelsBackend()
    ready = threading.Event()

    async def hear() -> float:
        async with backend, backend.listen() as listener, Tap(listener, patience=10) as tap:
            await tap.subscribe("news")
            await asyncio.sleep(0)  # lets the iteration begin to wait
            ready.set()
            await tap.until_count(1)
            return time.monotonic()

    heard = asyncio.run_coroutine_threadsafe(hear(), other.loop)
    async with backend:
        await asyncio.to_thread(ready.wait)
        published = time.monotonic()
        await publish(backend, "news", b"now")
        assert await asyncio.wrap_future(heard) - published < 2


async def test_a_listener_on_a_loop_that_died_disturbs_nobody() -> None:
    backend = MemoryChannelsBackend()
    dead = asyncio.new_event_loop()
    listening = backend.listen()

    async def hear() -> None:
        listener = await listening.__aenter__()
        await listener.subscribe(["news"])
        await anext(aiter(listener))

    async with backend, backend.listen() as listener, Tap(listener, patience=5) as tap:
        await tap.subscribe("news")

        def die() -> None:
            task = dead.create_task(hear())
            dead.call_later(0.01, dead.stop)
            dead.run_forever()
            task._log_destroy_pending = False  # type: ignore[attr-defined]
            dead.close()

        await asyncio.to_thread(die)
        await publish(backend, "news", b"still")
        await tap.until_event("news", b"still")


# -- against a model -------------------------------------------------------------------------

CHANNELS = st.sampled_from(["a", "b"])
STEPS = st.lists(
    st.tuples(CHANNELS, st.integers(1, 4))
    | st.tuples(CHANNELS, st.none() | st.integers(0, 6), st.none() | st.integers(0, 12)),
    max_size=30,
)


@given(st.integers(1, 5), STEPS)
def test_history_is_what_a_list_would_give(kept: int, steps: list[tuple[object, ...]]) -> None:
    async def compare() -> None:
        written: dict[str, list[bytes]] = {"a": [], "b": []}
        epochs: dict[str, str] = {}
        async with MemoryChannelsBackend(history=kept) as backend:
            for step in steps:
                match step:
                    case (str(channel), int(count)):
                        for _ in range(count):
                            data = b"%d" % len(written[channel])
                            [outcome] = await backend.publish([Message(channel, data)])
                            written[channel].append(data)
                            assert isinstance(outcome, Position)
                            assert outcome.offset == len(written[channel])
                            assert outcome.epoch == epochs.setdefault(channel, outcome.epoch)
                    case (str(channel), limit, offset):
                        await check(backend, channel, limit, offset, written[channel], epochs)

    async def check(
        backend: MemoryChannelsBackend,
        channel: str,
        limit: object,
        offset: object,
        written: list[bytes],
        epochs: dict[str, str],
    ) -> None:
        assert limit is None or isinstance(limit, int)
        assert offset is None or isinstance(offset, int)
        since = None if offset is None else Position(epochs.get(channel, "unknown"), offset)
        [history] = await backend.get_history([HistoryRequest(channel, limit, since)])
        oldest = max(0, len(written) - kept)
        start = oldest if offset is None else max(oldest, offset)
        if limit is not None:
            start = max(start, len(written) - limit)
        assert list(history.events) == written[start:]
        assert history.position == (Position(epochs[channel], len(written)) if written else None)
        assert history.complete == (
            offset is None or (bool(written) and start <= offset <= len(written))
        )

    asyncio.run(compare())


async def test_a_loop_that_publishes_lets_others_receive() -> None:
    async with ChannelsPlugin("memory://", channels=["news"]) as plugin:
        subscriber = await plugin.subscribe("news")
        received = 0

        def count(events: Sequence[Event]) -> bool:
            nonlocal received
            received += len(events)
            return True

        subscriber.attach(count)
        for _ in range(5 * memory.CROWD):
            await plugin.wait_published("x", "news")
        assert received > memory.CROWD
