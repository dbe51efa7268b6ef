"""The plugin over the memory backend: what is published, who gets it, and what is refused."""

from __future__ import annotations

import asyncio
import itertools
import logging
import math
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

import pytest

from channels.core import (
    ChannelsBackend,
    ChannelsException,
    ChannelsPlugin,
    ConfigurationError,
    EncodeError,
    Event,
    Gap,
    HistoryNotSupported,
    InvalidChannelNameError,
    InvalidPositionError,
    MemoryChannelsBackend,
    Message,
    NotRunningError,
    Outcome,
    PayloadTooLarge,
    PublishQueueFull,
    Subscriber,
    SubscriberStateError,
    UnknownChannelError,
)
from channels.core._occasionally import Occasionally
from channels.core.testing import FaultyBackend
from channels.core.testing._wrapper import BackendWrapper
from kit import eventually


class Sizes(BackendWrapper):
    """Notes how many messages come at once; takes some turns of the loop, as a broker does."""

    def __init__(self, inner: ChannelsBackend) -> None:
        super().__init__(inner)
        self.sizes: list[int] = []

    async def publish(self, messages: Sequence[Message]) -> Sequence[Outcome]:
        self.sizes.append(len(messages))
        for _ in range(5):
            await asyncio.sleep(0)
        return await super().publish(messages)


def make(history: int = 0, **options: Any) -> ChannelsPlugin:
    options.setdefault("channels", ["a", "b"])
    return ChannelsPlugin(MemoryChannelsBackend(history), **options)


async def take(subscriber: Subscriber, count: int) -> list[bytes]:
    """Return the next ``count`` events' payloads."""
    taken: list[bytes] = []
    async with asyncio.timeout(5):
        while len(taken) < count:
            async for event in subscriber.iter_events():
                taken.append(bytes(event))
                if len(taken) == count:
                    break
    return taken


# -- publishing ------------------------------------------------------------------------------


async def test_publish_reaches_every_subscriber_of_the_channel_and_no_other() -> None:
    async with make() as plugin:
        first, second = await plugin.subscribe("a"), await plugin.subscribe(["a", "b"])
        other = await plugin.subscribe("b")
        plugin.publish({"x": 1}, "a")
        plugin.publish("text", "b")
        assert await take(first, 1) == [b'{"x":1}']
        assert await take(second, 2) == [b'{"x":1}', b"text"]
        assert await take(other, 1) == [b"text"]


async def test_an_event_knows_its_channel_and_is_shared() -> None:
    async with make(10) as plugin:
        first, second = await plugin.subscribe("a"), await plugin.subscribe("a")
        ids = await plugin.wait_published(b"x", "a")
        [one] = [event async for event in _first(first)]
        [two] = [event async for event in _first(second)]
        assert one is two
        assert (one.channel, one.id) == ("a", ids["a"])


async def _first(subscriber: Subscriber) -> Any:
    async for event in subscriber.iter_events():
        yield event
        return


async def test_names_may_come_from_a_generator_and_repeats_count_once() -> None:
    async with make() as plugin:
        subscriber = await plugin.subscribe(name for name in ("a", "b", "a"))
        plugin.publish(b"x", (name for name in ("b", "b")))
        await plugin.wait_published(b"y", iter(["a", "a"]))
        assert sorted(await take(subscriber, 2)) == [b"x", b"y"]
        assert subscriber.qsize == 0
        await plugin.unsubscribe(subscriber, (name for name in ("a", "b")))
        assert subscriber.channels == frozenset()


async def test_publishing_to_nobody_and_to_no_channel_is_fine() -> None:
    async with make() as plugin:
        plugin.publish(b"x", "a")
        plugin.publish(b"x", [])
        assert await plugin.wait_published(b"x", []) == {}
        assert await plugin.wait_published(b"x", ["a"]) == {}


async def test_publish_from_threads_wakes_an_idle_loop_and_keeps_each_threads_order() -> None:
    async with make(max_pending=100_000) as plugin:
        subscriber = await plugin.subscribe("a")
        await asyncio.sleep(0.02)  # everything is idle

        def publish(thread: int) -> None:
            for n in range(500):
                plugin.publish(f"{thread}:{n}", "a")

        await asyncio.gather(*(asyncio.to_thread(publish, thread) for thread in range(4)))
        taken = [payload.decode().split(":") for payload in await take(subscriber, 2000)]
        for thread in "0123":
            assert [int(n) for t, n in taken if t == thread] == list(range(500))


