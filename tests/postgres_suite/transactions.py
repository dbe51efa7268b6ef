"""Publishing as part of a transaction of the application's."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import psycopg
import pytest
from sqlalchemy import create_engine, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine
from sqlalchemy.orm import Session

from channels.core import (
    ConfigurationError,
    HistoryRequest,
    InvalidChannelNameError,
    PayloadTooLarge,
)
from channels.core.postgres import PostgresChannelsBackend
from kit.fixtures import PostgresSpace
from postgres_suite._maker import Maker, Tap, send, tapped

BIG = b"big" * 5_000


class RolledBack(Exception):
    """Ends a transaction of a test."""


class TransactionSuite(Maker):
    """Rolled back means never happened; committed means once and in the order of commits."""

    @pytest.fixture(params=[0, 1000], ids=["live", "history"])
    def history(self, request: pytest.FixtureRequest) -> int:
        return request.param

    @asynccontextmanager
    async def stage(
        self, space: PostgresSpace, history: int, connections: int = 1
    ) -> AsyncIterator[tuple[PostgresChannelsBackend, Tap, list[Any]]]:
        """A backend, who listens to a, b and c, and connections of an application's."""
        async with AsyncExitStack() as stack:
            backend = self.make(space.url, history=history, create_schema=True, max_payload=50_000)
            await stack.enter_async_context(backend)
            tap = await stack.enter_async_context(tapped(backend, "a", "b", "c"))
            applications = [
                await stack.enter_async_context(self.connection(space.url))
                for _ in range(connections)
            ]
            yield backend, tap, applications

    async def test_commit_and_rollback(self, postgres_space: PostgresSpace, history: int) -> None:
        async with self.stage(postgres_space, history) as (backend, tap, [connection]):
            with pytest.raises(RolledBack):
                async with connection.transaction():
                    await backend.publish_in(connection, b"never", "a")
                    raise RolledBack
            async with connection.transaction():
                await backend.publish_in(connection, {"n": 1}, ["a", "b"])
                await backend.publish_in(connection, BIG, "a")
                await backend.publish_in(connection, "last", "a")
                await send(backend, "c", b"meanwhile")
                await tap.count(1)
            await tap.count(5)
            assert [e for e in tap.events if e.channel == "a"] == [b'{"n":1}', BIG, b"last"]
            assert [e for e in tap.events if e.channel == "b"] == [b'{"n":1}']
            assert tap.events[0] == b"meanwhile"
            if history:
                [record] = await backend.get_history([HistoryRequest("a")])
                assert record.events == [b'{"n":1}', BIG, b"last"]
                assert [e.position for e in record.events] == [
                    e.position for e in tap.events if e.channel == "a"
                ]
                assert postgres_space.execute("SELECT count(*) FROM channels.outbox") == [(0,)]

    async def test_savepoints(self, postgres_space: PostgresSpace, history: int) -> None:
        async with self.stage(postgres_space, history) as (backend, tap, [connection]):
            async with connection.transaction():
                await backend.publish_in(connection, b"1", "a")
                with pytest.raises(RolledBack):
                    async with connection.transaction():
                        await backend.publish_in(connection, b"never", "a")
                        raise RolledBack
                async with connection.transaction():
                    await backend.publish_in(connection, b"2", "a")
            await send(backend, "a", b"3")
            assert await tap.count(3) == [b"1", b"2", b"3"]

    async def test_equal_events(self, postgres_space: PostgresSpace, history: int) -> None:
        async with self.stage(postgres_space, history) as (backend, tap, [connection]):
            async with connection.transaction():
                for _ in range(5):
                    await backend.publish_in(connection, b"same", "a")
            assert await tap.count(5) == [b"same"] * 5

    async def test_outside_of_a_transaction(
        self, postgres_space: PostgresSpace, history: int
    ) -> None:
        async with self.stage(postgres_space, history) as (backend, _, [connection]):
            with pytest.raises(ConfigurationError, match="not in a transaction"):
                await backend.publish_in(connection, b"1", "a")

    async def test_bad_arguments(self, postgres_space: PostgresSpace, history: int) -> None:
        async with self.stage(postgres_space, history) as (backend, tap, [connection]):
            async with connection.transaction():
                with pytest.raises(PayloadTooLarge):
                    await backend.publish_in(connection, b"x" * 50_001, "a")
                with pytest.raises(InvalidChannelNameError):
                    await backend.publish_in(connection, b"x", ["a", "$reserved"])
                await backend.publish_in(connection, b"to nobody", [])
                await backend.publish_in(connection, b"fine", "a")
            with pytest.raises(ConfigurationError, match="publish in object"):
                await backend.publish_in(object(), b"1", "a")
            with pytest.raises(ConfigurationError, match="publish in object"):
                backend.publish_in_sync(object(), b"1", "a")
            assert await tap.count(1) == [b"fine"]

    async def test_open_transaction_holds_nobody_up(
        self, postgres_space: PostgresSpace, history: int
    ) -> None:
        async with self.stage(postgres_space, history, 2) as (backend, tap, [one, two]):
            async with one.transaction():
                await backend.publish_in(one, b"late", ["a", "b"])
                async with asyncio.timeout(2):
                    await send(backend, "a", b"now")
                    async with two.transaction():
                        await backend.publish_in(two, b"too", "a")
                    assert await tap.count(2) == [b"now", b"too"]
            assert (await tap.count(4))[2:] == [b"late", b"late"]
            if history:
                offsets = [e.position.offset for e in tap.events if e.channel == "a" and e.position]
                assert offsets == [1, 2, 3]

    async def test_opposite_orders_do_not_deadlock(self, postgres_space: PostgresSpace) -> None:
        names = [f"channel {n}" for n in range(60)]
        async with self.stage(postgres_space, 1000, 6) as (backend, tap, connections):
            await tap.listener.subscribe(names)

            async def work(number: int, connection: Any) -> None:
                order = names if number % 2 else names[::-1]
                for _ in range(15):
                    async with connection.transaction():
                        for start in range(0, 60, 20):
                            await backend.publish_in(connection, b"x", order[start : start + 20])

            async with asyncio.timeout(20):
                await asyncio.gather(*map(work, range(6), connections))
            await tap.count(6 * 15 * 60)
            for name in names:
                offsets = [
                    e.position.offset for e in tap.events if e.channel == name and e.position
                ]
                assert offsets == list(range(1, 91))

    async def test_commits_out_of_the_order_of_their_beginnings(
        self, postgres_space: PostgresSpace
    ) -> None:
        async with self.stage(postgres_space, 1000, 5) as (backend, tap, connections):
            for connection in connections:
                await self.execute(connection, "BEGIN")
            for n, connection in enumerate(connections):
                await backend.publish_in(connection, b"%d" % n, "a")
            for connection in reversed(connections):
                await self.execute(connection, "COMMIT")
            assert await tap.count(5) == [b"4", b"3", b"2", b"1", b"0"]
            [record] = await backend.get_history([HistoryRequest("a")])
            assert record.events == tap.events
            assert [e.position.offset for e in tap.events if e.position] == [1, 2, 3, 4, 5]

    @pytest.mark.parametrize("level", ["REPEATABLE READ", "SERIALIZABLE"])
    async def test_stricter_isolation_fails_or_is_whole(
        self, postgres_space: PostgresSpace, level: str
    ) -> None:
        """With history, another commit in the channel since the snapshot fails the COMMIT."""
        async with self.stage(postgres_space, 1000) as (backend, tap, [connection]):
            await send(backend, "a", b"1")
            await self.execute(connection, f"BEGIN ISOLATION LEVEL {level}")
            await backend.publish_in(connection, b"alone", "a")
            await self.execute(connection, "COMMIT")
            await self.execute(connection, f"BEGIN ISOLATION LEVEL {level}")
            await backend.publish_in(connection, b"late", "a")
            await send(backend, "a", b"2")
            with pytest.raises(Exception, match="could not serialize access"):
                await self.execute(connection, "COMMIT")
            await self.execute(connection, f"BEGIN ISOLATION LEVEL {level}")
            await backend.publish_in(connection, b"once more", "a")
            await self.execute(connection, "COMMIT")
            assert await tap.count(4) == [b"1", b"alone", b"2", b"once more"]

    @pytest.mark.parametrize("level", ["REPEATABLE READ", "SERIALIZABLE"])
    async def test_stricter_isolation_without_history(
        self, postgres_space: PostgresSpace, level: str
    ) -> None:
        async with self.stage(postgres_space, 0) as (backend, tap, [connection]):
            await self.execute(connection, f"BEGIN ISOLATION LEVEL {level}")
            await backend.publish_in(connection, b"1", "a")
            await send(backend, "a", b"0")
            await self.execute(connection, "COMMIT")
            assert await tap.count(2) == [b"0", b"1"]

    async def test_prepared_transactions_are_refused(
        self, postgres_space: PostgresSpace, history: int
    ) -> None:
        """NOTIFY cannot be prepared: the server says so, and nothing happened."""
        async with self.stage(postgres_space, history) as (backend, tap, [connection]):
            await self.execute(connection, "BEGIN")
            await backend.publish_in(connection, b"never", "a")
            with pytest.raises(Exception, match="cannot PREPARE a transaction"):
                await self.execute(connection, "PREPARE TRANSACTION 'two'")
            await send(backend, "a", b"next")
            assert await tap.count(1) == [b"next"]

    async def test_prepared_transactions_without_notify(
        self, postgres_space: PostgresSpace
    ) -> None:
        backend = self.make(
            postgres_space.url, history=10, create_schema=True, notify=False, poll_interval=0.02
        )
        application: Any
        async with backend, tapped(backend, "a", "b") as tap:
            await send(backend, "a", b"1")
            async with self.connection(postgres_space.url) as application:
                await self.execute(application, "BEGIN")
                await backend.publish_in(application, b"2", "a")
                await self.execute(application, "PREPARE TRANSACTION 'mine'")
                await send(backend, "b", b"meanwhile")
                await tap.count(2)
                await self.execute(application, "COMMIT PREPARED 'mine'")
            assert await tap.count(3) == [b"1", b"meanwhile", b"2"]

    async def test_sqlalchemy(self, postgres_space: PostgresSpace, history: int) -> None:
        url = postgres_space.url.replace("postgresql", self.sqlalchemy_url, 1)
        engine = create_async_engine(url)
        try:
            async with self.stage(postgres_space, history) as (backend, tap, _):
                async with AsyncSession(engine) as session:
                    await backend.publish_in(session, b"never", "a")  # begins the transaction
                    await session.rollback()
                    await backend.publish_in(session, b"1", ["a", "b"])
                    await session.execute(text("SELECT 1"))
                    await session.commit()
                    async with session.begin():
                        await backend.publish_in(session, BIG, "a")
                async with engine.begin() as connection:
                    await backend.publish_in(connection, b"3", "a")
                autocommit = engine.execution_options(isolation_level="AUTOCOMMIT")
                async with AsyncSession(autocommit) as session:
                    with pytest.raises(ConfigurationError, match="AUTOCOMMIT"):
                        await backend.publish_in(session, b"4", "a")
                await tap.count(4)
                assert [e for e in tap.events if e.channel == "a"] == [b"1", BIG, b"3"]
        finally:
            await engine.dispose()

    async def test_synchronous_code(self, postgres_space: PostgresSpace, history: int) -> None:
        def work(backend: PostgresChannelsBackend) -> None:
            with psycopg.connect(postgres_space.url) as connection:
                backend.publish_in_sync(connection, b"never", "a")
                connection.rollback()
                backend.publish_in_sync(connection, {"n": 1}, ["a", "é" * 50])
                connection.commit()
                connection.autocommit = True
                with pytest.raises(ConfigurationError, match="not in a transaction"):
                    backend.publish_in_sync(connection, b"2", "a")
            engine = create_engine(postgres_space.url.replace("postgresql", "postgresql+psycopg"))
            with Session(engine) as session:
                backend.publish_in_sync(session, BIG, "a")
                session.commit()
            with engine.begin() as connection:
                backend.publish_in_sync(connection, b"3", "a")
            engine.dispose()

        async with self.stage(postgres_space, history) as (backend, tap, _):
            await tap.listener.subscribe(["é" * 50])
            await asyncio.to_thread(work, backend)
            # A backend that was never entered will do, too.
            other = self.make(postgres_space.url, history=history)
            await asyncio.to_thread(work, other)
            await tap.count(8)
            assert [e for e in tap.events if e.channel == "a"] == [b'{"n":1}', BIG, b"3"] * 2
            assert [e for e in tap.events if e.channel != "a"] == [b'{"n":1}'] * 2

    async def test_sql_function_in_a_trigger(
        self, postgres_space: PostgresSpace, history: int
    ) -> None:
        async with self.stage(postgres_space, history) as (backend, tap, _):
            await send(backend, "c", b"tables exist")
            postgres_space.execute("""
                CREATE TABLE orders (id int, item text);
                CREATE FUNCTION tell() RETURNS trigger LANGUAGE plpgsql AS $$
                BEGIN
                    PERFORM channels.publish('a', to_jsonb(NEW)::text);
                    PERFORM channels.publish('b', '\\x0001'::bytea);
                    RETURN NULL;
                END $$;
                CREATE TRIGGER tell AFTER INSERT ON orders FOR EACH ROW EXECUTE FUNCTION tell();
            """)
            postgres_space.execute("INSERT INTO orders VALUES (1, 'tea'), (2, repeat('x', 20000))")
            await tap.count(5)
            got = [e for e in tap.events if e.channel == "a"]
            assert got[0] == b'{"id": 1, "item": "tea"}'
            assert len(got[1]) > 20_000
            assert [e for e in tap.events if e.channel == "b"] == [b"\0\1"] * 2
            with pytest.raises(psycopg.errors.InvalidParameterValue, match="channel name"):
                postgres_space.execute("SELECT channels.publish('', 'x')")

    async def test_somebodys_own_notification(
        self, postgres_space: PostgresSpace, history: int
    ) -> None:
        """``pg_notify`` called by a trigger, without anything of ours, arrives verbatim."""
        async with self.stage(postgres_space, history) as (_, tap, __):
            postgres_space.execute("SELECT pg_notify('a', 'grüße'), pg_notify('b', '')")
            await tap.count(2)
            assert [(e.channel, bytes(e), e.position) for e in tap.events] == [
                ("a", "grüße".encode(), None),
                ("b", b"", None),
            ]

    async def test_serializable_writers_retry_and_lose_nothing(
        self, postgres_space: PostgresSpace
    ) -> None:
        async with self.stage(postgres_space, 1000, 4) as (backend, tap, connections):
            await send(backend, "c", b"tables exist")

            async def work(number: int, connection: Any) -> None:
                for n in range(10):
                    while True:
                        try:
                            await self.execute(connection, "BEGIN ISOLATION LEVEL SERIALIZABLE")
                            await backend.publish_in(connection, b"%d:%d" % (number, n), "a")
                            await self.execute(connection, "COMMIT")
                            break
                        except Exception as exc:
                            await self.execute(connection, "ROLLBACK")
                            if "serialize" not in str(exc):
                                raise

            async with asyncio.timeout(20):
                await asyncio.gather(*map(work, range(4), connections))
            await tap.count(41)
            got = [bytes(e) for e in tap.events if e.channel == "a"]
            assert sorted(got) == sorted(b"%d:%d" % (a, b) for a in range(4) for b in range(10))

    async def test_sqlalchemy_says_serialization_failures(
        self, postgres_space: PostgresSpace
    ) -> None:
        url = postgres_space.url.replace("postgresql", self.sqlalchemy_url, 1)
        engine = create_async_engine(url, isolation_level="REPEATABLE READ")
        try:
            async with (
                self.stage(postgres_space, 1000) as (backend, _, __),
                AsyncSession(engine) as session,
            ):
                await backend.publish_in(session, b"1", "a")
                await session.execute(text("SELECT 1"))
                await send(backend, "a", b"2")
                with pytest.raises(DBAPIError):
                    await session.commit()
        finally:
            await engine.dispose()
