import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from channels.core import (
    BackendException,
    BackendRefused,
    BackendUnavailable,
    ChannelsBackend,
    HistoryRequest,
    MemoryChannelsBackend,
    Message,
    PublishUnconfirmed,
)
from channels.core.testing import BackendContract, FaultyBackend, HistoryContract
from channels.core.testing._tap import Tap


@pytest.mark.extended
class TestFaultyBackendLeftAlone(BackendContract):
    @pytest.fixture(autouse=True)
    def broker(self) -> None:
        self.memory = MemoryChannelsBackend()

    @asynccontextmanager
    async def backend(self) -> AsyncIterator[ChannelsBackend]:
        async with FaultyBackend(self.memory) as backend:
            yield backend


@pytest.mark.extended
class TestFaultyBackendWithHistoryLeftAlone(HistoryContract):
    history_at_most = 100

    @pytest.fixture(autouse=True)
    def broker(self) -> None:
        self.memory = MemoryChannelsBackend(history=self.history)

    @asynccontextmanager
    async def backend(self) -> AsyncIterator[ChannelsBackend]:
        async with FaultyBackend(self.memory) as backend:
            yield backend

    async def lose_record(self, channel: str) -> None:
        del self.memory._records[channel]


MESSAGES = [Message("a", b"1"), Message("b", b"2")]


@asynccontextmanager
async def listening(backend: FaultyBackend, *channels: str) -> AsyncIterator[Tap]:
    async with backend.listen() as listener, Tap(listener, patience=5) as tap:
        await tap.subscribe(*channels)
        yield tap


@pytest.fixture
async def backend() -> AsyncIterator[FaultyBackend]:
    async with FaultyBackend(MemoryChannelsBackend(history=10)) as backend:
        yield backend


async def heard(backend: FaultyBackend) -> list[bytes]:
    histories = await backend.inner.get_history([HistoryRequest("a"), HistoryRequest("b")])
    return [bytes(event) for history in histories for event in history.events]


@pytest.mark.parametrize(
    ("fault", "error", "published"),
    [
        ("unsent", BackendUnavailable, []),
        ("unconfirmed", PublishUnconfirmed, [b"1", b"2"]),
        ("vanishes", PublishUnconfirmed, []),
    ],
)
async def test_publish_fails_in_the_way_asked_for(
    backend: FaultyBackend, fault: Any, error: type[BackendException], published: list[bytes]
) -> None:
    backend.fail_publish(fault)
    outcomes = await backend.publish(MESSAGES)
    assert [type(outcome) for outcome in outcomes] == [error, error]
    assert await heard(backend) == published
    await backend.publish(MESSAGES)
    assert await heard(backend) == sorted([*published, b"1", b"2"])


async def test_publish_raises_once_and_works_again(backend: FaultyBackend) -> None:
    backend.fail_publish("raises")
    with pytest.raises(BackendUnavailable):
        await backend.publish(MESSAGES)
    await backend.publish(MESSAGES)
    assert await heard(backend) == [b"1", b"2"]
    assert backend.calls["publish"] == 2


async def test_a_refused_channel_fails_alone(backend: FaultyBackend) -> None:
    backend.refused.add("a")
    refused, sent = await backend.publish(MESSAGES)
    assert isinstance(refused, BackendRefused)
    assert not isinstance(sent, BackendException)
    assert await heard(backend) == [b"2"]
    async with listening(backend, "b") as tap:
        with pytest.raises(BackendRefused, match="'a'"):
            await tap.listener.subscribe(["b", "a"])


async def test_cut_ends_what_is_open_and_connecting_again_works(backend: FaultyBackend) -> None:
    async with listening(backend, "a") as tap:
        assert backend.connections == 1
        backend.cut()
        assert isinstance(await tap.until_ended(), BackendUnavailable)
        with pytest.raises(BackendUnavailable):
            await tap.listener.subscribe(["b"])
        with pytest.raises(BackendUnavailable):
            await tap.listener.unsubscribe(["a"])
    assert backend.connections == 0
    async with listening(backend, "a") as tap:
        await backend.publish(MESSAGES)
        await tap.until_event("a", b"1")


async def test_nothing_works_during_an_outage(backend: FaultyBackend) -> None:
    async with listening(backend, "a") as tap:
        with backend.outage():
            await tap.until_ended()
            with pytest.raises(BackendUnavailable):
                await backend.publish(MESSAGES)
            with pytest.raises(BackendUnavailable):
                await backend.get_history([])
            with pytest.raises(BackendUnavailable):
                async with backend.listen():
                    pass
    await backend.publish(MESSAGES)
    assert await heard(backend) == [b"1", b"2"]


async def test_an_outage_with_another_error(backend: FaultyBackend) -> None:
    with (
        backend.outage(BackendRefused("no")),
        pytest.raises(BackendRefused, match="no"),
    ):
        async with backend.listen():
            pass


async def test_stalled_operations_wait_until_released(backend: FaultyBackend) -> None:
    with backend.stall("publish", "history"):
        publishing = asyncio.create_task(backend.publish(MESSAGES))
        done, _ = await asyncio.wait([publishing], timeout=0.02)
        assert not done
        assert await heard(backend) == []
    await publishing
    assert await heard(backend) == [b"1", b"2"]


async def test_a_cut_ends_a_stalled_subscribe(backend: FaultyBackend) -> None:
    async with listening(backend, "a") as tap:
        with backend.stall("subscribe"):
            joining = asyncio.create_task(tap.subscribe("b"))
            while backend.calls["subscribe"] < 2:
                await asyncio.sleep(0)
            backend.cut()
            with pytest.raises(BackendUnavailable):
                await joining


async def test_delays_are_waited_for(backend: FaultyBackend) -> None:
    backend.delays["publish"] = 0.03
    started = asyncio.get_running_loop().time()
    await backend.publish(MESSAGES)
    assert asyncio.get_running_loop().time() - started >= 0.029


async def test_swallowed_events_do_not_arrive(backend: FaultyBackend) -> None:
    async with listening(backend, "a") as tap:
        backend.swallow = lambda event: event == b"lost"
        for data in (b"one", b"lost", b"two"):
            await backend.publish([Message("a", data)])
        await tap.until_event("a", b"two")
        assert tap.events == [b"one", b"two"]


async def test_lost_channels_fall_silent_until_subscribed_again(backend: FaultyBackend) -> None:
    async with listening(backend, "a", "b") as tap:
        backend.lose("a", "never subscribed")
        await backend.publish(MESSAGES)
        await tap.until_event("b", b"2")
        assert tap.lost == ["a"]
        assert tap.events == [b"2"]
        await tap.subscribe("a")
        await backend.publish(MESSAGES)
        await tap.until_event("a", b"1")


async def test_history_fails_as_often_as_asked_for(backend: FaultyBackend) -> None:
    backend.fail_history(2)
    for _ in range(2):
        with pytest.raises(BackendUnavailable):
            await backend.get_history([HistoryRequest("a")])
    assert len(await backend.get_history([HistoryRequest("a")])) == 1
