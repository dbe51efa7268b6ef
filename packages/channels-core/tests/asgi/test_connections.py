"""Clients are ticked once per heartbeat, and nothing keeps those who left."""

from __future__ import annotations

import asyncio
import gc
import weakref
from collections import Counter

from channels.core.asgi._connections import CHUNK, Connections
from kit import virtual_clock


class Client:
    def __init__(self, ticks: Counter[int], number: int) -> None:
        self._ticks = ticks
        self._number = number

    def tick(self) -> None:
        self._ticks[self._number] += 1

    async def dismiss(self, spread: float) -> None: ...

    def abort(self) -> None: ...


def test_each_is_ticked_once_per_heartbeat_a_few_at_a_time() -> None:
    async def main() -> None:
        ticks: Counter[int] = Counter()
        connections = Connections(10_000, 15.0)
        for number in range(3 * CHUNK):
            connections.enter(Client(ticks, number))
        watch = asyncio.create_task(connections.watch())
        await asyncio.sleep(1)
        assert len(ticks) == CHUNK
        await asyncio.sleep(13)
        assert len(ticks) == 3 * CHUNK
        assert set(ticks.values()) == {1}
        await asyncio.sleep(15)
        assert set(ticks.values()) == {2}
        watch.cancel()

    virtual_clock.run(main())


def test_who_left_is_not_kept_until_the_next_heartbeat() -> None:
    async def main() -> None:
        connections = Connections(10_000, 15.0)
        clients = [Client(Counter(), number) for number in range(CHUNK + 10)]
        for client in clients:
            connections.enter(client)
        watch = asyncio.create_task(connections.watch())
        await asyncio.sleep(1)
        kept = [weakref.ref(client) for client in clients]
        while clients:
            connections.leave(clients.pop())
        del client
        gc.collect()
        assert [ref for ref in kept if ref() is not None] == []
        watch.cancel()

    virtual_clock.run(main())


class Broken(Client):
    """What it does fails, as a server's own objects may."""

    def tick(self) -> None:
        super().tick()
        raise ZeroDivisionError("a bug")

    async def dismiss(self, spread: float) -> None:
        raise ZeroDivisionError("a bug")

    def abort(self) -> None:
        raise ZeroDivisionError("a bug")


class Leaver(Client):
    """Leaves when it is told to."""

    def __init__(self, ticks: Counter[int], number: int, connections: Connections) -> None:
        super().__init__(ticks, number)
        self._connections = connections

    async def dismiss(self, spread: float) -> None:
        self._connections.leave(self)


def test_one_that_fails_keeps_no_other_from_its_heartbeat_or_its_goodbye() -> None:
    async def main() -> None:
        ticks: Counter[int] = Counter()
        connections = Connections(10_000, 15.0)
        for number in range(20):
            connections.enter(Leaver(ticks, number, connections))
        connections.enter(Broken(ticks, 20))
        watch = asyncio.create_task(connections.watch())
        await asyncio.sleep(20)
        assert set(ticks.values()) == {2}
        assert await connections.drain(5.0) == 1
        assert len(connections) == 1
        watch.cancel()

    virtual_clock.run(main())
