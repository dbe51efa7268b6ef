"""Joins, leaves and histories that meet in odd ways; what a cancellation may come between."""

from __future__ import annotations

import asyncio
import gc
import logging
import weakref
from collections.abc import Awaitable, Callable, Sequence
from itertools import pairwise
from typing import Any

import pytest

from channels.core import (
    BackendUnavailable,
    ChannelsException,
    ChannelsPlugin,
    ConfigurationError,
    Event,
    Gap,
    InvalidPositionError,
    MemoryChannelsBackend,
    Message,
    NotRunningError,
    Subscriber,
    SubscriberStateError,
    _fanout,
)
from channels.core.testing import FaultyBackend
from kit import eventually


@pytest.fixture(autouse=True)
def quiet(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.CRITICAL, logger="channels")


class Plugin(ChannelsPlugin):
    def __init__(self, history: int = 100, **options: Any) -> None:
        self.memory = MemoryChannelsBackend(history)
        self.faults = FaultyBackend(self.memory)
        options.setdefault("channels", ["a", "b", "c"])
        super().__init__(self.faults, **options)

    async def fill(self, count: int, channel: str = "a", first: int = 0) -> None:
        await self.memory.publish(
            [Message(channel, str(n).encode()) for n in range(first, first + count)]
        )

    @property
    def table(self) -> dict[str, Any]:
        assert self._link is not None
        return self._link.router.channels


def shown(events: Sequence[Event]) -> list[str]:
    return ["GAP" if isinstance(event, Gap) else event.decode() for event in events]


async def take(subscriber: Subscriber, count: int) -> list[str]:
    taken: list[Event] = []
    async with asyncio.timeout(5):
        async for event in subscriber.iter_events():
            taken.append(event)
            if len(taken) == count:
                break
    return shown(taken)


def numbers(*ranges: range) -> list[str]:
    return [str(n) for numbers in ranges for n in numbers]


class Sink:
    def __init__(self) -> None:
        self.events: list[Event] = []
        self.takes = True

    def __call__(self, events: Sequence[Event]) -> bool:
        if self.takes:
            self.events.extend(events)
        return self.takes

    @property
    def shown(self) -> list[str]:
        return shown(self.events)


# -- who ends or leaves while joining --------------------------------------------------------


@pytest.mark.parametrize("history", [None, -1])
async def test_unsubscribed_while_it_joins_further_channels_it_leaves_nothing_behind(
    history: int | None,
) -> None:
    async with Plugin() as plugin:
        subscriber = await plugin.subscribe("a")
        with plugin.faults.stall("subscribe", "history"):
            joining = asyncio.create_task(
                plugin.subscribe(["b", "c"], history, subscriber=subscriber)
            )
            await eventually(lambda: plugin.faults.calls["subscribe"] == 2, "the call")
            await plugin.unsubscribe(subscriber)
        with pytest.raises(SubscriberStateError, match="while it joined"):
            await joining
        assert [plugin.subscriber_count(name) for name in "abc"] == [0, 0, 0]
        await eventually(lambda: not plugin.table, "an empty table")
        assert subscriber.channels == frozenset()


@pytest.mark.parametrize("fails", [False, True])
async def test_of_two_joins_of_one_channel_the_second_waits_for_the_first(fails: bool) -> None:
    async with Plugin() as plugin:
        subscriber = await plugin.subscribe("a")
        await plugin.subscribe("b")
        with plugin.faults.stall("subscribe"):
            joins = [
                asyncio.create_task(plugin.subscribe(["b", "c"], subscriber=subscriber)),
                asyncio.create_task(plugin.subscribe("b", subscriber=subscriber)),
            ]
            await eventually(lambda: plugin.faults.calls["subscribe"] == 3, "the call")
            assert not any(join.done() for join in joins)
            if fails:
                joins[0].cancel()
        await asyncio.wait(joins)
        assert joins[0].cancelled() == fails
        assert joins[1].result() is subscriber
        assert subscriber.channels == ({"a", "b"} if fails else {"a", "b", "c"})
        await plugin.fill(1, "b")
        await eventually(lambda: subscriber.qsize == 1, "the event")


async def test_who_left_all_its_channels_by_name_is_ended_by_the_stop_too() -> None:
    async with Plugin() as plugin:
        left, never = await plugin.subscribe("a"), await plugin.subscribe([])
        await plugin.unsubscribe(left, "a")
        waits = asyncio.create_task(take(left, 1))
        await asyncio.sleep(0)
    assert await asyncio.wait_for(waits, 5) == []
    assert (left.end_reason, never.end_reason) == ("stopped", "stopped")


