import asyncio
import sqlite3
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import pytest
from example_channels_sqlite import SQLiteChannelsBackend

from channels.core import (
    ChannelsBackend,
    ChannelsPlugin,
    Message,
    available_backends,
    load_backend,
)
from channels.core.testing import FaultyBackend, HistoryContract, ResumeContract

MESSAGE = [Message("channel", b"x")]


class TestSQLite(HistoryContract):
    history_at_most = 100  # it trims exactly

    @pytest.fixture(autouse=True)
    def database(self, tmp_path: Path) -> None:
        self.path = tmp_path / "events.db"

    @asynccontextmanager
    async def backend(self) -> AsyncIterator[ChannelsBackend]:
        async with SQLiteChannelsBackend(self.path, history=self.history) as backend:
            yield backend

    async def lose_record(self, channel: str) -> None:
        async with SQLiteChannelsBackend(self.path) as backend:
            await backend.run(forget, channel)

    @pytest.mark.asyncio
    async def test_several_open_a_new_file_at_once(self) -> None:
        for number in range(10):
            self.path = self.path.with_name(f"{number}.db")
            async with AsyncExitStack() as stack:
                backends = [await stack.enter_async_context(self.backend()) for _ in range(4)]
                messages = [Message("channel", b"x")]
                outcomes = await asyncio.gather(*(one.publish(messages) for one in backends))
            assert sorted(position.offset for [position] in outcomes) == [1, 2, 3, 4]


class TestSQLiteOutages(ResumeContract):
    history_at_most = 100

    @pytest.fixture(autouse=True)
    def database(self, tmp_path: Path) -> None:
        self.path = tmp_path / "events.db"
        # A file cannot be cut off; what a network would do is done on the way to it.
        self.network = FaultyBackend(SQLiteChannelsBackend(self.path, history=self.history))

    @asynccontextmanager
    async def backend(self) -> AsyncIterator[ChannelsBackend]:
        async with self.network as backend:
            yield backend

    @asynccontextmanager
    async def bystander(self) -> AsyncIterator[ChannelsBackend]:
        async with SQLiteChannelsBackend(self.path, history=self.history) as backend:
            yield backend

    @asynccontextmanager
    async def outage(self) -> AsyncIterator[None]:
        with self.network.outage():
            yield

    async def lose_history(self) -> None:
        async with SQLiteChannelsBackend(self.path) as backend:
            await backend.run(forget, "%")


def forget(database: sqlite3.Connection, channels: str) -> None:
    for table in ("record", "event"):
        database.execute(f"DELETE FROM {table} WHERE channel LIKE ?", (channels,))


PUBLISH = """
import asyncio, sys
from channels.core import ChannelsPlugin

async def main() -> None:
    async with ChannelsPlugin(sys.argv[1], channels=["news"]) as plugin:
        for number in range(100):
            await plugin.wait_published(str(number), "news")

asyncio.run(main())
"""


def test_installing_it_is_all_that_is_needed(tmp_path: Path) -> None:
    assert available_backends()["sqlite"] == "example-channels-sqlite"
    backend = load_backend(f"sqlite://{tmp_path}/a%20b.db?history=7")
    assert isinstance(backend, SQLiteChannelsBackend)
    assert (backend._path, backend._history) == (tmp_path / "a b.db", 7)


@pytest.mark.asyncio
async def test_the_folder_of_doorbells_goes_with_the_last_who_listens(tmp_path: Path) -> None:
    path = tmp_path / "events.db"
    async with SQLiteChannelsBackend(path) as first, SQLiteChannelsBackend(path) as second:
        folder = first._doorbells
        await first.publish(MESSAGE)
        assert not folder.exists(), "nobody listens"
        async with second.listen():
            async with first.listen():
                assert len([*folder.iterdir()]) == 2
            assert len([*folder.iterdir()]) == 1
        assert not folder.exists()
        async with first.listen() as listener:
            await listener.subscribe(["channel"])
            await second.publish(MESSAGE)
            async with asyncio.timeout(20):
                assert await anext(aiter(listener)) == [b"x"]


@pytest.mark.asyncio
async def test_processes_hear_each_other(tmp_path: Path) -> None:
    url = f"sqlite://{tmp_path}/events.db"
    async with (
        ChannelsPlugin(url, channels=["news"]) as plugin,
        plugin.start_subscription("news") as subscriber,
    ):
        publisher = await asyncio.create_subprocess_exec(sys.executable, "-c", PUBLISH, url)
        expected = [b"%d" % number for number in range(100)]
        events = subscriber.iter_events()
        async with asyncio.timeout(20):
            assert [await anext(events) for _ in expected] == expected
            assert await publisher.wait() == 0