async def test_large_events_share_a_call_only_as_far_as_it_stays_small() -> None:
    class Measured(FaultyBackend):
        def __init__(self) -> None:
            super().__init__()
            self.sizes: list[int] = []

        async def publish(self, messages: Sequence[Message]) -> Sequence[Outcome]:
            self.sizes.append(sum(len(message.data) for message in messages))
            return await super().publish(messages)

    backend = Measured()
    async with ChannelsPlugin(backend, channels=["a"]) as plugin:
        payload = bytes(1024 * 1024)
        for _ in range(10):
            plugin.publish(payload, "a")
        await asyncio.gather(*(plugin.wait_published(payload, "a") for _ in range(10)))
    assert sum(backend.sizes) == 20 * len(payload)
    assert max(backend.sizes) == 4 * len(payload)


async def test_publish_while_another_threads_loop_stops_is_refused_like_afterwards() -> None:
    class StopsMeanwhile(ChannelsPlugin):
        """Stops between two looks of another thread at whether it runs."""

        looks = 0

        def __getattribute__(self, name: str) -> object:
            if name == "_link":
                StopsMeanwhile.looks += 1
                if StopsMeanwhile.looks > 1:
                    return None
            return super().__getattribute__(name)

    async with make() as plugin:
        stopping = StopsMeanwhile("memory://", channels=["a"])
        stopping._link = plugin._link
        try:
            stopping.publish("x", "a")
        except NotRunningError:
            pass  # either is an answer; an AttributeError is none


async def test_concurrent_wait_published_share_a_call_and_each_gets_its_own_answer() -> None:
    backend = FaultyBackend(MemoryChannelsBackend(1000))
    async with ChannelsPlugin(backend, channels=["a", "b"]) as plugin:
        backend.delays["publish"] = 0.01
        answers = await asyncio.gather(
            *(plugin.wait_published(str(n), ["a", "b"] if n % 2 else "a") for n in range(100))
        )
        assert [int(answer["a"].split("-")[1]) for answer in answers] == list(range(1, 101))
        assert [sorted(answer) for answer in answers] == [["a"], ["a", "b"]] * 50
        assert backend.calls["publish"] == 2


async def test_a_crowd_that_publishes_again_and_again_is_served_by_halves() -> None:
    """One half is on its way while the other is answered; nobody flies alone every other time."""
    backend = Sizes(MemoryChannelsBackend())
    async with ChannelsPlugin(backend, channels=["a"]) as plugin:

        async def publish() -> None:
            for n in range(20):
                await plugin.wait_published(str(n), "a")

        await asyncio.gather(*(publish() for _ in range(64)))
    assert sum(backend.sizes) == 64 * 20
    assert backend.sizes.count(32) > 30
    assert backend.sizes.count(1) <= 2


async def test_a_cancelled_wait_published_takes_nobody_else_with_it() -> None:
    backend = FaultyBackend(MemoryChannelsBackend(1000))
    async with ChannelsPlugin(backend, channels=["a"]) as plugin:
        with backend.stall("publish"):
            calls = [asyncio.create_task(plugin.wait_published(str(n), "a")) for n in range(10)]
            await asyncio.sleep(0)
            for call in calls[::3]:
                call.cancel()
            await asyncio.sleep(0)
        outcomes = await asyncio.gather(*calls, return_exceptions=True)
        cancelled = [isinstance(outcome, asyncio.CancelledError) for outcome in outcomes]
        assert cancelled == [n % 3 == 0 for n in range(10)]
        # The one that flew may have been published; those that waited were not.
        published = {bytes(e) for e in (await backend.get_history([_all("a")]))[0].events}
        assert published - {b"0"} == {b"1", b"2", b"4", b"5", b"7", b"8"}


def _all(channel: str) -> Any:
    from channels.core import HistoryRequest

    return HistoryRequest(channel)


async def test_stopping_sends_what_is_queued() -> None:
    backend = MemoryChannelsBackend(10_000)
    plugin = ChannelsPlugin(backend, channels=["a"])
    async with plugin:
        for n in range(3000):
            plugin.publish(str(n), "a")
    async with plugin:
        [history] = await backend.get_history([_all("a")])
    assert [int(event) for event in history.events] == list(range(3000))


# -- subscribing -----------------------------------------------------------------------------


async def test_a_subscription_ends_with_its_context() -> None:
    async with make() as plugin:
        async with plugin.start_subscription(["a", "b"]) as subscriber:
            assert subscriber.channels == {"a", "b"}
            assert plugin.subscriber_count("a") == 1
            plugin.publish(b"x", "a")
            await eventually(lambda: subscriber.qsize, "the event")
        assert plugin.subscriber_count("a") == 0
        assert [bytes(event) async for event in subscriber.iter_events()] == [b"x"]
        assert subscriber.end_reason == "unsubscribed"


