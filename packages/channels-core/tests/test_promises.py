"""What the plugin promises when the broker misbehaves; each test breaks the thing it is about."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import pytest

from channels.core import (
    BackendException,
    BackendRefused,
    BackendUnavailable,
    ChannelsException,
    ChannelsPlugin,
    ConfigurationError,
    Event,
    Gap,
    HistoryRequest,
    Listener,
    MemoryChannelsBackend,
    Message,
    NotRunningError,
    Position,
    PublishUnconfirmed,
    Subscriber,
    SubscriberStateError,
)
from channels.core.testing import FaultyBackend
from kit import eventually


@pytest.fixture(autouse=True)
def quiet(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.CRITICAL, logger="channels")


class Reader:
    """Collects what a subscriber gets, by a sink."""

    def __init__(self, subscriber: Subscriber) -> None:
        self.subscriber = subscriber
        self.events: list[Event] = []
        subscriber.attach(self.take)

    def take(self, events: Sequence[Event]) -> bool:
        self.events.extend(events)
        return True

    @property
    def payloads(self) -> list[bytes]:
        return [b"GAP" if isinstance(event, Gap) else bytes(event) for event in self.events]


class Plugin(ChannelsPlugin):
    """A plugin over a faulty memory backend that counts the gaps it was told of."""

    def __init__(self, history: int = 0, **options: Any) -> None:
        self.memory = MemoryChannelsBackend(history)
        self.faults = FaultyBackend(self.memory)
        self.gaps: Counter[str] = Counter()
        options.setdefault("channels", ["a", "b", "c"])
        super().__init__(self.faults, on_gap=lambda name: self.gaps.update([name]), **options)

    async def behind_the_back(self, data: str, channel: str = "a") -> None:
        """Publish as another process does, not through the faulty connection."""
        await self.memory.publish([Message(channel, data.encode())])

    async def connected(self) -> None:
        await eventually(lambda: self.faults.connections == 1, "a connection")

    async def reader(self, channels: str | list[str] = "a", **options: Any) -> Reader:
        return Reader(await self.subscribe(channels, gaps=True, **options))


# -- 1: the broker goes away and comes back --------------------------------------------------


async def test_with_history_nothing_is_missed_or_repeated_over_an_outage() -> None:
    async with Plugin(100) as plugin:
        reader = await plugin.reader(["a", "b"])
        await plugin.wait_published("1", "a")
        with plugin.faults.outage():
            await plugin.behind_the_back("2")
            await plugin.behind_the_back("3")
        await eventually(lambda: reader.payloads == [b"1", b"2", b"3"], "what was missed")
        await plugin.connected()
        await plugin.wait_published("4", "a")
        await plugin.wait_published("x", "b")
        await eventually(lambda: reader.payloads[3:] == [b"4", b"x"], "what is live")
        assert not plugin.gaps


async def test_a_channel_that_was_quiet_since_the_join_notices_too() -> None:
    async with Plugin(100) as plugin:
        reader = await plugin.reader("a")
        with plugin.faults.outage():
            await plugin.behind_the_back("missed")
        await eventually(lambda: reader.payloads == [b"missed"], "what was missed")


async def test_beyond_the_history_the_gap_is_told_once_in_its_place() -> None:
    async with Plugin(2) as plugin:
        reader = await plugin.reader("a")
        other = await plugin.reader("b")
        await plugin.wait_published("0", "a")
        await eventually(lambda: reader.payloads == [b"0"], "the first")
        with plugin.faults.outage():
            for n in range(1, 6):
                await plugin.behind_the_back(str(n))
        await eventually(lambda: reader.payloads == [b"0", b"GAP", b"4", b"5"], "the gap")
        assert plugin.gaps == {"a": 1}
        assert other.payloads == []


async def test_without_history_each_affected_channel_is_told_once_per_reconnect() -> None:
    async with Plugin() as plugin:
        one, two = await plugin.reader(["a", "b"]), await plugin.reader("a")
        for outage in (1, 2):
            with plugin.faults.outage():
                pass
            await eventually(lambda n=outage: plugin.gaps == {"a": n, "b": n}, "the gaps")
        assert (one.payloads.count(b"GAP"), two.payloads) == (4, [b"GAP", b"GAP"])
        await plugin.wait_published("live", "a")
        await eventually(lambda: two.payloads[-1] == b"live", "what is live")
        fresh = await plugin.reader("c")
        assert fresh.payloads == []


async def test_a_record_that_was_lost_is_told_and_never_spliced() -> None:
    async with Plugin(100) as plugin:
        reader = await plugin.reader("a")
        await plugin.wait_published("1", "a")
        await eventually(lambda: reader.payloads == [b"1"], "the first")
        with plugin.faults.outage():
            plugin.memory._records.clear()
            await plugin.behind_the_back("2")
        await eventually(lambda: reader.payloads == [b"1", b"GAP", b"2"], "the gap")
        await plugin.wait_published("3", "a")
        await eventually(lambda: reader.payloads[-1] == b"3", "what is live")
        assert plugin.gaps == {"a": 1}


async def test_a_lost_doorbell_is_repaired_by_the_next_event() -> None:
    async with Plugin(100) as plugin:
        reader = await plugin.reader("a")
        plugin.faults.swallow = lambda event: event in {b"2", b"3"}
        for n in range(1, 6):
            await plugin.wait_published(str(n), "a")
        wanted = [str(n).encode() for n in range(1, 6)]
        await eventually(lambda: reader.payloads == wanted, "all five, in order")
        assert not plugin.gaps


async def test_subscriptions_that_the_broker_dropped_are_made_again() -> None:
    async with Plugin(100) as plugin:
        reader, other = await plugin.reader("a"), await plugin.reader("b")
        plugin.faults.lose("a")
        await plugin.behind_the_back("1")
        await plugin.behind_the_back("1", "b")
        await eventually(lambda: reader.payloads == other.payloads == [b"1"], "both")
        assert plugin.faults.connections == 1


async def test_history_that_fails_at_first_is_read_again() -> None:
    async with Plugin(100) as plugin:
        reader = await plugin.reader("a")
        plugin.faults.fail_history(3)
        with plugin.faults.outage():
            await plugin.behind_the_back("missed")
        await eventually(lambda: reader.payloads == [b"missed"], "what was missed")
        assert not plugin.gaps


async def test_history_that_may_not_be_read_is_a_gap_and_life_goes_on() -> None:
    class Forbidden(FaultyBackend):
        async def get_history(self, requests: Sequence[HistoryRequest]) -> Any:
            raise BackendRefused("no permission")

    memory = MemoryChannelsBackend(100)
    gaps: list[str] = []
    faults = Forbidden(memory)
    async with ChannelsPlugin(faults, channels=["a"], on_gap=gaps.append) as plugin:
        reader = Reader(await plugin.subscribe("a", gaps=True))
        with faults.outage():
            await memory.publish([Message("a", b"missed")])
        await eventually(lambda: gaps == ["a"], "the gap")
        await plugin.wait_published("live", "a")
        await eventually(lambda: reader.payloads == [b"GAP", b"live"], "what is live")


async def test_a_thousand_channels_come_back_in_few_calls() -> None:
    names = [f"room {n}" for n in range(1000)]
    async with Plugin(10, channels=names) as plugin:
        subscriber = await plugin.subscribe(names)
        assert plugin.faults.calls["subscribe"] == 1
        with plugin.faults.outage():
            for name in names:
                await plugin.behind_the_back("x", name)
        await eventually(lambda: subscriber.qsize == 1000, "all")
        assert plugin.faults.calls["history"] <= 3
        await plugin.unsubscribe(subscriber)
        await eventually(lambda: plugin.faults.calls["unsubscribe"], "the unsubscription")
        assert plugin.faults.calls["unsubscribe"] == 1


# -- 3: down at the start, or during a join --------------------------------------------------


async def test_a_start_without_a_broker_goes_on_and_connects_later() -> None:
    plugin = Plugin(connect_timeout=0.05, subscribe_timeout=5)
    with plugin.faults.outage():
        await plugin.start()
        joining = asyncio.create_task(plugin.subscribe("a"))
        plugin.publish("queued", "a")
    subscriber = await joining
    await plugin.wait_published("x", "a")
    await eventually(lambda: subscriber.qsize >= 1, "an event")
    await plugin.stop()


async def test_a_required_broker_fails_the_start_and_leaves_nothing() -> None:
    plugin = Plugin(connect_timeout=0.05, require_broker=True)
    down = BackendUnavailable("cable cut")
    with plugin.faults.outage(down), pytest.raises(BackendUnavailable, match=r"0\.05 s: cable cut"):
        await plugin.start()
    with pytest.raises(NotRunningError):
        plugin.publish("x", "a")
    async with plugin:
        await plugin.wait_published("x", "a")


async def test_the_log_tells_a_lost_connection_from_none(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING, logger="channels")
    plugin = Plugin(connect_timeout=0.05)
    with plugin.faults.outage():
        await plugin.start()
    await plugin.connected()
    assert "no connection to the broker" in caplog.text
    assert "lost" not in caplog.text
    with plugin.faults.outage():
        await eventually(lambda: "connection to the broker lost" in caplog.text, "a warning")
    await plugin.stop()


async def test_a_broker_that_hangs_is_given_up_too() -> None:
    plugin = Plugin(connect_timeout=0.05, require_broker=True)
    with plugin.faults.stall("connect"), pytest.raises(BackendUnavailable):
        await plugin.start()


@pytest.mark.parametrize("refusal", [BackendRefused("no"), ConfigurationError("no")], ids=repr)
async def test_a_refused_connection_always_fails_the_start(refusal: ChannelsException) -> None:
    plugin = Plugin()
    with plugin.faults.outage(refusal), pytest.raises(type(refusal), match="no"):
        await plugin.start()
    async with plugin:
        pass


async def test_a_subscription_waits_for_the_broker_then_leaves_nothing_behind() -> None:
    async with Plugin(subscribe_timeout=0.1) as plugin:
        link = plugin._link
        assert link is not None
        with plugin.faults.outage(BackendUnavailable("cable cut")):
            await eventually(lambda: str(link.outage) == "cable cut", "an attempt to connect")
            with pytest.raises(BackendUnavailable, match=r"0\.1 s: cable cut"):
                await plugin.subscribe(["a", "b"])
            assert plugin.subscriber_count("a") == plugin.subscriber_count("b") == 0
        await plugin.connected()
        subscriber = await plugin.subscribe("a")
        await plugin.wait_published("x", "a")
        await eventually(lambda: subscriber.qsize == 1, "the event")


async def test_a_failed_join_of_a_live_subscriber_keeps_what_it_had() -> None:
    async with Plugin(subscribe_timeout=0.1) as plugin:
        subscriber = await plugin.subscribe("a")
        with plugin.faults.stall("subscribe"), pytest.raises(BackendUnavailable):
            await plugin.subscribe(["a", "b"], subscriber=subscriber)
        assert subscriber.channels == {"a"}
        await plugin.wait_published("x", "a")
        await eventually(lambda: subscriber.qsize == 1, "the event")


async def test_unsubscribing_never_waits_for_the_broker() -> None:
    async with Plugin() as plugin:
        subscriber = await plugin.subscribe(["a", "b"])
        with plugin.faults.stall("unsubscribe"):
            await asyncio.wait_for(plugin.unsubscribe(subscriber, "a"), 1)
            await asyncio.wait_for(plugin.unsubscribe(subscriber), 1)
        with plugin.faults.outage():
            other = await asyncio.wait_for(plugin.subscribe([]), 1)
            await asyncio.wait_for(plugin.unsubscribe(other), 1)


# -- 4: one bad thing stops nothing else -----------------------------------------------------


async def test_a_backend_with_a_bug_is_connected_to_again() -> None:
    async with Plugin(100) as plugin:
        reader = await plugin.reader("a")
        with plugin.faults.outage(ZeroDivisionError("a bug")):
            await plugin.behind_the_back("1")
        await eventually(lambda: reader.payloads == [b"1"], "what was missed")


async def test_a_sink_that_fails_ends_alone() -> None:
    async with Plugin() as plugin:
        bad, good = await plugin.subscribe("a"), await plugin.reader("a")

        def fail(events: Sequence[Event]) -> bool:
            raise OSError("gone")

        bad.attach(fail)
        late = await plugin.reader("a")
        await plugin.wait_published("x", "a")
        await eventually(lambda: good.payloads == late.payloads == [b"x"], "the others")
        assert bad.end_reason == "failed"
        await plugin.wait_published("y", "a")
        await eventually(lambda: good.payloads == [b"x", b"y"], "and the next event")


# -- 8: publishing ---------------------------------------------------------------------------


@pytest.mark.parametrize("fault", ["unsent", "raises"])
async def test_the_queue_sends_again_what_surely_was_not_sent(fault: Any) -> None:
    async with Plugin(1000) as plugin:
        reader = await plugin.reader("a")
        plugin.faults.fail_publish(fault, fault)
        for n in range(600):
            plugin.publish(str(n), "a")
        await eventually(lambda: len(reader.payloads) == 600, "all")
        assert [int(payload) for payload in reader.payloads] == list(range(600))


async def test_over_an_outage_the_queue_waits_and_keeps_its_order() -> None:
    async with Plugin(1000) as plugin:
        reader = await plugin.reader("a")
        with plugin.faults.outage():
            for n in range(50):
                plugin.publish(str(n), "a")
                await asyncio.sleep(0)
            with pytest.raises(BackendUnavailable):
                await plugin.wait_published("now", "a")
        await eventually(lambda: len(reader.payloads) == 50, "all")
        assert [int(payload) for payload in reader.payloads] == list(range(50))


@pytest.mark.parametrize("happened", ["unconfirmed", "vanishes"])
async def test_what_is_in_doubt_is_told_and_not_sent_again(happened: Any) -> None:
    told: list[tuple[str, bytes, BackendException]] = []
    plugin = Plugin(100, on_publish_error=lambda *what: told.append(what))
    async with plugin:
        reader = await plugin.reader("a")
        plugin.faults.fail_publish(happened)
        plugin.publish("doubtful", "a")
        await eventually(lambda: told, "the hook")
        await plugin.wait_published("next", "a")
        await eventually(lambda: b"next" in reader.payloads, "the next")
        assert reader.payloads.count(b"doubtful") == (happened == "unconfirmed")
        [(channel, data, error)] = told
        assert (channel, data, type(error)) == ("a", b"doubtful", PublishUnconfirmed)
        plugin.faults.fail_publish(happened)
        with pytest.raises(PublishUnconfirmed):
            await plugin.wait_published("asked", "a")


async def test_what_is_in_doubt_is_sent_again_on_request() -> None:
    async with Plugin(100, retry_unconfirmed=True) as plugin:
        reader = await plugin.reader("a")
        plugin.faults.fail_publish("unconfirmed")
        plugin.publish("at least once", "a")
        await eventually(lambda: len(reader.payloads) == 2, "both")
        assert set(reader.payloads) == {b"at least once"}


async def test_a_refused_message_is_given_up_and_its_neighbours_sent() -> None:
    told: list[str] = []
    plugin = Plugin(100, on_publish_error=lambda channel, data, error: told.append(channel))
    plugin.faults.refused.add("b")
    async with plugin:
        reader = await plugin.reader(["a", "c"])
        for channel in "abc":
            plugin.publish("x", channel)
        await eventually(lambda: len(reader.payloads) == 2, "the neighbours")
        assert told == ["b"]
        with pytest.raises(BackendRefused):
            await plugin.wait_published("x", ["a", "b"])


async def test_a_join_that_is_unsubscribed_meanwhile_ends_at_once() -> None:
    async with Plugin(subscribe_timeout=2) as plugin:
        subscriber = await plugin.subscribe("a")
        with plugin.faults.stall("subscribe"):
            joining = asyncio.create_task(plugin.subscribe(["b", "c"], subscriber=subscriber))
            await eventually(lambda: plugin.faults.calls["subscribe"] == 2, "the call")
            await plugin.unsubscribe(subscriber, "b")
            with pytest.raises(SubscriberStateError):
                await joining
        assert subscriber.channels == {"a"}
        assert subscriber.end_reason is None


# -- 6: shutdown -----------------------------------------------------------------------------


@pytest.mark.parametrize("operation", ["publish", "subscribe", "unsubscribe", "history", None])
async def test_shutdown_is_bounded_whatever_hangs(operation: Any) -> None:
    plugin = Plugin(100, shutdown_timeout=0.2)
    await plugin.start()
    reader = await plugin.reader("a")
    joining = None
    calls = plugin.faults.stall(operation) if operation else plugin.faults.outage()
    with calls:
        plugin.publish("x", "a")
        joining = asyncio.create_task(plugin.subscribe("b", history=-1))
        await plugin.unsubscribe(await plugin.subscribe([]))
        await asyncio.sleep(0)
        started = time.monotonic()
        await plugin.stop()
        assert time.monotonic() - started < 3
    await asyncio.wait([joining])
    assert isinstance(joining.exception(), NotRunningError | None)
    assert reader.subscriber.end_reason == "stopped"
    async with plugin:
        await plugin.wait_published("again", "a")


async def test_who_reads_history_while_the_broker_is_away_hears_of_the_stop() -> None:
    plugin = Plugin(100, subscribe_timeout=2)
    await plugin.start()
    plugin.faults.fail_history(1000)
    joining = asyncio.create_task(plugin.subscribe("a", history=1))
    await eventually(lambda: plugin.faults.calls["history"], "that it reads")
    with plugin.faults.outage():
        assert plugin._link is not None
        connected = plugin._link.router.connected
        # It waits for a connection now, among others perhaps.
        await eventually(lambda: getattr(connected, "_waiters"), "that it waits")  # noqa: B009
        await plugin.stop()
        with pytest.raises(NotRunningError):
            await joining


async def test_who_waits_for_a_repair_hears_of_the_stop() -> None:
    plugin = Plugin(100)
    await plugin.start()
    await plugin.reader("a")
    assert plugin._link is not None
    router = plugin._link.router
    with plugin.faults.stall("history"):
        catching_up = asyncio.create_task(router.catch_up(router.channels["a"]))
        await eventually(lambda: plugin.faults.calls["history"], "that it reads")
        await plugin.stop()
        async with asyncio.timeout(2):
            with pytest.raises(NotRunningError):
                await catching_up


async def test_a_subscription_behind_another_one_hears_of_the_stop() -> None:
    plugin = Plugin(subscribe_timeout=2)
    await plugin.start()
    subscriber = await plugin.subscribe("a")
    with plugin.faults.stall("subscribe"):
        calls = [
            asyncio.create_task(plugin.subscribe(name, subscriber=subscriber)) for name in "bc"
        ]
        await eventually(lambda: plugin.faults.calls["subscribe"] == 2, "the first of them")
        await plugin.stop()
    outcomes = await asyncio.gather(*calls, return_exceptions=True)
    assert [type(outcome) for outcome in outcomes] == [NotRunningError] * 2


async def test_what_could_not_be_sent_is_counted_at_the_stop(
    caplog: pytest.LogCaptureFixture,
) -> None:
    plugin = Plugin(shutdown_timeout=0.05)
    await plugin.start()
    with plugin.faults.outage(), caplog.at_level(logging.ERROR, "channels"):
        for _ in range(7):
            plugin.publish("x", "a")
        await plugin.stop()
    assert "7 events" in caplog.text


async def test_publishers_that_wait_at_the_stop_get_an_answer() -> None:
    plugin = Plugin(shutdown_timeout=0.05)
    await plugin.start()
    with plugin.faults.stall("publish"):
        calls = [asyncio.create_task(plugin.wait_published("x", "a")) for _ in range(5)]
        await asyncio.sleep(0)
        stopping = asyncio.create_task(plugin.stop())
        await asyncio.wait([stopping])
        with pytest.raises(NotRunningError):
            await plugin.wait_published("late", "a")
    outcomes = await asyncio.gather(*calls, return_exceptions=True)
    assert all(isinstance(o, ChannelsException | dict) for o in outcomes), outcomes


# -- positions -------------------------------------------------------------------------------


async def test_joining_an_empty_channel_and_missing_its_first_event_is_noticed() -> None:
    async with Plugin(100) as plugin:
        reader = await plugin.reader("a")
        assert reader.subscriber.positions == {"a": "0-0"}
        with plugin.faults.outage():
            await plugin.behind_the_back("first")
        await eventually(lambda: reader.payloads == [b"first"], "the first")
        again = await plugin.reader("a", since="0-0")
        assert again.payloads == [b"first"]
        assert again.subscriber.recovered is True


async def test_the_channels_place_is_where_a_joiner_without_history_starts() -> None:
    async with Plugin(100) as plugin:
        await plugin.wait_published("1", "a")
        ids = await plugin.wait_published("2", "a")
        subscriber = await plugin.subscribe("a")
        assert subscriber.positions == ids
        assert Position.parse(ids["a"]).offset == 2


async def test_drivers_that_swallow_a_cancellation_cannot_delay_the_end() -> None:
    class Swallowing(MemoryChannelsBackend):
        async def hang(self) -> None:
            try:
                await asyncio.sleep(60)
            except asyncio.CancelledError:
                raise BackendUnavailable("the connection ended") from None

        async def publish(self, messages: Sequence[Message]) -> Sequence[Position | None]:
            await self.hang()
            return []

        @asynccontextmanager
        async def listen(self) -> AsyncIterator[Listener]:
            await self.hang()
            async with super().listen() as listener:
                yield listener

    plugin = ChannelsPlugin(
        Swallowing(), channels=["a"], connect_timeout=0.05, shutdown_timeout=0.05
    )
    await plugin.start()
    plugin.publish("never", "a")
    await asyncio.sleep(0)
    began = time.monotonic()
    await plugin.stop()
    assert time.monotonic() - began < 0.5


async def test_the_gap_is_told_before_the_first_event_of_a_new_connection() -> None:
    """One that comes while the broker's word on the subscription is still on its way."""

    class Hasty(MemoryChannelsBackend):
        @asynccontextmanager
        async def listen(self) -> AsyncIterator[Listener]:
            async with super().listen() as listener:
                subscribe = listener.subscribe

                async def subscribe_slowly(channels: Sequence[str]) -> Any:
                    tops = await subscribe(channels)
                    await self.publish([Message("a", b"early")])
                    await asyncio.sleep(0.05)
                    return tops

                listener.subscribe = subscribe_slowly  # type: ignore[method-assign]
                yield listener

    backend = FaultyBackend(Hasty())
    async with (
        ChannelsPlugin(backend, channels=["a"]) as plugin,
        plugin.start_subscription("a", gaps=True) as subscriber,
    ):
        reader = Reader(subscriber)
        await plugin.wait_published("1", "a")
        await eventually(lambda: reader.payloads == [b"1"], "the first event")
        backend.cut()
        await eventually(lambda: b"early" in reader.payloads, "an event")
        assert reader.payloads == [b"1", b"GAP", b"early"]