async def test_who_left_all_its_channels_by_name_and_is_let_go_is_held_by_nothing() -> None:
    async with Plugin() as plugin:
        left, never = await plugin.subscribe("a"), await plugin.subscribe([])
        await plugin.unsubscribe(left, "a")
        gone = weakref.ref(left), weakref.ref(never)
        del left, never
        await plugin.subscribe("b")  # the channel that was left is gone with this
        gc.collect()
        assert [subscriber() for subscriber in gone] == [None, None]


async def test_who_joins_a_channel_again_with_history_gets_nothing_twice() -> None:
    async with Plugin() as plugin:
        await plugin.fill(2, "a")
        subscriber = await plugin.subscribe("a", history=-1)
        await plugin.fill(2, "b", first=2)
        assert await plugin.subscribe(["a", "b"], history=-1, subscriber=subscriber) is subscriber
        assert sorted(await take(subscriber, 4)) == numbers(range(4))
        assert subscriber.qsize == 0


async def test_a_join_that_the_stop_meets_while_it_reads_fails() -> None:
    plugin = Plugin(shutdown_timeout=0.05)
    await plugin.start()
    with plugin.faults.stall("history"):
        joining = asyncio.create_task(plugin.subscribe("a", history=-1))
        await eventually(lambda: plugin.faults.calls["history"], "the call")
        await plugin.stop()
    with pytest.raises(NotRunningError, match="stopped"):
        await joining


async def test_a_failed_join_takes_what_it_let_in_out_again() -> None:
    async with Plugin(subscribe_timeout=0.1) as plugin:
        subscriber = await plugin.subscribe("a")
        other = await plugin.subscribe("b")  # so that it is confirmed at once
        with plugin.faults.stall("subscribe"):
            joining = asyncio.create_task(plugin.subscribe(["b", "c"], subscriber=subscriber))
            await asyncio.sleep(0)
            await plugin.fill(1, "b")
            await eventually(lambda: other.qsize == 1 and subscriber.qsize == 1, "the event")
            with pytest.raises(BackendUnavailable):
                await joining
        assert (subscriber.qsize, subscriber.channels) == (0, {"a"})
        assert set(subscriber.positions) == {"a"}


# -- leaving and joining again ---------------------------------------------------------------


async def test_nothing_comes_of_a_channel_that_was_left() -> None:
    async with Plugin(max_backlog=50) as plugin:
        subscriber = await plugin.subscribe(["a", "b"])
        await plugin.fill(3, "a")
        await plugin.fill(2, "b")
        await eventually(lambda: subscriber.qsize == 5, "all")
        await plugin.unsubscribe(subscriber, ["a"])
        assert subscriber.qsize == 2
        assert set(subscriber.positions) == {"b"}
        assert await take(subscriber, 2) == ["0", "1"]
        assert set(subscriber.positions) == {"b"}


@pytest.mark.parametrize("options", [{"history": -1}, {"since": ...}], ids=["history", "since"])
async def test_who_leaves_and_joins_again_gets_the_channel_in_order(
    options: dict[str, Any],
) -> None:
    async with Plugin() as plugin:
        subscriber = await plugin.subscribe(["a", "b"], history=-1, gaps=True)
        await plugin.fill(6)
        assert await take(subscriber, 2) == ["0", "1"]
        if "since" in options:
            options = {"since": subscriber.positions["a"]}
        await plugin.unsubscribe(subscriber, "a")
        await plugin.fill(2, first=6)
        await plugin.subscribe("a", subscriber=subscriber, **options)
        await plugin.fill(1, first=8)
        first = 0 if "history" in options else 2
        assert await take(subscriber, 9 - first) == numbers(range(first, 9))
        assert subscriber.qsize == 0


async def test_who_leaves_and_joins_again_within_a_fan_out_gets_its_run_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(_fanout, "CHUNK", 1)
    monkeypatch.setattr(_fanout, "MAX_HOLD", -1.0)
    async with Plugin() as plugin:
        first, sink = await plugin.subscribe("a"), Sink()
        first.attach(sink)
        others = [await plugin.subscribe("a") for _ in range(20)]
        last = others[-1]
        await plugin.fill(1)
        while not sink.events:  # the others wait for their turns
            await asyncio.sleep(0)
        assert last.qsize == 0
        await plugin.unsubscribe(last, "a")
        await plugin.subscribe("a", history=-1, subscriber=last)
        again = Sink()
        last.attach(again)
        await eventually(lambda: all(other.qsize for other in others[:-1]), "the others' events")
        await plugin.fill(1, first=1)
        await eventually(lambda: others[0].qsize == 2 and len(again.events) > 1, "the next")
        await asyncio.sleep(0)
        assert again.shown == ["0", "1"]


# -- sinks that are served together ----------------------------------------------------------