async def test_unsubscribing_from_one_channel_leaves_the_other() -> None:
    async with make() as plugin:
        subscriber = await plugin.subscribe(["a", "b"])
        await plugin.unsubscribe(subscriber, "a")
        await plugin.unsubscribe(subscriber, ["a"])  # is not in it any more
        plugin.publish(b"no", "a")
        plugin.publish(b"yes", "b")
        assert await take(subscriber, 1) == [b"yes"]
        assert subscriber.channels == {"b"}
        assert subscriber.end_reason is None


async def test_a_live_subscriber_joins_further_channels() -> None:
    async with make(10) as plugin:
        await plugin.wait_published(b"old", "b")
        subscriber = await plugin.subscribe("a")
        same = await plugin.subscribe(["a", "b"], history=-1, subscriber=subscriber)
        assert same is subscriber
        plugin.publish(b"new", ["a", "b"])
        assert sorted(await take(subscriber, 3)) == [b"new", b"new", b"old"]
        assert plugin.subscriber_count("a") == 1
        await plugin.unsubscribe(subscriber)
        with pytest.raises(SubscriberStateError, match="unsubscribed"):
            await plugin.subscribe("b", subscriber=subscriber)


async def test_leaving_and_joining_in_one_tick_leaves_nobody_deaf() -> None:
    async with make() as plugin:
        for _ in range(50):
            old = await plugin.subscribe("a")
            leaving = asyncio.create_task(plugin.unsubscribe(old))
            new = await plugin.subscribe("a")
            await leaving
            await plugin.wait_published(b"x", "a")
            assert await take(new, 1) == [b"x"]
            await plugin.unsubscribe(new)


async def test_a_joiner_that_is_cancelled_leaves_nothing_behind() -> None:
    backend = FaultyBackend()
    async with ChannelsPlugin(backend, arbitrary_channels_allowed=True) as plugin:
        with backend.stall("subscribe"):
            joins = [asyncio.create_task(plugin.subscribe(["x", str(n)])) for n in range(10)]
            await eventually(lambda: backend.calls["subscribe"], "the call")
            for join in joins:
                join.cancel()
            await asyncio.wait(joins)
        await eventually(lambda: not _table(plugin), "an empty table")


def _table(plugin: ChannelsPlugin) -> dict[str, object]:
    assert plugin._link is not None
    return dict(plugin._link.router.channels)


async def test_nothing_grows_with_the_number_of_names_ever_seen() -> None:
    async with make(channels=None, arbitrary_channels_allowed=True) as plugin:
        for n in range(300):
            async with plugin.start_subscription([f"room {n}", f"other {n}"]):
                pass
        await eventually(lambda: not _table(plugin), "an empty table")


async def test_a_refused_channel_fails_alone() -> None:
    backend = FaultyBackend()
    backend.refused.add("b")
    async with ChannelsPlugin(backend, channels=["a", "b", "c"]) as plugin:
        joins = await asyncio.gather(
            plugin.subscribe("a"),
            plugin.subscribe(["b", "c"]),
            plugin.subscribe("c"),
            return_exceptions=True,
        )
        assert isinstance(joins[1], ChannelsException)
        assert isinstance(joins[0], Subscriber)
        assert isinstance(joins[2], Subscriber)
        assert [plugin.subscriber_count(name) for name in "abc"] == [1, 0, 1]


# -- history ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("history", "expected"), [(None, 0), (0, 0), (2, 2), (-1, 5), (100, 5)], ids=str
)
async def test_history_comes_before_what_is_live(history: int | None, expected: int) -> None:
    async with make(10) as plugin:
        for n in range(5):
            await plugin.wait_published(str(n), "a")
        subscriber = await plugin.subscribe("a", history=history)
        await plugin.wait_published("live", "a")
        wanted = [*(str(n).encode() for n in range(5 - expected, 5)), b"live"]
        assert await take(subscriber, expected + 1) == wanted


async def test_history_does_not_count_against_the_backlog() -> None:
    async with make(100, max_backlog=3) as plugin:
        for n in range(20):
            await plugin.wait_published(str(n), "a")
        subscriber = await plugin.subscribe("a", history=-1)
        for n in range(20, 25):
            await plugin.wait_published(str(n), "a")
        await eventually(lambda: subscriber.dropped == 2, "two drops")
        assert await take(subscriber, 23) == [str(n).encode() for n in range(23)]


