"""Where a task could run before it is noted, or in the middle of what creates it, none does."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import nullcontext
from typing import Any

import pytest

from channels.core import (
    BackendUnavailable,
    ChannelsPlugin,
    Event,
    MemoryChannelsBackend,
    Message,
    Subscriber,
    SubscriberStateError,
    _fanout,
)
from channels.core._fanout import CHUNK
from channels.core._router import Router
from channels.core.postgres._arrivals import Arrivals
from channels.core.postgres._fold import Folder
from channels.core.postgres._frame import Reference
from channels.core.postgres._lane import Lane
from channels.core.testing import FaultyBackend

pytestmark = pytest.mark.usefixtures("eager_tasks")


@pytest.mark.parametrize("join", [True, False])
async def test_a_worker_can_stop_itself_at_its_first_event(join: bool) -> None:
    subscriber = Subscriber()
    handled: list[Event] = []
    for data in b"first", b"second":
        subscriber.put_nowait(data)

    async def stop(event: Event) -> None:
        handled.append(event)
        await subscriber.stop(join=join)

    with pytest.raises(SubscriberStateError) if join else nullcontext():
        async with asyncio.timeout(3), subscriber.run_in_background(stop):
            while subscriber.is_running:
                await asyncio.sleep(0)
    assert handled == [b"first"]


async def test_a_channel_is_caught_up_with_where_reading_does_not_wait() -> None:
    backend = MemoryChannelsBackend(history=10)
    async with ChannelsPlugin(backend, channels=["a"]) as plugin, asyncio.timeout(3):
        subscriber = await plugin.subscribe("a")
        router = _router(plugin)
        await router.catch_up(router.channels["a"])
        await plugin.wait_published("1", "a")
        assert await anext(subscriber.iter_events()) == b"1"


async def test_a_large_fan_out_lets_the_loop_run_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_fanout, "MAX_HOLD", 0.0)
    served: list[Sequence[Event]] = []

    def sink(events: Sequence[Event]) -> bool:
        served.append(events)
        return True

    async with ChannelsPlugin(MemoryChannelsBackend(), channels=["a"]) as plugin:
        for _ in range(3 * CHUNK):
            (await plugin.subscribe("a")).attach(sink)
        taking = asyncio.create_task(_router(plugin).take([Event(b"1", "a")]))
        assert len(served) == CHUNK
        await taking
        assert len(served) == 3 * CHUNK


class Away:
    """A driver that knows at once that there is no server."""

    pooled = False

    async def connect(self) -> Any:
        raise BackendUnavailable("away")

    borrow = connect

    async def give_back(self, connection: object) -> None: ...


async def test_a_failure_that_did_not_wait_does_not_end_publishing() -> None:
    async def unused(*args: object) -> Any:
        raise AssertionError

    folder = Folder(Lane(Away(), unused, 1.0), unused)
    for _ in range(2):
        async with asyncio.timeout(3):
            [outcome] = await folder.publish([Message("a", b"1")])
        assert isinstance(outcome, BackendUnavailable)


async def test_payloads_are_read_after_one_that_was_there_at_once() -> None:
    async def resolve(references: Sequence[Reference]) -> Sequence[Event | None]:
        return [Event(b"1", reference.channel) for reference in references]

    arrivals = Arrivals(resolve)
    runs = aiter(arrivals)
    for payload in "12":
        arrivals.add(Reference("a", None, payload))
        async with asyncio.timeout(3):
            assert await anext(runs) == [b"1"]
    await arrivals.close()


async def test_a_listener_that_was_cut_does_nothing_more() -> None:
    backend = FaultyBackend()
    async with backend, backend.listen() as listener:
        backend.cut()
        with pytest.raises(BackendUnavailable):
            await listener.subscribe(["a"])


def _router(plugin: ChannelsPlugin) -> Router:
    assert plugin._link is not None
    return plugin._link.router