class Together:
    """A group of sinks; notes what it prepared."""

    def __init__(self) -> None:
        self.prepared: list[list[str]] = []
        self.prepares = True
        self.fails = False

    def prepare(self, events: Sequence[Event]) -> list[str] | None:
        if self.fails:
            raise ValueError("a mistake")
        self.prepared.append(shown(events))
        return shown(events) if self.prepares else None

    def write(self, sink: SharedSink, prepared: list[str]) -> int:
        return sink.write(prepared)


class SharedSink(Sink):
    """One of a group; notes what was written to it past its call."""

    def __init__(self, group: Together) -> None:
        super().__init__()
        self.shared_group = group
        self.shared_writer = self
        self.written: list[str] = []
        self.finished: list[str] = []
        self.room: int | None = None
        self.on_write: Callable[[], object] = lambda: None

    def write(self, prepared: list[str]) -> int:
        if self.room == 0:
            raise BlockingIOError
        taken = prepared[: self.room]
        self.written += taken
        self.on_write()
        return len(taken)

    def finish(self, prepared: list[str], written: int) -> None:
        self.finished += prepared[written:]
        self.on_write()


async def join_together(plugin: Plugin, count: int) -> tuple[Together, list[Any], list[SharedSink]]:
    group = Together()
    subscribers = [await plugin.subscribe("a") for _ in range(count)]
    sinks = [SharedSink(group) for _ in range(count)]
    for subscriber, sink in zip(subscribers, sinks, strict=True):
        subscriber.attach(sink)
    return group, subscribers, sinks


async def test_a_group_is_written_to_what_was_prepared_once() -> None:
    async with Plugin() as plugin:
        alone, own = await plugin.subscribe("a"), Sink()
        alone.attach(own)
        first, _, sinks = await join_together(plugin, 3)
        second, _, others = await join_together(plugin, 3)
        await plugin.fill(1)
        await eventually(lambda: others[-1].written == ["0"], "the event")
        assert [sink.written for sink in sinks + others] == [["0"]] * 6
        assert first.prepared == second.prepared == [["0"]]
        second.prepares = False
        await plugin.fill(1, first=1)
        await eventually(lambda: others[-1].shown == ["1"], "the next")
        assert [sink.written for sink in sinks] == [["0", "1"]] * 3
        assert [sink.shown for sink in others] == [["1"]] * 3
        assert own.shown == ["0", "1"]


async def test_members_in_groups_and_alone_are_counted_told_and_let_go() -> None:
    async with Plugin() as plugin:
        alone = await plugin.subscribe("a")
        alone.attach(own := Sink())
        _, first, sinks = await join_together(plugin, 2)
        _, second, others = await join_together(plugin, 1)
        assert plugin.subscriber_count("a") == 4
        assert {*plugin.table["a"].subscribers()} == {alone, *first, *second}
        for leaver in (alone, first[0], second[0]):
            await plugin.unsubscribe(leaver)
        assert plugin.subscriber_count("a") == 1
        await plugin.fill(1)
        await eventually(lambda: sinks[1].written == ["0"], "the event")
        assert (own.shown, sinks[0].written, others[0].written) == ([], [], [])
        await plugin.unsubscribe(first[1])
        await eventually(lambda: "a" not in plugin.table, "the end of the channel")