async def test_resuming_goes_on_where_the_consumer_was() -> None:
    async with make(100) as plugin:
        first = await plugin.subscribe(["a", "b"])
        for n in range(6):
            await plugin.wait_published(str(n), "a")
        assert await take(first, 4) == [b"0", b"1", b"2", b"3"]
        positions = first.positions
        await plugin.unsubscribe(first)
        assert first.positions == positions
        await plugin.wait_published("6", "a")
        again = await plugin.subscribe(["a", "b"], since=positions)
        assert (again.recovered, again.unrecovered) == (True, frozenset())
        assert await take(again, 3) == [b"4", b"5", b"6"]
        assert first.qsize == 2  # what waited can still be had


async def test_what_cannot_be_resumed_is_said_by_channel() -> None:
    async with make(2) as plugin:
        ids = await plugin.wait_published("0", ["a", "b"])
        for n in range(5):
            await plugin.wait_published(str(n), "a")
        subscriber = await plugin.subscribe(["a", "b"], since=ids)
        assert subscriber.recovered is False
        assert subscriber.unrecovered == {"a"}
        assert await take(subscriber, 2) == [b"3", b"4"]
        fresh = await plugin.subscribe("a")
        assert fresh.recovered is None
        stranger = await plugin.subscribe("a", since="deadbeef-3")
        assert stranger.recovered is False


async def test_a_sinks_position_is_the_channels_place() -> None:
    async with make(100) as plugin:
        subscriber = await plugin.subscribe("a")
        takes = True
        got: list[Event] = []

        def sink(events: Any) -> bool:
            if takes:
                got.extend(events)
            return takes

        subscriber.attach(sink)
        ids = await plugin.wait_published("1", "a")
        await eventually(lambda: len(got) == 1, "the event")
        assert subscriber.positions == ids
        takes = False
        await plugin.wait_published("2", "a")
        await eventually(lambda: subscriber.qsize == 1, "the backlog")
        assert subscriber.positions == ids
        takes = True
        subscriber.ready()
        ids = await plugin.wait_published("3", "a")
        await eventually(lambda: len(got) == 3, "all")
        assert subscriber.positions == ids
        await plugin.unsubscribe(subscriber)
        assert subscriber.positions == ids


async def test_put_history_waits_while_the_backlog_is_full_and_keeps_the_order() -> None:
    async with make(100, max_backlog=3) as plugin:
        for n in range(20):
            await plugin.wait_published(str(n), "a")
        subscriber = await plugin.subscribe("a")
        putting = asyncio.create_task(plugin.put_subscriber_history(subscriber, ["a"], limit=10))
        await eventually(lambda: subscriber.qsize == 3, "a full backlog")
        await plugin.wait_published("live", "a")
        taken = await take(subscriber, 11)
        await putting
        assert taken == [*(str(n).encode() for n in range(10, 20)), b"live"]
        await plugin.wait_published("later", "a")
        assert await take(subscriber, 1) == [b"later"]


async def test_put_history_gives_only_what_lies_before_the_start() -> None:
    async with make(100) as plugin:
        await plugin.wait_published("before", "a")
        subscriber = await plugin.subscribe("a")
        await plugin.wait_published("after", "a")
        await eventually(lambda: subscriber.qsize == 1, "the event")
        await plugin.put_subscriber_history(subscriber, "a")
        assert await take(subscriber, 2) == [b"before", b"after"]
        assert subscriber.qsize == 0
        with pytest.raises(SubscriberStateError, match="'b'"):
            await plugin.put_subscriber_history(subscriber, "b")


async def test_put_history_that_is_cancelled_loses_nothing_live() -> None:
    async with make(100, max_backlog=2) as plugin:
        for n in range(5):
            await plugin.wait_published(str(n), "a")
        subscriber = await plugin.subscribe("a")
        putting = asyncio.create_task(plugin.put_subscriber_history(subscriber, "a"))
        await eventually(lambda: subscriber.qsize == 2, "a full backlog")
        putting.cancel()
        await asyncio.wait([putting])
        assert await take(subscriber, 2) == [b"0", b"1"]
        await plugin.wait_published("live", "a")
        assert await take(subscriber, 1) == [b"live"]


