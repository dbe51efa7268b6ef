"""What a backend, a hook, a sink or a callback does wrong ends there, and stops nothing else."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any

import pytest

from channels.core import (
    BackendException,
    BackendRefused,
    ChannelsPlugin,
    Event,
    Gap,
    History,
    HistoryRequest,
    Listener,
    Lost,
    MemoryChannelsBackend,
    Message,
    Outcome,
    Position,
    PublishUnconfirmed,
    Subscriber,
    SubscriberStateError,
)
from channels.core.testing import FaultyBackend
from channels.core.testing._wrapper import BackendWrapper
from kit import eventually


@pytest.fixture(autouse=True)
def quiet(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.CRITICAL + 1, logger="channels")


class Rogue(BackendWrapper):
    """Memory that does, once, whatever a test tells it to do instead."""

    inner: MemoryChannelsBackend

    def __init__(self, history: int = 100) -> None:
        super().__init__(MemoryChannelsBackend(history))
        self.instead: dict[str, Callable[[], Any]] = {}

    def _misbehave(self, operation: str) -> Any:
        act = self.instead.pop(operation, None)
        return None if act is None else act()

    async def publish(self, messages: Sequence[Message]) -> Sequence[Outcome]:
        odd = self._misbehave("publish")
        await asyncio.sleep(0)
        return await self.inner.publish(messages) if odd is None else odd

    @asynccontextmanager
    async def listen(self) -> AsyncGenerator[Listener]:
        self._misbehave("listen")
        async with self.inner.listen() as inner:
            yield RogueListener(self, inner)
        self._misbehave("leave")

    async def get_history(self, requests: Sequence[HistoryRequest]) -> Sequence[History]:
        odd = self._misbehave("history")
        return await self.inner.get_history(requests) if odd is None else odd


class RogueListener:
    def __init__(self, backend: Rogue, inner: Listener) -> None:
        self._backend = backend
        self._inner = inner

    async def subscribe(self, channels: Sequence[str]) -> Mapping[str, Position | None]:
        self._backend._misbehave("subscribe")
        return await self._inner.subscribe(channels)

    async def unsubscribe(self, channels: Sequence[str]) -> None:
        self._backend._misbehave("unsubscribe")
        await self._inner.unsubscribe(channels)

    async def __aiter__(self) -> AsyncGenerator[Sequence[Event | Lost]]:
        async for batch in self._inner:
            self._backend._misbehave("iterate")
            if swallow := self._backend.instead.pop("swallow", None):
                swallow()
            else:
                yield batch


def raises(error: BaseException) -> Callable[[], Any]:
    def act() -> Any:
        raise error

    return act


ERRORS = [ZeroDivisionError("a bug"), asyncio.CancelledError("from inside")]


class Reader:
    def __init__(self, subscriber: Subscriber) -> None:
        self.events: list[Event] = []
        subscriber.attach(lambda events: self.events.extend(events) is None)

    @property
    def payloads(self) -> list[bytes]:
        return [b"GAP" if isinstance(event, Gap) else bytes(event) for event in self.events]


# -- backends --------------------------------------------------------------------------------


@pytest.mark.parametrize("error", ERRORS, ids=repr)
@pytest.mark.parametrize("operation", ["listen", "leave", "subscribe", "unsubscribe", "iterate"])
async def test_whatever_a_listener_raises_another_one_is_opened(
    operation: str, error: BaseException
) -> None:
    backend = Rogue()
    backend.instead[operation] = raises(error)
    async with ChannelsPlugin(backend, channels=["a", "b"]) as plugin:
        reader = Reader(await plugin.subscribe("a", gaps=True))
        await plugin.unsubscribe(await plugin.subscribe("b"))
        if operation == "leave":
            backend.instead["iterate"] = raises(ZeroDivisionError("so that it is left"))
        await plugin.wait_published("1", "a")
        await eventually(lambda: not backend.instead, "the error")
        await plugin.wait_published("2", "a")
        await eventually(lambda: reader.payloads == [b"1", b"2"], "both events")


@pytest.mark.parametrize("odd", [*map(raises, ERRORS), list], ids=["bug", "cancel", "few"])
async def test_a_repair_that_fails_is_a_gap_and_the_channel_lives_on(odd: Any) -> None:
    backend = Rogue()
    gaps: list[str] = []
    async with ChannelsPlugin(backend, channels=["a"], on_gap=gaps.append) as plugin:
        reader = Reader(await plugin.subscribe("a", gaps=True))
        backend.instead = {"swallow": lambda: None, "history": odd}
        await plugin.wait_published("lost", "a")
        await eventually(lambda: "swallow" not in backend.instead, "the loss")
        await plugin.wait_published("1", "a")
        await eventually(lambda: reader.payloads == [b"GAP", b"1"], "the gap")
        assert gaps == ["a"]
        # Who joins now is given all, and those who are there are not given it again.
        late = Reader(await plugin.subscribe("a", history=-1))
        await plugin.wait_published("2", "a")
        await eventually(lambda: late.payloads == [b"lost", b"1", b"2"], "history and live")
        assert reader.payloads == [b"GAP", b"1", b"2"]


async def test_a_record_that_cannot_be_read_spoils_no_other_repair() -> None:
    class Spoilt(FaultyBackend):
        async def get_history(self, requests: Sequence[HistoryRequest]) -> Sequence[History]:
            if any(request.channel == "b" for request in requests):
                raise BackendRefused("a record of another version")
            return await super().get_history(requests)

    memory = MemoryChannelsBackend(history=100)
    backend = Spoilt(memory)
    gaps: list[str] = []
    names = list("abc")
    async with ChannelsPlugin(backend, channels=names, on_gap=gaps.append) as plugin:
        readers = {name: Reader(await plugin.subscribe(name, gaps=True)) for name in names}
        with backend.outage():
            await memory.publish([Message(name, b"missed") for name in names])
        await eventually(lambda: all(reader.events for reader in readers.values()), "the repair")
        assert gaps == ["b"]
        assert [reader.payloads for reader in readers.values()] == [
            [b"missed"],
            [b"GAP"],
            [b"missed"],
        ]


async def test_a_join_after_a_failed_repair_repeats_nothing_to_the_others() -> None:
    backend = Rogue()
    async with ChannelsPlugin(backend, channels=["a"]) as plugin:
        reader = Reader(await plugin.subscribe("a", gaps=True))
        await plugin.wait_published("1", "a")
        await eventually(lambda: reader.payloads == [b"1"], "the first")
        backend.instead["history"] = raises(BackendRefused("no permission"))
        assert plugin._link is not None
        router = plugin._link.router
        await router.catch_up(router.channels["a"])
        assert reader.payloads == [b"1", b"GAP"]
        late = Reader(await plugin.subscribe("a", history=-1))
        await plugin.wait_published("2", "a")
        await eventually(lambda: late.payloads == [b"1", b"2"], "history and live")
        assert reader.payloads == [b"1", b"GAP", b"2"]


async def test_what_is_missed_after_a_failed_repair_is_told_too() -> None:
    rogue = Rogue()
    backend = FaultyBackend(rogue)
    gaps: list[str] = []
    async with ChannelsPlugin(backend, channels=["a"], on_gap=gaps.append) as plugin:
        reader = Reader(await plugin.subscribe("a", gaps=True))
        rogue.instead["history"] = raises(BackendRefused("no permission"))
        for count in (1, 2):  # the record can be read the second time, but from where on?
            with backend.outage():
                await rogue.inner.publish([Message("a", b"missed")])
            await eventually(lambda: len(gaps) == count, f"gap {count}")  # noqa: B023
        await plugin.wait_published("1", "a")
        await eventually(lambda: reader.payloads == [b"GAP", b"GAP", b"1"], "the event after")


async def test_what_comes_while_a_lost_place_is_looked_for_is_delivered() -> None:
    rogue = Rogue()
    backend = FaultyBackend(rogue)
    async with ChannelsPlugin(backend, channels=["a"]) as plugin:
        reader = Reader(await plugin.subscribe("a", gaps=True))
        assert plugin._link is not None
        router = plugin._link.router
        rogue.instead["history"] = raises(BackendRefused("no permission"))
        await router.catch_up(router.channels["a"])
        with backend.stall("history"):
            late = asyncio.create_task(router.catch_up(router.channels["a"]))
            await eventually(lambda: backend.calls["history"] == 2, "the second look")
            await plugin.wait_published("1", "a")
            await eventually(lambda: router.channels["a"].held == [b"1"], "the event")
        await late
        assert reader.payloads == [b"GAP", b"1"]


@pytest.mark.parametrize("odd", [*map(raises, ERRORS), list], ids=["bug", "cancel", "few"])
async def test_the_queue_outlives_whatever_publishing_raises(odd: Any) -> None:
    backend = Rogue()
    told: list[BackendException] = []
    plugin = ChannelsPlugin(
        backend, channels=["a"], on_publish_error=lambda channel, data, error: told.append(error)
    )
    async with plugin:
        reader = Reader(await plugin.subscribe("a"))
        backend.instead["publish"] = odd
        plugin.publish("doubtful", "a")
        await eventually(lambda: told, "the hook")
        assert isinstance(told[0], PublishUnconfirmed)
        plugin.publish("next", "a")
        await eventually(lambda: reader.payloads == [b"next"], "the next")


@pytest.mark.parametrize("odd", [*map(raises, ERRORS), list], ids=["bug", "cancel", "few"])
async def test_concurrent_calls_get_whatever_publishing_raises_and_the_next_ones_go(
    odd: Any,
) -> None:
    backend = Rogue()
    async with ChannelsPlugin(backend, channels=["a"]) as plugin:
        for flight, others in (("first", 3), ("group", 1)):
            calls = [asyncio.create_task(plugin.wait_published(str(n), "a")) for n in range(4)]
            if flight == "group":
                await asyncio.sleep(0)
            backend.instead["publish"] = odd
            outcomes = await asyncio.gather(*calls, return_exceptions=True)
            assert [isinstance(outcome, dict) for outcome in outcomes].count(True) == others
        assert await plugin.wait_published("after", "a")


async def test_what_is_refused_later_than_the_start_is_tried_again() -> None:
    backend = FaultyBackend()
    plugin = ChannelsPlugin(backend, channels=["a"], connect_timeout=0.05)
    with backend.outage():
        await plugin.start()
    with backend.outage(BackendRefused("loading")):
        calls = backend.calls["connect"]
        await eventually(lambda: backend.calls["connect"] > calls + 1, "refused attempts")
    reader = Reader(await plugin.subscribe("a"))
    await plugin.wait_published("x", "a")
    await eventually(lambda: reader.payloads == [b"x"], "the event")
    await plugin.stop()


async def test_a_subscription_that_is_lost_while_it_is_made_is_made_again() -> None:
    backend = FaultyBackend(MemoryChannelsBackend(100))
    async with ChannelsPlugin(backend, channels=["a"]) as plugin:
        plain = backend.inner.listen
        reconnected = asyncio.Event()

        @asynccontextmanager
        async def listen() -> AsyncGenerator[Listener]:
            async with plain() as inner:
                subscribe = inner.subscribe

                async def moves(channels: Sequence[str]) -> Mapping[str, Position | None]:
                    inner.subscribe = subscribe  # type: ignore[method-assign]
                    tops = await subscribe(channels)
                    await inner.unsubscribe(channels)
                    inner.arrived.append(Lost(tuple(channels)))  # type: ignore[attr-defined]
                    inner.wake()  # type: ignore[attr-defined]
                    for _ in range(10):
                        await asyncio.sleep(0)
                    return tops

                inner.subscribe = moves  # type: ignore[method-assign]
                reconnected.set()
                yield inner

        backend.inner.listen = listen  # type: ignore[method-assign]
        backend.cut()
        async with asyncio.timeout(5):
            await reconnected.wait()
        reader = Reader(await plugin.subscribe("a"))
        await plugin.wait_published("x", "a")
        await eventually(lambda: reader.payloads == [b"x"], "the event")


async def test_one_refused_name_among_many_costs_few_calls() -> None:
    backend = FaultyBackend()
    names = [str(n) for n in range(500)]
    backend.refused.add("250")
    async with ChannelsPlugin(backend, channels=names) as plugin:
        joins = [asyncio.create_task(plugin.subscribe(name)) for name in names]
        outcomes = await asyncio.gather(*joins, return_exceptions=True)
        refused = [
            n for n, outcome in zip(names, outcomes, strict=True) if type(outcome) is BackendRefused
        ]
        assert refused == ["250"]
        assert backend.calls["subscribe"] < 30


@pytest.mark.parametrize("part", ["publish", "close"])
async def test_what_ignores_a_cancellation_does_not_hold_up_the_stop(part: str) -> None:
    backend = Rogue()
    released = asyncio.Event()

    async def stubborn(*args: object) -> Any:
        while not released.is_set():
            with contextlib.suppress(asyncio.CancelledError):
                await released.wait()

    plugin = ChannelsPlugin(backend, channels=["a"], shutdown_timeout=0.05)
    await plugin.start()
    subscriber = await plugin.subscribe("a")
    setattr(backend, part, stubborn)
    plugin.publish("x", "a")
    others = asyncio.all_tasks()
    await asyncio.sleep(0)
    stopping = asyncio.create_task(plugin.stop())
    if part == "publish":
        # Its own task goes on, which is all that can be done.
        await asyncio.wait_for(stopping, 3)
        assert subscriber.end_reason == "stopped"
    else:
        await eventually(lambda: subscriber.end_reason == "stopped", "the end of the stream")
    released.set()
    await asyncio.wait_for(stopping, 3)
    # Once more if need be: it was about to swallow one when it was released.
    while left := [task for task in others - {asyncio.current_task()} if not task.done()]:
        for task in left:
            task.cancel()
        await asyncio.wait(left, timeout=0.1)


# -- hooks, sinks and callbacks --------------------------------------------------------------


@pytest.mark.parametrize("error", ERRORS, ids=repr)
async def test_an_on_end_that_fails_harms_nobody(error: BaseException) -> None:
    plugin = ChannelsPlugin(MemoryChannelsBackend(), channels=["a"])
    await plugin.start()
    bad = [await plugin.subscribe("a") for _ in range(3)]
    good = Reader(await plugin.subscribe("a"))
    bad[0].attach(raises(error), on_end=raises(error))  # type: ignore[arg-type]
    for subscriber in bad[1:]:
        subscriber.attach(lambda events: True, on_end=raises(error))
    await plugin.wait_published("1", "a")
    await plugin.wait_published("2", "a")
    await eventually(lambda: good.payloads == [b"1", b"2"], "both events")
    assert bad[0].end_reason == "failed"
    await plugin.unsubscribe(bad[1])
    await plugin.stop()
    assert bad[2].end_reason == "stopped"
    async with plugin:
        await plugin.wait_published("again", "a")


async def test_a_sink_that_raises_a_cancellation_ends_alone() -> None:
    async with ChannelsPlugin(Rogue(), channels=["a"]) as plugin:
        bad, good = await plugin.subscribe("a"), Reader(await plugin.subscribe("a"))
        bad.attach(raises(asyncio.CancelledError()))
        assert bad.end_reason is None
        for n in range(3):
            await plugin.wait_published(str(n), "a")
        await eventually(lambda: good.payloads == [b"0", b"1", b"2"], "the others")
        assert bad.end_reason == "failed"


@pytest.mark.parametrize("kind", ["plain", "async"])
async def test_a_callback_that_raises_a_cancellation_ends_the_stream(kind: str) -> None:
    subscriber = Subscriber()
    subscriber.put_nowait(b"x")

    async def wait_for_what_was_cancelled(event: Event) -> None:
        raise asyncio.CancelledError

    on_event = raises(asyncio.CancelledError()) if kind == "plain" else None
    with pytest.raises(RuntimeError, match="cancelled from inside"):
        async with asyncio.timeout(5):
            async with subscriber.run_in_background(
                wait_for_what_was_cancelled if on_event is None else lambda event: on_event()
            ):
                await asyncio.Event().wait()
    assert subscriber.end_reason == "failed"


async def test_a_subclass_that_raises_a_cancellation_drops_that_event_alone() -> None:
    class Picky(Subscriber):
        def put_nowait(self, event: Event | bytes) -> bool:
            if event == b"1":
                raise asyncio.CancelledError
            return super().put_nowait(event)

    plugin = ChannelsPlugin(Rogue(), channels=["a"], subscriber_class=Picky)
    async with plugin:
        picky = await plugin.subscribe("a")
        for n in range(3):
            await plugin.wait_published(str(n), "a")
        await eventually(lambda: picky.qsize == 2, "the others")
        assert (picky.dropped, picky.end_reason) == (1, None)


async def test_a_worker_that_stops_itself_does_not_wait_for_itself() -> None:
    subscriber = Subscriber()

    async def stop(event: Event) -> None:
        await subscriber.stop(join=True)

    subscriber.put_nowait(b"x")
    with pytest.raises(SubscriberStateError, match="itself"):
        async with asyncio.timeout(5), subscriber.run_in_background(stop):
            await asyncio.Event().wait()


async def test_leaving_handles_what_is_queued_by_then_and_not_all_that_ever_comes() -> None:
    subscriber = Subscriber()
    got: list[bytes] = []

    async def slower_than_they_come(event: Event) -> None:
        subscriber.put_nowait(b"more")
        subscriber.put_nowait(b"more")
        await asyncio.sleep(0)
        got.append(event)

    async with asyncio.timeout(5):
        async with subscriber.run_in_background(slower_than_they_come):
            for n in range(3):
                subscriber.put_nowait(str(n).encode())
            await asyncio.sleep(0)
    assert got[:3] == [b"0", b"1", b"2"]
    assert len(got) < 12
    assert subscriber.qsize > 0