async def test_who_leaves_a_group_within_a_fan_out_is_not_written_to(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(_fanout, "CHUNK", 1)
    monkeypatch.setattr(_fanout, "MAX_HOLD", -1.0)
    async with Plugin() as plugin:
        _, subscribers, sinks = await join_together(plugin, 20)
        await plugin.fill(1)
        await eventually(lambda: sinks[-1].written == ["0"], "the first")
        (later,) = subscribers[1].positions.values()
        begun = asyncio.Event()
        sinks[0].on_write = begun.set
        await plugin.fill(1, first=1)
        await begun.wait()
        busy, gone = subscribers[-2], subscribers[-1]
        sinks[-2].takes = False
        busy.busy()
        await plugin.unsubscribe(gone)
        assert busy.positions == {"a": later}
        await eventually(lambda: busy.qsize == 1, "the backlog")
        await eventually(lambda: sinks[-3].shown == ["1"], "the others")
        assert [sink.written for sink in sinks[-2:]] == [["0"], ["0"]]
        assert busy.positions == {"a": later}
        sinks[-2].takes = True
        busy.ready()
        assert sinks[-2].shown == ["1"]
        await plugin.fill(1, first=2)
        await eventually(lambda: sinks[-2].written == ["0", "2"], "the next")
        assert sinks[-1].written == ["0"]
        assert sinks[-1].shown == []


async def test_a_group_in_which_one_fails_goes_on() -> None:
    def fail() -> None:
        raise ValueError("a mistake")

    async with Plugin() as plugin:
        _, subscribers, sinks = await join_together(plugin, 4)
        sinks[1].on_write = fail
        await plugin.fill(1)
        await eventually(lambda: sinks[-1].shown == ["0"], "the first, behind what on_end may send")
        await plugin.fill(1, first=1)
        await eventually(lambda: sinks[-1].written == ["1"], "the next")
        assert [subscriber.end_reason for subscriber in subscribers] == [None, "failed", None, None]
        assert sinks[1].written == ["0"]


async def test_what_a_group_cannot_write_its_sink_finishes() -> None:
    async with Plugin() as plugin:
        _, subscribers, sinks = await join_together(plugin, 5)
        sinks[1].room, sinks[3].room = 0, 1

        def leave() -> None:
            subscribers[1].busy()

        sinks[1].on_write = leave
        await plugin.fill(2)
        await eventually(lambda: sinks[-1].written == ["0", "1"], "the events")
        assert [sink.written for sink in sinks[:4]] == [["0", "1"], [], ["0", "1"], ["0"]]
        assert [sink.finished for sink in sinks] == [[], ["0", "1"], [], ["1"], []]
        assert all(subscriber.end_reason is None for subscriber in subscribers)
        assert len({subscriber.positions["a"] for subscriber in subscribers}) == 1
        sinks[3].room = None
        await plugin.fill(1, first=2)
        await eventually(lambda: sinks[-1].written == ["0", "1", "2"], "the next")
        assert sinks[3].written == ["0", "2"]
        assert subscribers[1].qsize == 1, "it left its group"
        sinks[1].on_write = lambda: None
        subscribers[1].ready()
        assert sinks[1].shown == ["2"]


async def test_one_that_cannot_finish_ends_alone() -> None:
    def fail() -> None:
        raise ValueError("a mistake")

    async with Plugin() as plugin:
        _, subscribers, sinks = await join_together(plugin, 3)
        sinks[1].room, sinks[1].on_write = 0, fail
        await plugin.fill(1)
        await eventually(lambda: sinks[-1].shown == ["0"], "the first, behind what on_end may send")
        assert [subscriber.end_reason for subscriber in subscribers] == [None, "failed", None]


async def test_who_changes_its_group_within_a_fan_out_gets_all_once() -> None:
    async with Plugin() as plugin:
        _, subscribers, sinks = await join_together(plugin, 5)
        other = Together()

        def regroup() -> None:
            for index, to in ((0, None), (1, other), (2, None), (3, other)):
                sinks[index].shared_group = to
                subscribers[index].regroup()

        sinks[1].on_write = regroup
        await plugin.fill(2)
        await eventually(lambda: sinks[-1].shown + sinks[-1].written == ["0", "1"], "the events")
        sinks[1].on_write = lambda: None
        await plugin.fill(1, first=2)
        await eventually(lambda: "2" in sinks[-1].shown + sinks[-1].written, "the next")
        assert [sink.written + sink.shown for sink in sinks] == [["0", "1", "2"]] * 5
        assert len(other.prepared) == 1
        assert [subscriber.qsize for subscriber in subscribers] == [0] * 5
        assert len({subscriber.positions["a"] for subscriber in subscribers}) == 1


async def test_one_that_waits_stays_what_it_is_when_its_group_changes() -> None:
    async with Plugin() as plugin:
        _, subscribers, sinks = await join_together(plugin, 2)
        subscribers[0].busy()
        await plugin.fill(1)
        await eventually(lambda: sinks[-1].written == ["0"], "the first")
        subscribers[0].regroup()
        await plugin.fill(1, first=1)
        await eventually(lambda: sinks[-1].written == ["0", "1"], "the second")
        assert sinks[0].written + sinks[0].shown == []
        subscribers[0].ready()
        assert sinks[0].shown == ["0", "1"]


async def test_a_group_that_cannot_prepare_is_called() -> None:
    async with Plugin() as plugin:
        group, _, sinks = await join_together(plugin, 2)
        group.fails = True
        await plugin.fill(1)
        await eventually(lambda: [sink.shown for sink in sinks] == [["0"]] * 2, "the event")


# -- a sink joins further channels -----------------------------------------------------------


async def test_a_sink_that_refuses_a_replay_is_not_said_to_have_had_it() -> None:
    async with Plugin() as plugin:
        await plugin.fill(3, "b")
        subscriber, sink = await plugin.subscribe("a"), Sink()
        subscriber.attach(sink)
        sink.takes = False
        await plugin.subscribe("b", history=2, subscriber=subscriber)
        position = subscriber.position("b")
        assert position is not None
        assert position.offset == 1
        await plugin.fill(1, "b", first=3)
        await eventually(lambda: subscriber.qsize == 3, "the event")
        sink.takes = True
        subscriber.ready()
        assert sink.shown == ["1", "2", "3"]
        position = subscriber.position("b")
        assert position is not None
        assert position.offset == 4


async def test_a_sink_that_is_not_ready_is_not_asked_by_a_replay() -> None:
    async with Plugin() as plugin:
        await plugin.fill(3, "b")
        subscriber, sink = await plugin.subscribe("a"), Sink()
        subscriber.attach(sink)
        sink.takes = False
        await plugin.fill(1)
        await eventually(lambda: subscriber.qsize == 1, "the refused event")
        sink.takes = True
        await plugin.subscribe("b", history=-1, subscriber=subscriber)
        assert sink.shown == []
        subscriber.ready()
        assert sink.shown == ["0", "1", "2", "0"]


# -- subclasses ------------------------------------------------------------------------------


class Shout(Subscriber):
    def put_nowait(self, event: Event | bytes) -> bool:
        assert isinstance(event, Event)
        return super().put_nowait(Event(event + b"!", event.channel, event.position))


async def test_history_passes_through_a_subclass_as_all_else_does() -> None:
    async with Plugin(subscriber_class=Shout) as plugin:
        await plugin.fill(2)
        subscriber = await plugin.subscribe("a", history=-1)
        await plugin.fill(1, first=2)
        assert await take(subscriber, 3) == ["0!", "1!", "2!"]


async def test_a_gap_does_not_silence_the_sink_of_a_subclass() -> None:
    async with Plugin(2, subscriber_class=Shout) as plugin:
        subscriber, sink = await plugin.subscribe("a", gaps=True), Sink()
        subscriber.attach(sink)
        await plugin.fill(1)
        await eventually(lambda: sink.shown == ["0!"], "the first")
        with plugin.faults.outage():
            await plugin.fill(4, first=1)
        await eventually(lambda: sink.shown == ["0!", "GAP", "3!", "4!"], "the gap")


# -- put_subscriber_history ------------------------------------------------------------------


async def test_history_is_put_to_a_sink_before_what_comes_meanwhile() -> None:
    async with Plugin(max_backlog=2) as plugin:
        await plugin.fill(5)
        subscriber, sink = await plugin.subscribe("a"), Sink()
        subscriber.attach(sink)
        sink.takes = False
        putting = asyncio.create_task(plugin.put_subscriber_history(subscriber, "a"))
        await eventually(lambda: subscriber.qsize == 2, "a full backlog")
        await plugin.fill(1, first=5)
        sink.takes = True
        subscriber.ready()
        await putting
        await eventually(lambda: sink.shown == numbers(range(6)), "all")
        assert subscriber.positions["a"].endswith("-6")


@pytest.mark.parametrize("strategy", ["backoff", "dropleft", "disconnect"])
async def test_more_than_the_backlog_comes_while_history_is_put(strategy: Any) -> None:
    async with Plugin(max_backlog=2, backlog_strategy=strategy) as plugin:
        await plugin.fill(5)
        subscriber = await plugin.subscribe("a", gaps=True)
        putting = asyncio.create_task(plugin.put_subscriber_history(subscriber, "a"))
        await eventually(lambda: subscriber.qsize == 2, "a full backlog")
        gate = plugin.table["a"].joining[subscriber]
        await plugin.fill(20, first=5)
        await eventually(lambda: gate.overflowed, "that they have come, before history is put")
        assert await take(subscriber, 24) == numbers(range(24))
        await putting
        assert await take(subscriber, 1) == ["24"]
        assert (subscriber.dropped, subscriber.end_reason) == (0, None)


@pytest.mark.parametrize("strategy", ["backoff", "dropleft", "disconnect"])
async def test_what_comes_while_history_waits_for_the_consumer_waits_too(strategy: Any) -> None:
    async with Plugin(max_backlog=3, backlog_strategy=strategy) as plugin:
        await plugin.fill(30)
        subscriber = await plugin.subscribe("a")
        got: list[bytes] = []

        async def one_by_one(event: Event) -> None:
            got.append(event)
            await asyncio.sleep(0.001)

        async with subscriber.run_in_background(one_by_one):
            putting = asyncio.create_task(plugin.put_subscriber_history(subscriber, "a"))
            await eventually(lambda: subscriber.qsize == 3, "a full backlog")
            await plugin.fill(3, first=30)
            gate = plugin.table["a"].joining[subscriber]
            await eventually(lambda: len(gate.held) == 3, "the events")
            await putting
        assert [int(event) for event in got] == list(range(33))
        assert (subscriber.dropped, subscriber.end_reason) == (0, None)


async def test_history_that_just_fits_waits_for_nobody() -> None:
    async with Plugin(max_backlog=3) as plugin:
        await plugin.fill(3)
        subscriber = await plugin.subscribe("a")
        with plugin.faults.stall("history"):
            putting = asyncio.create_task(plugin.put_subscriber_history(subscriber, "a"))
            await eventually(lambda: plugin.faults.calls["history"], "the call")
            await plugin.fill(1, first=3)
            await eventually(lambda: subscriber.qsize == 1, "the event")
        await asyncio.wait_for(putting, 5)
        assert await take(subscriber, 3) == numbers(range(3))
        assert subscriber.dropped == 1


@pytest.mark.parametrize("taken", range(0, 25, 3))
async def test_cancelled_after_more_came_than_the_backlog_holds_the_gap_is_told(
    taken: int,
) -> None:
    async with Plugin(max_backlog=2) as plugin:
        await plugin.fill(5)
        subscriber = await plugin.subscribe("a", gaps=True)
        putting = asyncio.create_task(plugin.put_subscriber_history(subscriber, "a"))
        await eventually(lambda: subscriber.qsize == 2, "a full backlog")
        other, sink = await plugin.subscribe("a"), Sink()
        other.attach(sink)
        await plugin.fill(20, first=5)
        await eventually(lambda: len(sink.events) == 20, "the events")
        stream = await take(subscriber, taken) if taken else []
        putting.cancel()
        await asyncio.wait([putting])
        while subscriber.qsize:
            stream += await take(subscriber, 1)
        await plugin.fill(1, first=25)
        while "25" not in stream:  # a mark of what was dropped may come first
            stream += await take(subscriber, 1)
        assert stream[-1] == "25"
        for before, after in pairwise(stream):
            if before != "GAP" and after != "GAP" and int(before) >= 4:
                assert int(after) == int(before) + 1, stream
        assert sum(item != "GAP" for item in stream) == len({*stream} - {"GAP"})


@pytest.mark.parametrize("gaps", [False, True])
async def test_cancelled_while_what_came_meanwhile_waits_each_drop_is_counted(gaps: bool) -> None:
    async with Plugin(max_backlog=3) as plugin:
        await plugin.fill(4)
        subscriber = await plugin.subscribe("a", gaps=gaps)
        putting = asyncio.create_task(plugin.put_subscriber_history(subscriber, "a"))
        await eventually(lambda: subscriber.qsize == 3, "a full backlog")
        gate = plugin.table["a"].joining[subscriber]
        await plugin.fill(3, first=4)
        await eventually(lambda: len(gate.held) == 3, "the events")
        stream = await take(subscriber, 1)
        await eventually(lambda: not gate.held, "the history")
        putting.cancel()
        await asyncio.wait([putting])
        stream += await take(subscriber, 3)
        if gaps:
            assert await take(subscriber, 1) == ["GAP"]
        assert stream == numbers(range(4))
        assert (subscriber.qsize, subscriber.dropped) == (0, 3)


async def test_history_is_put_by_one_call_at_a_time() -> None:
    async with Plugin(max_backlog=2) as plugin:
        await plugin.fill(5)
        subscriber = await plugin.subscribe(["a", "b"])
        putting = asyncio.create_task(plugin.put_subscriber_history(subscriber, "a"))
        await eventually(lambda: subscriber.qsize == 2, "a full backlog")
        with pytest.raises(SubscriberStateError, match="'a' is being put"):
            await plugin.put_subscriber_history(subscriber, ["b", "a"])
        assert await take(subscriber, 5) == numbers(range(5))
        await putting


async def test_two_channels_histories_are_put_at_the_same_time() -> None:
    async with Plugin(max_backlog=2) as plugin:
        await plugin.fill(5, "a")
        await plugin.fill(5, "b", first=10)
        subscriber = await plugin.subscribe(["a", "b"])
        both = asyncio.gather(
            plugin.put_subscriber_history(subscriber, "a"),
            plugin.put_subscriber_history(subscriber, "b"),
        )
        taken = await take(subscriber, 10)
        assert sorted(taken, key=int) == numbers(range(5), range(10, 15))
        await both


async def test_nothing_is_put_if_one_channel_is_not_joined() -> None:
    async with Plugin() as plugin:
        await plugin.fill(3)
        subscriber = await plugin.subscribe("a")
        with pytest.raises(SubscriberStateError, match="not subscribed to 'b'"):
            await plugin.put_subscriber_history(subscriber, ["a", "b"])
        assert subscriber.qsize == 0


async def test_history_is_put_for_who_joined_ahead_of_the_channel() -> None:
    async with Plugin() as plugin:
        subscriber = await plugin.subscribe("a", gaps=True)
        plugin.faults.swallow = lambda event: True
        await plugin.fill(3)
        ahead = await plugin.subscribe("a", history=1, gaps=True)
        plugin.faults.swallow = None
        await plugin.put_subscriber_history(ahead, "a")
        await plugin.fill(1, first=3)
        assert await take(subscriber, 4) == numbers(range(4))
        assert await take(ahead, 5) == ["2", "0", "1", "2", "3"]


async def test_putting_history_ends_when_the_channel_is_left() -> None:
    async with Plugin(max_backlog=2) as plugin:
        await plugin.fill(10)
        subscriber = await plugin.subscribe(["a", "b"])
        putting = asyncio.create_task(plugin.put_subscriber_history(subscriber, "a"))
        await eventually(lambda: subscriber.qsize == 2, "a full backlog")
        await plugin.unsubscribe(subscriber, "a")
        await asyncio.wait_for(putting, 5)
        assert plugin.subscriber_count("a") == 0
        await plugin.fill(1, "b")
        assert (await take(subscriber, subscriber.qsize + 1))[-1] == "0"


async def test_putting_history_without_a_broker_is_given_up() -> None:
    async with Plugin(subscribe_timeout=0.1) as plugin:
        subscriber = await plugin.subscribe("a")
        with plugin.faults.outage(), pytest.raises(BackendUnavailable, match=r"0\.1 s"):
            await asyncio.wait_for(plugin.put_subscriber_history(subscriber, "a"), 5)


async def test_a_gap_that_meets_put_history_reaches_only_who_asked_for_it() -> None:
    async with Plugin(3, max_backlog=2) as plugin:
        await plugin.fill(3)
        asked, other = await plugin.subscribe("a", gaps=True), await plugin.subscribe("a")
        with plugin.faults.stall("history"):
            putting = [
                asyncio.create_task(plugin.put_subscriber_history(subscriber, "a"))
                for subscriber in (asked, other)
            ]
            await eventually(lambda: plugin.faults.calls["history"] == 2, "the calls")
        await eventually(lambda: asked.qsize == other.qsize == 2, "full backlogs")
        with plugin.faults.outage():
            plugin.memory._records.clear()
            await plugin.fill(1, first=3)
        await eventually(lambda: plugin.faults.calls["history"] == 3, "the repair")
        assert await take(asked, 5) == ["0", "1", "2", "GAP", "3"]
        assert await take(other, 4) == ["0", "1", "2", "3"]
        await asyncio.gather(*putting)
        assert (asked.qsize, other.qsize) == (0, 0)


@pytest.mark.parametrize(
    ("limit", "expected"), [(None, 5), (-1, 5), (2, 2), (0, 0), (9, 5)], ids=str
)
async def test_so_much_history_is_put(limit: int | None, expected: int) -> None:
    async with Plugin() as plugin:
        await plugin.fill(5)
        subscriber = await plugin.subscribe("a")
        await plugin.put_subscriber_history(subscriber, "a", limit)
        assert subscriber.qsize == expected
        if expected:
            assert await take(subscriber, expected) == numbers(range(5 - expected, 5))
        with pytest.raises(ConfigurationError, match="limit=-2"):
            await plugin.put_subscriber_history(subscriber, "a", -2)


# -- resuming --------------------------------------------------------------------------------


async def test_what_was_recovered_is_said_of_the_last_time_each_channel_was_asked() -> None:
    async with Plugin(2) as plugin:
        ids = {}
        for name in "ab":
            ids[name] = str((await plugin.wait_published("0", name))[name])
        await plugin.fill(5)
        subscriber = await plugin.subscribe("a", since=ids["a"])
        assert (subscriber.recovered, subscriber.unrecovered) == (False, {"a"})
        await plugin.subscribe("b", since=ids["b"], subscriber=subscriber)
        assert (subscriber.recovered, subscriber.unrecovered) == (False, {"a"})
        await plugin.subscribe("a", since=ids["a"], subscriber=subscriber)  # is in it: not read
        assert subscriber.unrecovered == {"a"}
        assert await take(subscriber, 2) == ["3", "4"]
        now = subscriber.positions["a"]
        await plugin.unsubscribe(subscriber, "a")
        await plugin.subscribe("a", since=now, subscriber=subscriber)
        assert (subscriber.recovered, subscriber.unrecovered) == (True, frozenset())


@pytest.mark.parametrize("since", [5, b"abc-1", ("abc", 1), {"a": 5}, {"a": b"abc-1"}], ids=repr)
async def test_a_since_of_another_type_is_refused_by_what_it_is(since: Any) -> None:
    async with Plugin() as plugin:
        with pytest.raises(InvalidPositionError, match="not an event id"):
            await plugin.subscribe("a", since=since)
        assert not plugin.table


async def test_a_senseless_byte_limit_is_refused_and_nothing_is_left() -> None:
    async with Plugin() as plugin:
        with pytest.raises(ConfigurationError, match="max_backlog_bytes=0"):
            await plugin.subscribe("a", max_backlog_bytes=0)
        assert not plugin.table


# -- cancelled anywhere ----------------------------------------------------------------------


async def cancelled_after(steps: int, doing: Awaitable[Any]) -> asyncio.Task[Any]:
    """Start something, cancel it after so many turns of the loop, and wait for its end."""
    task = asyncio.ensure_future(doing)
    for _ in range(steps):
        await asyncio.sleep(0)
    task.cancel()
    await asyncio.wait([task], timeout=5)
    assert task.done()
    return task


STEPS = range(25)
Action = Callable[[Plugin, Subscriber], Awaitable[Any]]
ACTIONS: dict[str, Action] = {
    "join": lambda plugin, s: plugin.subscribe(["b", "c"], subscriber=s),
    "join with history": lambda plugin, s: plugin.subscribe(["b", "c"], -1, subscriber=s),
    "put history": lambda plugin, s: plugin.put_subscriber_history(s, ["a"]),
    "leave": lambda plugin, s: plugin.unsubscribe(s, ["a"]),
    "publish": lambda plugin, s: plugin.wait_published("0", ["b", "c"]),
}


@pytest.mark.parametrize("action", ACTIONS)
async def test_cancelled_at_any_step_nothing_is_left_and_all_goes_on(action: str) -> None:
    async with Plugin(max_backlog=3) as plugin:
        plugin.faults.delays = dict.fromkeys(("subscribe", "history", "publish"), 0)
        await plugin.fill(5, "a")
        await plugin.fill(5, "b")
        for steps in STEPS:
            subscriber = await plugin.subscribe("a")
            task = await cancelled_after(steps, ACTIONS[action](plugin, subscriber))
            joined = not task.cancelled() and action.startswith("join")
            assert subscriber.channels >= ({"a", "b", "c"} if joined else set())
            assert subscriber.channels <= ({"a", "b", "c"} if joined else {"a"})
            for name in "abc":
                assert plugin.subscriber_count(name) == (name in subscriber.channels), steps
            if "a" in subscriber.channels:
                while subscriber.qsize:
                    await take(subscriber, 1)
                await plugin.fill(1, first=1000 + steps)
                assert await take(subscriber, 1) == [str(1000 + steps)]
            await plugin.unsubscribe(subscriber)
            await eventually(lambda: not plugin.table, "an empty table")
        assert await plugin.wait_published("end", "a")


async def test_a_start_that_is_cancelled_at_any_step_leaves_nothing() -> None:
    plugin = Plugin()
    plugin.faults.delays["connect"] = 0
    before = asyncio.all_tasks()
    for steps in STEPS:
        task = await cancelled_after(steps, plugin.start())
        if task.cancelled():
            assert asyncio.all_tasks() == before, steps
            with pytest.raises(NotRunningError):
                plugin.publish("x", "a")
        else:
            await plugin.stop()
        assert plugin.memory._entered == 0
    async with plugin:
        await plugin.wait_published("x", "a")


@pytest.mark.parametrize("stalled", ["publish", None])
async def test_a_stop_that_is_cancelled_at_any_step_still_closes_everything(stalled: Any) -> None:
    plugin = Plugin(shutdown_timeout=0.05)
    before = asyncio.all_tasks()
    for steps in STEPS[1:]:
        await plugin.start()
        subscriber = await plugin.subscribe("a")
        with plugin.faults.stall(*([stalled] if stalled else [])):
            plugin.publish("x", "a")
            await cancelled_after(steps, plugin.stop())
        assert subscriber.end_reason == "stopped", steps
        await eventually(lambda: asyncio.all_tasks() == before, "no task")
        assert plugin.memory._entered == 0, steps


async def test_stopping_twice_at_once_and_starting_again_meanwhile() -> None:
    plugin = Plugin()
    await plugin.start()
    old = await plugin.subscribe("a")
    plugin.publish("x", "a")
    stops = [asyncio.create_task(plugin.stop()) for _ in range(2)]
    await asyncio.sleep(0)
    await plugin.start()
    new = await plugin.subscribe("a")
    await asyncio.gather(*stops)
    assert (old.end_reason, new.end_reason) == ("stopped", None)
    await plugin.wait_published("y", "a")
    await eventually(lambda: new.qsize, "the event")
    with pytest.raises(ChannelsException, match="ended"):
        await plugin.subscribe("b", subscriber=old)
    await plugin.unsubscribe(old)
    assert plugin.subscriber_count("a") == 1
    await plugin.stop()