async def test_joins_with_history_beside_a_full_speed_publisher_have_no_gap() -> None:
    backend = MemoryChannelsBackend(100_000)
    async with ChannelsPlugin(backend, channels=["a"], max_pending=100_000) as plugin:
        going = True

        async def publish() -> int:
            n = 0
            while going:
                for _ in range(20):
                    plugin.publish(str(n), "a")
                    n += 1
                await asyncio.sleep(0)
            return n

        publisher = asyncio.create_task(publish())
        subscribers = []
        for n in range(100):
            subscribers.append(await plugin.subscribe("a", history=(-1, 10, 1)[n % 3]))
            await asyncio.sleep(0)
        going = False
        count = await publisher
        for subscriber in subscribers:
            await eventually(lambda s=subscriber: _last(s) == count - 1, "the last event")
            numbers = [int(event) for event in subscriber._waiting()]
            assert numbers == list(range(numbers[0], count))
        assert int(subscribers[0]._waiting()[0]) == 0


def _last(subscriber: Subscriber) -> int:
    waiting = subscriber._waiting()
    return int(waiting[-1]) if waiting else -1


# -- many ------------------------------------------------------------------------------------


@pytest.mark.untraced
@pytest.mark.parametrize("kind", ["sink", "iterator"])
async def test_a_large_fan_out_lets_the_loop_run_and_keeps_order(kind: str) -> None:
    async with make(100) as plugin:
        counts = [0] * 5000
        tasks = []
        subscribers = []

        async def iterate(index: int, subscriber: Subscriber) -> None:
            async for event in subscriber.iter_events():
                assert int(event) == counts[index]
                counts[index] += 1

        def sink(index: int) -> Callable[[Any], bool]:
            def take(events: Any) -> bool:
                for event in events:
                    assert int(event) == counts[index]
                    counts[index] += 1
                return True

            return take

        for index in range(len(counts)):
            subscriber = await plugin.subscribe("a")
            subscribers.append(subscriber)
            if kind == "sink":
                subscriber.attach(sink(index))
            else:
                tasks.append(asyncio.create_task(iterate(index, subscriber)))
        for n in range(10):
            plugin.publish(str(n), "a")
            if n % 3 == 0:
                await asyncio.sleep(0)
        await eventually(lambda: counts == [10] * 5000, "all events everywhere")
        position = subscribers[0].positions
        assert all(subscriber.positions == position for subscriber in subscribers)
        await asyncio.gather(*(plugin.unsubscribe(subscriber) for subscriber in subscribers))
        await asyncio.gather(*tasks)


