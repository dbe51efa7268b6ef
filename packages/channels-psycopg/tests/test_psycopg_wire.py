"""What the driver does with libpq itself, which psycopg's cursors do for others."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import psycopg
import pytest
from psycopg_pool import AsyncConnectionPool

from channels.core import BackendException
from channels.core.postgres import ConnectionLost
from channels.core.testing import TcpProxy
from channels.psycopg._driver import PsycopgConnection, PsycopgDriver
from kit import eventually
from kit.fixtures import PostgresSpace


@pytest.fixture
async def connection(postgres_space: PostgresSpace) -> AsyncIterator[PsycopgConnection]:
    made = await PsycopgDriver(postgres_space.url).connect()
    assert isinstance(made, PsycopgConnection)
    yield made
    await made.close()


async def test_cancelled_call_ends_at_once_and_is_done(connection: PsycopgConnection) -> None:
    """Its answer is read by nobody, and no later statement gets it."""
    unseen: list[object] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: unseen.append(context))
    await connection.run("CREATE TEMPORARY TABLE done (n int)")
    # The lock is another session's, so the call cannot end before it is let go of.
    other = await PsycopgDriver(connection.raw.info.dsn).connect()
    await other.fetch("SELECT pg_advisory_lock(7)")
    call = asyncio.create_task(
        connection.run("SELECT pg_advisory_lock(7); INSERT INTO done VALUES (1)")
    )
    await eventually(connection.raw.lock.locked, "the call")
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    assert connection.raw.lock.locked()
    following = asyncio.create_task(connection.fetch("SELECT n FROM done"))
    await other.fetch("SELECT pg_advisory_unlock(7)")
    assert await following == [(1,)]
    assert unseen == []
    await other.close()


async def test_cancelled_while_it_is_prepared(connection: PsycopgConnection) -> None:
    call = asyncio.create_task(connection.fetch("SELECT 1"))
    await asyncio.sleep(0)  # it has sent, and nothing was read yet
    assert connection.raw.lock.locked()
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    assert await connection.fetch("SELECT 1") == [(1,)]
    assert await connection.fetch("SELECT 2") == [(2,)]
    assert await connection.fetch("SELECT 1") == [(1,)]


async def test_closing_ends_a_call_that_was_cancelled(connection: PsycopgConnection) -> None:
    call = asyncio.create_task(connection.run("SELECT pg_sleep(60)"))
    await eventually(connection.raw.lock.locked, "the call")
    call.cancel()
    await asyncio.wait([call])
    await connection.close()
    assert connection.is_closed()


async def test_aborted_call_says_that_the_connection_is_lost(connection: PsycopgConnection) -> None:
    call = asyncio.create_task(connection.run("SELECT pg_sleep(60)"))
    await eventually(connection.raw.lock.locked, "the call")
    connection.abort()
    with pytest.raises(ConnectionLost):
        await call
    assert connection.is_closed()
    with pytest.raises(ConnectionLost):
        await connection.fetch("SELECT 1")


async def test_notifications_beside_answers_come_once_and_in_order(
    connection: PsycopgConnection,
) -> None:
    received: list[tuple[str, str]] = []
    connection.watch(lambda *came: received.append(came), lambda: None)
    await connection.listen(['a "name"'])
    sent = [str(n) for n in range(300)]
    for payload in sent[:100]:  # they come with the answer
        await connection.fetch("SELECT pg_notify($1, $2)", 'a "name"', payload)
    other = await PsycopgDriver(connection.raw.info.dsn).connect()
    for payload in sent[100:]:  # between two answers, or before one
        await other.fetch("SELECT pg_notify($1, $2)", 'a "name"', payload)
        await connection.fetch("SELECT 1")
    await eventually(lambda: len(received) == 300, "the notifications")
    assert received == [('a "name"', payload) for payload in sent]
    await other.close()


async def test_statement_larger_than_the_network_takes_at_once(
    postgres_space: PostgresSpace,
) -> None:
    """What is left is sent when there is room, and an answer meanwhile is none."""
    server = postgres_space.server
    async with TcpProxy(server.host, server.port) as proxy:
        url = server.url_for(postgres_space.name, port=proxy.port)
        connection = await PsycopgDriver(url).connect()
        proxy.stall()
        data = b"\x00\\\"'" * 4_000_000
        call = asyncio.create_task(
            connection.fetch(
                "SELECT length(d), d = $2 FROM unnest(CAST($1 AS bytea[])) d", [data], data
            )
        )
        assert isinstance(connection, PsycopgConnection)
        await eventually(connection.raw.lock.locked, "the call")
        proxy.resume()
        assert await call == [(len(data), True)]
        await connection.close()


async def test_values_arrive_as_they_are(connection: PsycopgConnection) -> None:
    texts = ["", "NULL", 'q"\\,{} ', "caf\u00e9 \U0001f600", None]
    datas = [b"", b"\x00\xff\\", None]
    for _ in range(2):
        assert await connection.fetch(
            "SELECT CAST($1 AS text[]), CAST($2 AS bytea[]), CAST($3 AS bigint[]),"
            " CAST($4 AS bigint), CAST($5 AS boolean), CAST($6 AS bytea), CAST($7 AS text)",
            *(texts, datas, [1, -(2**62), None], 2**62, True, b"\x00\xff", None),
        ) == [(texts, datas, [1, -(2**62), None], 2**62, True, b"\x00\xff", None)]
    with pytest.raises(BackendException, match="NUL"):
        await connection.fetch("SELECT CAST($1 AS text)", "a\0b")
    assert await connection.fetch("SELECT 1 WHERE false") == []


async def test_error_leaves_the_connection_of_use(connection: PsycopgConnection) -> None:
    for _ in range(2):
        with pytest.raises(BackendException, match="22012") as caught:
            await connection.fetch("SELECT 1 / CAST($1 AS int)", 0)
        assert isinstance(caught.value.__cause__, psycopg.errors.DivisionByZero)
    with pytest.raises(BackendException, match="22012"):
        await connection.run("SELECT 1; SELECT 1 / 0; SELECT 2")
    assert await connection.fetch("SELECT 1 / CAST($1 AS int)", 1) == [(1,)]


async def test_lent_connection_goes_back_as_it_came(postgres_space: PostgresSpace) -> None:
    """Nothing of ours stays with it: no statement, no transaction mode, no watch of its socket."""
    async with AsyncConnectionPool(postgres_space.url, min_size=1, max_size=1, open=False) as pool:
        driver = PsycopgDriver(None, pool)
        for _ in range(8):
            borrowed = await driver.borrow()
            assert await borrowed.fetch("SELECT CAST($1 AS int)", 5) == [(5,)]
            await driver.give_back(borrowed)
        async with pool.connection() as raw:
            assert not raw.autocommit
            shown = await raw.execute("SELECT count(*) FROM pg_prepared_statements")
            assert await shown.fetchone() == (0,)
            loop = asyncio.get_running_loop()
            assert not loop.remove_reader(raw.fileno())


async def test_lent_connection_that_broke_is_replaced(postgres_space: PostgresSpace) -> None:
    async with AsyncConnectionPool(postgres_space.url, min_size=1, max_size=1, open=False) as pool:
        driver = PsycopgDriver(None, pool)
        borrowed = await driver.borrow()
        await borrowed.fetch("SELECT 1")
        borrowed.abort()
        await driver.give_back(borrowed)
        async with pool.connection() as raw:
            assert raw.info.backend_pid != borrowed.pid
            await raw.execute("SELECT 1")
