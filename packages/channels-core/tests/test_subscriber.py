"""Subscribers built alone: the backlog, its strategies, and the three ways to consume."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import weakref
from collections.abc import Iterable, Sequence
from typing import Any

import pytest

from channels.core import ConfigurationError, Event, Gap, Subscriber, SubscriberStateError
from kit import eventually


def event(payload: object, channel: str = "a") -> Event:
    return Event(str(payload).encode(), channel)


def events(*payloads: object) -> list[Event]:
    return [event(payload) for payload in payloads]


def waiting(subscriber: Subscriber) -> list[bytes]:
    """End the stream and return what it still gives."""
    taken: list[bytes] = []
    subscriber.attach(lambda batch: taken.extend(batch) is None)
    return taken


class Recorder:
    """A sink that can refuse."""

    def __init__(self) -> None:
        self.taken: list[Event] = []
        self.calls = 0
        self.takes = True
        self.ended = 0

    def __call__(self, batch: Sequence[Event]) -> bool:
        self.calls += 1
        if self.takes:
            self.taken.extend(batch)
        return self.takes

    def on_end(self) -> None:
        self.ended += 1


# -- limits ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"max_backlog": 0}, "max_backlog=0"),
        ({"max_backlog_bytes": -1}, "max_backlog_bytes=-1"),
        ({"backlog_strategy": "drop"}, "backlog_strategy='drop'"),
    ],
)
def test_senseless_limits_are_refused_by_name(options: dict[str, Any], named: str) -> None:
    with pytest.raises(ConfigurationError, match=named):
        Subscriber(**options)


def test_backoff_drops_what_comes_while_full() -> None:
    subscriber = Subscriber(2)
    assert [subscriber.put_nowait(e) for e in events(1, 2, 3)] == [True, True, False]
    assert subscriber.dropped == 1
    assert waiting(subscriber) == [b"1", b"2"]


def test_dropleft_evicts_the_oldest() -> None:
    subscriber = Subscriber(2, "dropleft")
    assert all(subscriber.put_nowait(e) for e in events(1, 2, 3, 4))
    assert subscriber.dropped == 2
    assert waiting(subscriber) == [b"3", b"4"]


def test_disconnect_ends_the_stream_after_what_is_queued() -> None:
    subscriber = Subscriber(2, "disconnect")
    for e in events(1, 2, 3, 4):
        subscriber.put_nowait(e)
    assert subscriber.end_reason == "backlog full"
    assert waiting(subscriber) == [b"1", b"2"]


def test_bytes_are_limited_too_but_one_event_always_fits() -> None:
    subscriber = Subscriber(max_backlog_bytes=10)
    assert subscriber.put_nowait(event("x" * 100))
    assert not subscriber.put_nowait(event("y"))
    assert waiting(subscriber) == [b"x" * 100]
    assert Subscriber(max_backlog_bytes=10).put_nowait(event(""))


def test_dropleft_makes_room_in_bytes() -> None:
    subscriber = Subscriber(None, "dropleft", max_backlog_bytes=10)
    for payload in ("aaaa", "bbbb", "cccccc", "d"):
        assert subscriber.put_nowait(event(payload))
    assert waiting(subscriber) == [b"cccccc", b"d"]
    assert subscriber.dropped == 2


def test_drops_are_told_in_their_place() -> None:
    backoff = Subscriber(2)
    backoff.configure(tells_gaps=True)
    for e in events(1, 2, 3):
        backoff.put_nowait(e)
    assert [type(e) for e in backoff._waiting()] == [Event, Event, Gap]
    dropleft = Subscriber(2, "dropleft")
    dropleft.configure(tells_gaps=True)
    for e in events(1, 2, 3, 4):
        dropleft.put_nowait(e)
    assert [type(e) for e in dropleft._waiting()] == [Gap, Event, Event]


def test_an_eviction_is_told_behind_the_replay_before_it() -> None:
    subscriber = Subscriber(1, "dropleft")
    subscriber.configure(tells_gaps=True)
    subscriber.replay([Gap(channel="a"), *events(1, 2)])
    for e in events(3, 4, 5):
        subscriber.put_nowait(e)
    assert [bytes(e) for e in subscriber._waiting()] == [b"", b"1", b"2", b"", b"5"]


def test_a_hook_sees_each_drop() -> None:
    dropped: list[tuple[Subscriber, Event, BaseException | None]] = []
    subscriber = Subscriber(1)
    subscriber.configure(tells_gaps=False, on_drop=lambda *drop: dropped.append(drop))
    subscriber.put_nowait(event(1))
    subscriber.put_nowait(event(2))
    assert dropped == [(subscriber, b"2", None)]


async def test_put_waits_for_room() -> None:
    subscriber = Subscriber(1)
    assert await subscriber.put(b"1")
    second = asyncio.create_task(subscriber.put(b"2"))
    await asyncio.sleep(0)
    assert not second.done()
    iterator = subscriber.iter_events()
    assert await anext(iterator) == b"1"
    assert await second
    third = asyncio.create_task(subscriber.put(b"3"))
    await asyncio.sleep(0)
    subscriber.end("unsubscribed")
    assert not await third
    assert [e async for e in iterator] == [b"2"]


# -- iterating -------------------------------------------------------------------------------


async def test_iterating_goes_on_where_it_was_left() -> None:
    subscriber = Subscriber()
    for e in events(*range(10)):
        subscriber.put_nowait(e)
    async for e in subscriber.iter_events():
        if e == b"3":
            break
    subscriber.end("unsubscribed")
    assert [e async for e in subscriber.iter_events()] == [str(n).encode() for n in range(4, 10)]


async def test_a_waiting_iterator_is_woken_and_ended() -> None:
    subscriber = Subscriber()
    got: list[bytes] = []

    async def consume() -> None:
        async for e in subscriber.iter_events():
            got.append(e)

    task = asyncio.create_task(consume())
    await asyncio.sleep(0)
    subscriber.put_nowait(event(1))
    await eventually(lambda: got == [b"1"], "the event")
    subscriber.end("stopped")
    await task
    assert not subscriber.put_nowait(event(2))


async def test_batches_give_all_that_waits() -> None:
    subscriber = Subscriber()
    for e in events(*range(7)):
        subscriber.put_nowait(e)
    subscriber.end("unsubscribed")
    assert [len(batch) async for batch in subscriber.iter_batches(3)] == [3, 3, 1]


async def test_a_cancelled_wait_loses_nothing() -> None:
    subscriber = Subscriber()
    for n in range(50):
        task = asyncio.ensure_future(anext(subscriber.iter_events()))
        await asyncio.sleep(0)
        subscriber.put_nowait(event(n))
        task.cancel()
        await asyncio.wait([task])
        if task.cancelled():
            assert await anext(subscriber.iter_events()) == str(n).encode()
        else:
            assert task.result() == str(n).encode()


async def test_one_consumer_at_a_time() -> None:
    subscriber = Subscriber()
    first = asyncio.ensure_future(anext(subscriber.iter_events()))
    await asyncio.sleep(0)
    with pytest.raises(SubscriberStateError, match="one at a time"):
        await anext(subscriber.iter_events())
    with pytest.raises(SubscriberStateError, match="one at a time"):
        subscriber.attach(lambda batch: True)
    with pytest.raises(SubscriberStateError, match="one at a time"):
        async with subscriber.run_in_background(print):
            pass
    first.cancel()
    await asyncio.wait([first])


# -- in the background -----------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["plain", "async"])
async def test_the_worker_handles_all_that_is_queued_before_the_context_ends(kind: str) -> None:
    subscriber = Subscriber()
    got: list[bytes] = []

    async def slowly(e: Event) -> None:
        await asyncio.sleep(0)
        got.append(e)

    for e in events(*range(5)):
        subscriber.put_nowait(e)
    async with subscriber.run_in_background(got.append if kind == "plain" else slowly):
        assert subscriber.is_running
    assert got == [str(n).encode() for n in range(5)]
    assert not subscriber.is_running
    async with subscriber.run_in_background(got.append):  # and it can be used again
        subscriber.put_nowait(event("again"))
    assert got[-1] == b"again"


async def test_without_join_the_worker_is_cancelled() -> None:
    subscriber = Subscriber()
    started = asyncio.Event()

    async def hang(e: Event) -> None:
        started.set()
        await asyncio.Event().wait()

    subscriber.put_nowait(event(1))
    async with asyncio.timeout(5), subscriber.run_in_background(hang, join=False):
        await started.wait()


async def test_an_error_in_the_body_cancels_the_worker() -> None:
    subscriber = Subscriber()

    async def hang(e: Event) -> None:
        await asyncio.Event().wait()

    subscriber.put_nowait(event(1))
    with pytest.raises(KeyError, match="mine"):
        async with asyncio.timeout(5), subscriber.run_in_background(hang):
            await asyncio.sleep(0)
            raise KeyError("mine")
    assert not subscriber.is_running


async def test_a_failing_callback_ends_the_stream_at_once_and_its_error_comes_bare() -> None:
    subscriber = Subscriber()

    async def fail(e: Event) -> None:
        raise OSError("client gone")

    subscriber.put_nowait(event(1))
    subscriber.put_nowait(event(2))
    with pytest.raises(OSError, match="client gone"):
        async with asyncio.timeout(5), subscriber.run_in_background(fail):
            await asyncio.Event().wait()
    assert subscriber.end_reason == "failed"
    assert subscriber.qsize == 0
    task = asyncio.current_task()
    assert task is not None
    assert task.cancelling() == 0
    await asyncio.sleep(0)  # no cancellation is left over


async def test_a_callback_that_fails_while_leaving_is_raised() -> None:
    subscriber = Subscriber()

    async def fail(e: Event) -> None:
        raise OSError("late")

    with pytest.raises(OSError, match="late"):
        async with subscriber.run_in_background(fail):
            subscriber.put_nowait(event(1))


async def test_a_callback_that_is_no_function_is_refused_at_once() -> None:
    subscriber = Subscriber()
    with pytest.raises(ConfigurationError, match="on_event=5: pass a function"):
        async with subscriber.run_in_background(5):  # type: ignore[arg-type]
            pytest.fail("began")
    assert not subscriber.is_running


async def test_the_body_that_swallows_the_interruption_still_gets_the_error() -> None:
    subscriber = Subscriber()

    async def fail(e: Event) -> None:
        raise OSError("callback")

    subscriber.put_nowait(event(1))
    with pytest.raises(OSError, match="callback"):
        async with subscriber.run_in_background(fail):
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.Event().wait()
    task = asyncio.current_task()
    assert task is not None
    assert task.cancelling() == 0


async def test_a_cancelled_host_stays_cancelled() -> None:
    subscriber = Subscriber()

    async def host() -> None:
        async with subscriber.run_in_background(print):
            await asyncio.Event().wait()

    task = asyncio.create_task(host())
    await asyncio.sleep(0)
    task.cancel()
    await asyncio.wait([task])
    assert task.cancelled()
    assert not subscriber.is_running


# -- a sink ----------------------------------------------------------------------------------


def test_a_sink_gets_what_waits_and_then_each_put() -> None:
    subscriber, sink = Subscriber(), Recorder()
    subscriber.put_nowait(event(1))
    subscriber.put_nowait(event(2))
    subscriber.attach(sink)
    assert sink.calls == 1
    subscriber.put_nowait(event(3))
    assert sink.taken == [b"1", b"2", b"3"]
    assert subscriber.qsize == 0


def test_what_a_sink_refuses_waits_in_order_under_the_strategy() -> None:
    subscriber, sink = Subscriber(3, "backoff"), Recorder()
    subscriber.attach(sink)
    subscriber.put_nowait(event(1))
    sink.takes = False
    for e in events(2, 3, 4, 5):
        subscriber.put_nowait(e)
    assert subscriber.qsize == 3
    sink.takes = True
    assert sink.taken == [b"1"]
    subscriber.ready()
    subscriber.put_nowait(event(6))
    assert sink.taken == [b"1", b"2", b"3", b"4", b"6"]


def test_ready_again_and_again_does_not_get_round_the_limit() -> None:
    subscriber, sink = Subscriber(3), Recorder()
    subscriber.attach(sink)
    sink.takes = False
    for n in range(20):
        subscriber.put_nowait(event(n))
        subscriber.ready()
    assert subscriber.qsize == 3
    assert subscriber.dropped == 17


def test_a_failing_sink_ends_its_stream_and_tells(caplog: pytest.LogCaptureFixture) -> None:
    subscriber = Subscriber()
    ended: list[str | None] = []

    def fail(batch: Sequence[Event]) -> bool:
        raise OSError("gone")

    subscriber.attach(fail, on_end=lambda: ended.append(subscriber.end_reason))
    with caplog.at_level(logging.CRITICAL, "channels"):
        subscriber.put_nowait(event(1))
    assert ended == ["failed"]
    assert subscriber.qsize == 0


def test_the_end_is_told_once_also_when_it_came_first() -> None:
    subscriber, sink = Subscriber(), Recorder()
    subscriber.put_nowait(event(1))
    subscriber.end("unsubscribed")
    subscriber.attach(sink, sink.on_end)
    subscriber.end("stopped")
    assert sink.taken == [b"1"]
    assert sink.ended == 1
    assert subscriber.end_reason == "unsubscribed"


# -- subclasses ------------------------------------------------------------------------------


class Upper(Subscriber):
    def put_nowait(self, event: Event | bytes) -> bool:
        return super().put_nowait(Event(bytes(event).upper()))


def test_a_subclass_sees_every_event_a_sink_too() -> None:
    subscriber, sink = Upper(), Recorder()
    subscriber.attach(sink)
    subscriber.deliver("a", events("x", "y"))
    assert sink.taken == [b"X", b"Y"]


class Picky(Subscriber):
    def put_nowait(self, event: Event | bytes) -> bool:
        if event == b"bad":
            raise ValueError(event)
        return super().put_nowait(event)


def picky() -> Picky:
    subscriber = Picky()
    subscriber.configure(tells_gaps=True)
    return subscriber


def shown(stream: Iterable[Event]) -> list[str]:
    """Return the payloads, and ``gap`` where the stream has the mark of a drop."""
    return ["gap" if isinstance(e, Gap) and e.dropped else e.decode() for e in stream]


def test_a_subclass_that_raises_drops_that_event_alone() -> None:
    subscriber = Picky()
    dropped: list[tuple[Any, ...]] = []
    subscriber.configure(tells_gaps=False, on_drop=lambda *drop: dropped.append(drop))
    subscriber.deliver("a", events(1, "bad", 2))
    assert waiting(subscriber) == [b"1", b"2"]
    assert subscriber.dropped == 1
    [(who, event, error)] = dropped
    assert (who, event, type(error)) == (subscriber, b"bad", ValueError)


def test_what_a_subclass_raised_on_is_marked_in_its_place() -> None:
    subscriber = picky()
    subscriber.deliver("a", events(1, "bad", "bad", 2, "bad"))
    assert shown(subscriber._waiting()) == ["1", "gap", "2", "gap"]


async def test_who_waits_is_told_of_what_a_subclass_raised_on() -> None:
    iterating, (sink, attached) = picky(), (Recorder(), picky())
    attached.attach(sink)
    async with asyncio.timeout(5):
        first = asyncio.create_task(anext(iterating.iter_events()))
        await asyncio.sleep(0)
        for subscriber in iterating, attached:
            subscriber.deliver("a", events("bad"))
        assert shown([await first]) == shown(sink.taken) == ["gap"]


def test_marks_of_what_a_subclass_raises_on_do_not_pile_up() -> None:
    subscriber, sink = picky(), Recorder()
    sink.takes = False
    subscriber.attach(sink)
    for _ in range(100):
        subscriber.deliver("a", events("bad"))
    sink.takes = True
    subscriber.ready()
    assert set(shown(sink.taken)) == {"gap"}
    assert len(sink.taken) <= 2
    assert subscriber.dropped == 100


def test_what_a_subclass_raised_on_in_a_replay_is_marked_there() -> None:
    subscriber = picky()
    subscriber.deliver("a", events(3))
    subscriber.replay(events(1, "bad", 2))
    assert shown(subscriber._waiting()) == ["1", "gap", "2", "3"]


def test_what_a_subclass_raises_on_after_the_end_is_not_missing() -> None:
    subscriber = picky()
    subscriber.deliver("a", events(1))
    subscriber.end("stopped")
    subscriber.deliver("a", events("bad"))
    assert shown(subscriber._waiting()) == ["1"]


def test_nothing_holds_a_subscriber_that_is_let_go() -> None:
    subscriber = Subscriber()
    subscriber.attach(lambda batch: True)
    gone = weakref.ref(subscriber)
    del subscriber
    gc.collect()
    assert gone() is None