async def test_a_large_fan_out_lets_the_loop_run(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 0.0
    turns: list[float] = []

    def sink(events: Any) -> bool:
        nonlocal now
        now += 1e-5
        return True

    async def look() -> None:
        while True:
            turns.append(now)
            await asyncio.sleep(0)

    monkeypatch.setattr(time, "perf_counter", lambda: now)
    async with make(1) as plugin:
        for _ in range(2000):
            (await plugin.subscribe("a")).attach(sink)
        looking = asyncio.create_task(look())
        plugin.publish("x", "a")
        await eventually(lambda: now > 0.0199, "everybody to be served")
        looking.cancel()
        await asyncio.wait([looking])
    held = [later - earlier for earlier, later in itertools.pairwise(turns)]
    assert 0.00025 <= max(held) <= 0.001 + 1e-9


async def test_who_leaves_during_a_large_fan_out_is_not_served_and_knows_its_place() -> None:
    async with make(100) as plugin:
        served: list[int] = []
        subscribers: list[Subscriber] = []
        leaving: list[asyncio.Task[None]] = []

        def sink(index: int) -> Callable[[Any], bool]:
            def take(events: Any) -> bool:
                served.append(index)
                if index == 0:  # as a handler does that sees its client go
                    leaving.append(asyncio.create_task(plugin.unsubscribe(subscribers[-1])))
                return True

            return take

        await plugin.wait_published("first", "a")
        for index in range(2000):
            subscribers.append(await plugin.subscribe("a"))
            subscribers[-1].attach(sink(index))
        before = subscribers[-1].positions
        import channels.core._fanout as fanout

        original, fanout.MAX_HOLD = fanout.MAX_HOLD, 0.0
        try:
            ids = await plugin.wait_published("second", "a")
            await eventually(lambda: len(served) == 1999, "everybody else")
        finally:
            fanout.MAX_HOLD = original
        await asyncio.gather(*leaving)
        assert 1999 not in served
        assert subscribers[-1].positions == before
        assert subscribers[1].positions == ids


# -- start and stop --------------------------------------------------------------------------


def test_a_plugin_made_at_import_runs_on_one_loop_after_another() -> None:
    plugin = make(10)

    async def use() -> None:
        async with plugin, plugin.start_subscription("a") as subscriber:
            plugin.publish(b"x", "a")
            assert await take(subscriber, 1) == [b"x"]

    for _ in range(3):
        asyncio.run(use())


async def test_stopping_ends_the_streams_after_what_is_queued() -> None:
    plugin = make()
    async with plugin:
        subscriber = await plugin.subscribe("a")
        plugin.publish(b"last", "a")
    assert [bytes(event) async for event in subscriber.iter_events()] == [b"last"]
    assert subscriber.end_reason == "stopped"
    await plugin.unsubscribe(subscriber)  # as a finally would, afterwards
    await plugin.stop()


async def test_before_start_and_after_stop_every_use_says_so() -> None:
    plugin = make(5)
    for _ in range(2):
        with pytest.raises(NotRunningError, match="async with plugin"):
            plugin.publish(b"x", "a")
        with pytest.raises(NotRunningError):
            await plugin.wait_published(b"x", "a")
        with pytest.raises(NotRunningError):
            await plugin.subscribe("a")
        with pytest.raises(NotRunningError):
            await plugin.put_subscriber_history(Subscriber(), "a")
        assert plugin.subscriber_count("a") == 0
        async with plugin:
            with pytest.raises(NotRunningError, match="running already"):
                await plugin.start()


async def test_two_plugins_on_one_memory_backend_see_each_other() -> None:
    backend = MemoryChannelsBackend()
    async with (
        ChannelsPlugin(backend, channels=["a"]) as one,
        ChannelsPlugin(backend, channels=["a"]) as two,
    ):
        subscriber = await two.subscribe("a")
        one.publish(b"x", "a")
        assert await take(subscriber, 1) == [b"x"]


async def test_a_plugin_that_starts_is_stopped_by_cancelling_its_start() -> None:
    backend = FaultyBackend()
    plugin = ChannelsPlugin(backend, channels=["a"])
    with backend.stall("connect"):
        starting = asyncio.create_task(plugin.start())
        await asyncio.sleep(0)
        with pytest.raises(NotRunningError, match="cancel start"):
            await plugin.stop()
        starting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await starting
    await plugin.stop()
    async with plugin:
        plugin.publish(b"x", "a")


async def test_a_plugin_in_another_thread_sees_it_too() -> None:
    backend = MemoryChannelsBackend()
    ready, done = threading.Event(), threading.Event()
    got: list[bytes] = []

    async def listen() -> None:
        async with ChannelsPlugin(backend, channels=["a"]) as plugin:
            subscriber = await plugin.subscribe("a")
            ready.set()
            got.extend(await take(subscriber, 3))
            done.set()

    thread = threading.Thread(target=asyncio.run, args=(listen(),))
    thread.start()
    async with ChannelsPlugin(backend, channels=["a"]) as plugin:
        await asyncio.to_thread(ready.wait, 5)
        for n in range(3):
            plugin.publish(str(n), "a")
        await asyncio.to_thread(done.wait, 5)
    await asyncio.to_thread(thread.join, 5)
    assert got == [b"0", b"1", b"2"]


async def test_a_plugin_without_channels_starts_with_a_warning(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with make(channels=None) as plugin:
        assert "arbitrary_channels_allowed" in caplog.text
        with pytest.raises(UnknownChannelError, match="arbitrary_channels_allowed=True"):
            await plugin.subscribe("a")


# -- bad input -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"backend": 5}, "backend= is int"),
        ({"backend": "nosuch://"}, "nosuch"),
        ({"channels": ["$x"]}, "reserved"),
        ({"channels": [1]}, "not str"),
        ({"max_backlog": 0}, "max_backlog=0"),
        ({"backlog_strategy": "x"}, "backlog_strategy='x'"),
        ({"subscriber_class": int}, "subscriber_class"),
        ({"max_pending": 0}, "max_pending=0"),
        ({"connect_timeout": 0}, "connect_timeout=0"),
        ({"subscribe_timeout": -1}, "subscribe_timeout=-1"),
        ({"shutdown_timeout": 0}, "shutdown_timeout=0"),
    ],
    ids=str,
)
def test_a_wrong_option_is_named(options: dict[str, Any], named: str) -> None:
    arguments = {"backend": MemoryChannelsBackend(), "channels": ["a"], **options}
    with pytest.raises(ChannelsException, match=named):
        ChannelsPlugin(**arguments)


