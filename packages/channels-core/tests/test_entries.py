import asyncio
from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager

import pytest

from channels.core import BackendUnavailable, ChannelsBackend, Listener, Message, Outcome


class SlowBackend(ChannelsBackend):
    def __init__(self) -> None:
        self.calls: list[str] = []
        self.failing = False
        self.is_open = False
        self.closing = asyncio.Event()

    async def open(self) -> None:
        await asyncio.sleep(0)
        if self.failing:
            raise BackendUnavailable("not now")
        self.calls.append("open")
        self.is_open = True

    async def close(self) -> None:
        self.closing.set()
        for _ in range(3):
            await asyncio.sleep(0)
        self.is_open = False
        self.calls.append("close")

    async def publish(self, messages: Sequence[Message]) -> Sequence[Outcome]:
        raise NotImplementedError

    def listen(self) -> AbstractAsyncContextManager[Listener]:
        raise NotImplementedError


async def use(backend: SlowBackend) -> None:
    async with backend:
        await asyncio.sleep(0)
        assert backend.is_open


async def test_entries_at_once_open_once_and_each_finds_it_open() -> None:
    backend = SlowBackend()
    await asyncio.gather(*[use(backend) for _ in range(5)])
    assert backend.calls == ["open", "close"]


async def test_an_entry_during_close_waits_and_opens_again() -> None:
    backend = SlowBackend()
    first = asyncio.create_task(use(backend))
    await backend.closing.wait()
    await asyncio.gather(first, use(backend))
    assert backend.calls == ["open", "close", "open", "close"]


async def test_a_failed_open_is_no_entry() -> None:
    backend = SlowBackend()
    backend.failing = True
    for _ in range(2):
        with pytest.raises(BackendUnavailable):
            await use(backend)
    backend.failing = False
    await use(backend)
    assert backend.calls == ["open", "close"]


def test_waiting_entries_on_one_loop_after_another() -> None:
    backend = SlowBackend()

    async def crowd() -> None:
        await asyncio.gather(*[use(backend) for _ in range(3)])

    for _ in range(2):
        with asyncio.Runner() as runner:
            runner.run(crowd())
    assert backend.calls == ["open", "close"] * 2
