"""What the driver does with libpq itself, which psycopg's cursors do for others."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator

import psycopg
import pytest
from psycopg_pool import AsyncConnectionPool

from channels.core import BackendException, BackendUnavailable
from channels.core.postgres import ConnectionLost
from channels.core.testing import TcpProxy
from channels.psycopg._driver import PsycopgConnection, PsycopgDriver
from channels.psycopg._wire import Wire
from kit import eventually, wait_until
from kit.fixtures import PostgresSpace


@pytest.fixture
async def connection(postgres_space: PostgresSpace) -> AsyncIterator[PsycopgConnection]:
    made = await PsycopgDriver(postgres_space.url).connect()
    assert isinstance(made, PsycopgConnection)
    yield made
    await made.close()


class Calls:
    """Counts how often a method of the wire is called from now on."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, method: str) -> None:
        self.count = 0
        original = getattr(Wire, method)

        def counted(wire: Wire) -> None:
            self.count += 1
            original(wire)

        monkeypatch.setattr(Wire, method, counted)


def has_ended(pid: int) -> bool:
    """Whether a process is gone, and all its sockets with it."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    return False


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
    connection.abort()
    with pytest.raises(ConnectionLost):
        await connection.fetch("SELECT 1")


async def test_call_is_told_why_the_server_ended_the_session(
    connection: PsycopgConnection, postgres_space: PostgresSpace
) -> None:
    """So it is known that the statement was rolled back; a lost connection leaves it in doubt."""
    lost: list[bool] = []
    connection.watch(lambda *_: None, lambda: lost.append(True))
    call = asyncio.create_task(connection.run("SELECT 1; SELECT pg_sleep(60)"))
    await eventually(connection.raw.lock.locked, "the call")
    postgres_space.server.terminate_backends("pid = %s", connection.pid)
    with pytest.raises(BackendUnavailable, match="57P01") as caught:
        await call
    assert not isinstance(caught.value, ConnectionLost)
    assert lost == [True]


async def test_idle_connection_that_was_ended_is_found_at_one_look(
    connection: PsycopgConnection, postgres_space: PostgresSpace
) -> None:
    """Though the server's last words lie before the end."""
    lost: list[bool] = []
    connection.watch(lambda *_: None, lambda: lost.append(True))
    assert not connection.is_closed()
    postgres_space.server.terminate_backends("pid = %s", connection.pid)
    wait_until(lambda: has_ended(connection.pid), "the end of the session")
    assert connection.is_closed()  # the loop has not run since
    assert lost == [True]


async def test_connection_that_the_network_cut_can_be_aborted(
    postgres_space: PostgresSpace,
) -> None:
    server = postgres_space.server
    async with TcpProxy(server.host, server.port) as proxy:
        url = server.url_for(postgres_space.name, port=proxy.port)
        connection = await PsycopgDriver(url).connect()
        proxy.cut()
        await asyncio.sleep(0)  # it is cut, and the loop has not looked yet
        connection.abort()
        assert connection.is_closed()
        await connection.close()


async def test_notifications_beside_answers_come_once_and_in_order(
    connection: PsycopgConnection,
) -> None:
    received: list[tuple[str, str]] = []
    connection.watch(lambda *came: received.append(came), lambda: None)
    name = 'a "n\u00e4me"'
    await connection.listen([name])
    sent = [f"{n} \u20ac" for n in range(400)]
    for payload in sent[:100]:  # they come with the answer
        await connection.fetch("SELECT pg_notify($1, $2)", name, payload)
    other = await PsycopgDriver(connection.raw.info.dsn).connect()
    for payload in sent[100:300]:  # between two answers, or before one
        await other.fetch("SELECT pg_notify($1, $2)", name, payload)
        await connection.fetch("SELECT 1")
    await other.fetch(  # together
        "SELECT pg_notify($1, p) FROM unnest(CAST($2 AS text[])) p", name, sent[300:]
    )
    await eventually(lambda: len(received) == 400, "the notifications")
    assert received == [(name, payload) for payload in sent]
    await other.close()


async def test_statement_larger_than_the_network_takes_at_once(
    postgres_space: PostgresSpace, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is left is sent when there is room, and an answer meanwhile is none."""
    written = Calls(monkeypatch, "_writable")
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
        before = written.count
        assert before > 0
        await connection.fetch("SELECT 1")
        assert written.count == before  # nothing is left, and there is always room
        await connection.close()


async def test_aborted_while_it_is_sent(
    postgres_space: PostgresSpace, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of the socket nothing stays behind that the next one with its number could meet."""
    server = postgres_space.server
    async with TcpProxy(server.host, server.port) as proxy:
        url = server.url_for(postgres_space.name, port=proxy.port)
        connection = await PsycopgDriver(url).connect()
        assert isinstance(connection, PsycopgConnection)
        fd = connection._wire._fd
        assert fd is not None
        await connection.fetch("SELECT CAST($1 AS bytea) IS NULL", b"")
        proxy.stall()
        call = asyncio.create_task(
            connection.fetch("SELECT CAST($1 AS bytea) IS NULL", b"x" * 16_000_000)
        )
        await eventually(connection.raw.lock.locked, "the call")
        connection.abort()
        with pytest.raises(ConnectionLost):
            await call
        assert not asyncio.get_running_loop().remove_writer(fd)
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
    with pytest.raises(BackendException, match="n\u00e4me"):
        await connection.run('SELECT 1 FROM "n\u00e4me"')


async def test_lent_connection_goes_back_as_it_came(
    postgres_space: PostgresSpace, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing of ours stays with it: no statement, no transaction mode, no watch of its socket."""
    read = Calls(monkeypatch, "_readable")
    async with AsyncConnectionPool(postgres_space.url, min_size=1, max_size=1, open=False) as pool:
        driver = PsycopgDriver(None, pool)
        for _ in range(8):
            borrowed = await driver.borrow()
            assert await borrowed.fetch("SELECT CAST($1 AS int)", 5) == [(5,)]
            await driver.give_back(borrowed)
        before = read.count
        assert before > 0
        async with pool.connection() as raw:
            assert not raw.autocommit
            shown = await raw.execute("SELECT count(*) FROM pg_prepared_statements")
            assert await shown.fetchone() == (0,)
        assert read.count == before


async def test_lent_connection_goes_back_when_a_cancelled_call_is_done(
    connection: PsycopgConnection, postgres_space: PostgresSpace
) -> None:
    await connection.fetch("SELECT pg_advisory_lock(7)")
    async with AsyncConnectionPool(postgres_space.url, min_size=1, max_size=1, open=False) as pool:
        driver = PsycopgDriver(None, pool)
        borrowed = await driver.borrow()
        assert isinstance(borrowed, PsycopgConnection)
        call = asyncio.create_task(borrowed.fetch("SELECT pg_advisory_lock(7)"))
        await eventually(borrowed.raw.lock.locked, "the call")
        call.cancel()
        await asyncio.wait([call])
        going_back = asyncio.create_task(driver.give_back(borrowed))
        await connection.fetch("SELECT pg_advisory_unlock(7)")
        await going_back
        async with pool.connection() as raw:
            assert raw.info.backend_pid == borrowed.pid
            await raw.execute("SELECT pg_advisory_unlock(7)")


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