async def test_an_unknown_channel_is_named_and_nothing_happens() -> None:
    async with make() as plugin:
        listener = await plugin.subscribe("a")
        for call in (plugin.subscribe, plugin.wait_published):
            with pytest.raises(UnknownChannelError, match="'nosuch'") as caught:
                await call(*((b"x",) if call == plugin.wait_published else ()), ["a", "nosuch"])
            assert caught.value.channel == "nosuch"
        with pytest.raises(UnknownChannelError):
            plugin.publish(b"x", ["a", "nosuch"])
        assert plugin.subscriber_count("a") == 1
        plugin.publish(b"end", "a")
        assert await take(listener, 1) == [b"end"]


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("", "empty"),
        (5, "not str"),
        (b"a", "not str"),
        ("$internal", "reserved"),
        ("x" * 201, "201 bytes"),
        ("é" * 101, "202 bytes"),
        ("a\0b", "NUL"),
        ("\ud800", "Unicode"),
    ],
    ids=repr,
)
async def test_what_is_no_channel_name_says_why(name: Any, why: str) -> None:
    async with make(channels=None, arbitrary_channels_allowed=True) as plugin:
        with pytest.raises(InvalidChannelNameError, match=why):
            await plugin.subscribe([name])
        with pytest.raises(InvalidChannelNameError, match=why):
            plugin.publish(b"x", ["fine", name])
        assert not _table(plugin)


async def test_what_cannot_be_encoded_says_so_at_once() -> None:
    async with make() as plugin:
        with pytest.raises(EncodeError, match="object"):
            plugin.publish(object(), "a")
        with pytest.raises(EncodeError, match="type_encoders"):
            await plugin.wait_published({"x": object()}, "a")
        async with plugin.start_subscription("a") as subscriber:
            plugin.publish(b"fine", "a")
            assert await take(subscriber, 1) == [b"fine"]


async def test_a_payload_over_the_limit_is_not_sent_anywhere() -> None:
    backend = MemoryChannelsBackend(max_payload=10)
    async with ChannelsPlugin(backend, channels=["a", "b"]) as plugin:
        subscriber = await plugin.subscribe("a")
        with pytest.raises(PayloadTooLarge) as caught:
            plugin.publish(b"x" * 11, ["a", "b"])
        assert (caught.value.size, caught.value.limit) == (11, 10)
        with pytest.raises(PayloadTooLarge):
            await plugin.wait_published(b"x" * 11, "a")
        plugin.publish(b"x" * 10, "a")
        assert await take(subscriber, 1) == [b"x" * 10]


async def test_a_full_queue_takes_all_or_nothing() -> None:
    backend = FaultyBackend(MemoryChannelsBackend(100))
    async with ChannelsPlugin(backend, channels=["a", "b"], max_pending=3) as plugin:
        with backend.stall("publish"):
            plugin.publish(b"1", "a")
            plugin.publish(b"2", "a")
            await asyncio.sleep(0)
            with pytest.raises(PublishQueueFull, match="max_pending"):
                plugin.publish(b"3", ["a", "b"])
            plugin.publish(b"4", "b")
        await eventually(lambda: _link_pending(plugin) == 0, "an empty queue")
        histories = await backend.get_history([_all("a"), _all("b")])
        assert [[bytes(e) for e in history.events] for history in histories] == [
            [b"1", b"2"],
            [b"4"],
        ]


def _link_pending(plugin: ChannelsPlugin) -> int:
    assert plugin._link is not None
    return plugin._link.publisher.pending


async def test_history_of_a_backend_that_keeps_none_says_how() -> None:
    async with make(0) as plugin:
        subscriber = await plugin.subscribe("a", history=0)
        with pytest.raises(HistoryNotSupported, match="history"):
            await plugin.subscribe("a", history=1)
        with pytest.raises(HistoryNotSupported, match="since"):
            await plugin.subscribe("a", since="abc-1")
        with pytest.raises(HistoryNotSupported, match="MemoryChannelsBackend"):
            await plugin.put_subscriber_history(subscriber, "a")
        assert plugin.subscriber_count("a") == 1


@pytest.mark.parametrize("since", ["", "nonsense", "a-", "-1", "a-b", "a-01", "a" * 100 + "-1"])
async def test_what_is_no_id_is_refused(since: str) -> None:
    async with make(10) as plugin:
        with pytest.raises(InvalidPositionError, match="not an event id"):
            await plugin.subscribe("a", since=since)
        with pytest.raises(InvalidPositionError):
            await plugin.subscribe(["a", "b"], since={"a": since})
        assert plugin.subscriber_count("a") == 0


async def test_since_must_fit_the_channels() -> None:
    async with make(10) as plugin:
        with pytest.raises(ConfigurationError, match="mapping"):
            await plugin.subscribe(["a", "b"], since="abc-1")
        with pytest.raises(ConfigurationError, match="'b'"):
            await plugin.subscribe("a", since={"b": "abc-1"})
        with pytest.raises(ConfigurationError, match="history=-2"):
            await plugin.subscribe("a", history=-2)


async def test_hooks_that_fail_are_logged_and_harm_nobody(
    caplog: pytest.LogCaptureFixture,
) -> None:
    def fail(*args: object) -> None:
        raise ValueError("hook")

    async with make(max_backlog=1, on_drop=fail) as plugin:
        full, other = await plugin.subscribe("a"), await plugin.subscribe("a")
        for n in range(3):
            await plugin.wait_published(str(n), "a")
        await eventually(lambda: full.dropped == 2 and other.dropped == 2, "drops")
    assert "on_drop failed" in caplog.text
    assert logging.getLevelName(caplog.records[0].levelno) == "WARNING"


async def test_a_full_backlog_is_not_blamed_for_what_a_subclass_raised_on(
    caplog: pytest.LogCaptureFixture,
) -> None:
    class Picky(Subscriber):
        def put_nowait(self, event: Event | bytes) -> bool:
            raise ValueError(event)

    dropped: list[tuple[object, ...]] = []
    async with make(subscriber_class=Picky, on_drop=lambda *drop: dropped.append(drop)) as plugin:
        subscriber = await plugin.subscribe("a", gaps=True)
        await plugin.wait_published("1", "a")
        async with asyncio.timeout(5):
            gap = await anext(subscriber.iter_events())
    assert isinstance(gap, Gap)
    assert gap.dropped
    assert dropped == [(subscriber, b"1")]
    assert "Picky.put_nowait failed" in caplog.text
    assert "backlog is full" not in caplog.text


async def test_what_a_subclass_raises_on_is_logged_once_in_a_while(
    caplog: pytest.LogCaptureFixture,
) -> None:
    class Picky(Subscriber):
        def put_nowait(self, event: Event | bytes) -> bool:
            raise ValueError(event)

    async with make(subscriber_class=Picky) as plugin:
        plugin._failed_log = Occasionally(logging.getLogger("channels"), math.inf)
        subscribers = [await plugin.subscribe("a") for _ in range(3)]
        for n in range(3):
            await plugin.wait_published(str(n), "a")
        await eventually(lambda: [s.dropped for s in subscribers] == [3, 3, 3], "drops")
    [record] = caplog.records
    assert record.exc_info
    assert "1 events dropped because Picky.put_nowait failed" in record.getMessage()


async def test_drops_of_ones_own_subscriber_are_told_like_others(
    caplog: pytest.LogCaptureFixture,
) -> None:
    dropped: list[tuple[object, ...]] = []
    async with make(on_drop=lambda *drop: dropped.append(drop)) as plugin:
        own = Subscriber(max_backlog=1)
        await plugin.subscribe("a", subscriber=own)
        own.configure(tells_gaps=True)
        for n in range(3):
            await plugin.wait_published(str(n), "a")
        await eventually(lambda: own.dropped == 2, "drops")
        assert own.tells_gaps
        assert own.max_backlog == 1
    assert dropped == [(own, b"1"), (own, b"2")]
    assert "1 events dropped because a subscriber's backlog is full" in caplog.text


async def test_who_is_told_of_drops_already_is_told_alone() -> None:
    told: list[tuple[object, ...]] = []
    dropped: list[tuple[object, ...]] = []
    async with make(on_drop=lambda *drop: dropped.append(drop)) as plugin:
        own = Subscriber(max_backlog=1)
        own.configure(tells_gaps=True, on_drop=lambda *drop: told.append(drop))
        await plugin.subscribe("a", subscriber=own)
        for n in range(2):
            await plugin.wait_published(str(n), "a")
        await eventually(lambda: told == [(own, b"1", None)], "the drop")
        assert own.tells_gaps
    assert not dropped


async def test_another_loop_may_publish_but_not_wait() -> None:
    async with make() as plugin:
        subscriber = await plugin.subscribe("a")

        async def elsewhere() -> None:
            plugin.publish(b"x", "a")
            with pytest.raises(NotRunningError, match="another event loop"):
                await plugin.wait_published(b"y", "a")
            with pytest.raises(NotRunningError, match="another event loop"):
                await plugin.subscribe("a")

        await asyncio.to_thread(asyncio.run, elsewhere())
        assert await take(subscriber, 1) == [b"x"]
