"""The driver port for psycopg."""

from __future__ import annotations

import asyncio
import os
import re
import socket
from collections.abc import Callable, Coroutine, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Protocol, TypeVar

import psycopg
from psycopg import pq
from psycopg.rows import tuple_row

from channels.core import BackendException, BackendRefused, BackendUnavailable
from channels.core.postgres import Connection, ConnectionLost, error_from_server

RawConnection = psycopg.AsyncConnection[Any]
Notified = Callable[[str, str], None]
T = TypeVar("T")


class PsycopgPool(Protocol):
    """What is used of ``psycopg_pool.AsyncConnectionPool``."""

    async def getconn(self, timeout: float | None = None) -> RawConnection:
        """Take a connection."""
        ...

    async def putconn(self, conn: RawConnection) -> None:
        """Give it back."""
        ...


class PsycopgConnection:
    """A connection of psycopg's.

    Args:
        raw: The connection; it is put into autocommit mode.
        pool: Where it came from, if that is a pool.
    """

    def __init__(self, raw: RawConnection, pool: PsycopgPool | None = None) -> None:
        self.raw = raw
        self._pool = pool
        self._autocommit = raw.autocommit
        self._watch: _Watch | None = None
        self._calls: set[asyncio.Task[Any]] = set()

    @property
    def pid(self) -> int:
        return self.raw.info.backend_pid

    @property
    def is_lent(self) -> bool:
        return self._pool is not None

    def is_closed(self) -> bool:
        if self.raw.closed:
            return True
        pgconn = self.raw.pgconn
        try:
            # psycopg looks at an idle socket only when it is used. The first look may find the
            # server's last words, the second the end.
            for _ in range(2):
                pgconn.consume_input()
                pgconn.is_busy()
        except psycopg.OperationalError:
            return True
        return pgconn.status != pq.ConnStatus.OK

    async def fetch(self, query: str, *args: object) -> Sequence[Sequence[Any]]:
        return await self._uncancelled(self._fetch(query, args))

    async def run(self, script: str) -> None:
        await self._uncancelled(self._run(script))

    def watch(self, notified: Notified, lost: Callable[[], None]) -> None:
        self._watch = _Watch(self.raw, notified, lost)

    async def listen(self, channels: Sequence[str]) -> None:
        await self.run(";".join(f"LISTEN {_quoted(channel)}" for channel in channels))

    async def unlisten(self, channels: Sequence[str]) -> None:
        await self.run(";".join(f"UNLISTEN {_quoted(channel)}" for channel in channels))

    def abort(self) -> None:
        if self.raw.closed:
            return
        # A call under way holds the connection; shut down beneath it, its socket ends the call.
        try:
            with socket.socket(fileno=os.dup(self.raw.fileno())) as beneath:
                beneath.shutdown(socket.SHUT_RDWR)
        except (psycopg.Error, OSError):
            pass  # it is closed already

    async def close(self) -> None:
        if self._watch is not None:
            self._watch.stop()
        if self._calls:
            self.abort()
            await asyncio.wait(self._calls)
        if self._pool is None:
            await self.raw.close()
            return
        try:
            await self.run("UNLISTEN *")
        except BackendException:
            await self.raw.close()  # the pool replaces it
        await self.give_back()

    async def prepare(self) -> None:
        """Leave no transaction open behind a statement."""
        if not self._autocommit:
            await self.raw.set_autocommit(True)

    async def give_back(self) -> None:
        """Return it to its pool, as it was."""
        assert self._pool is not None
        try:
            if not self._autocommit and not self.raw.closed:
                await self.raw.set_autocommit(False)
        except psycopg.Error:
            await self.raw.close()  # the pool replaces it
        await self._pool.putconn(self.raw)

    async def _fetch(self, query: str, args: Sequence[object]) -> Sequence[Sequence[Any]]:
        with _translated():
            async with psycopg.AsyncRawCursor(self.raw, row_factory=tuple_row) as cursor:
                params = [_array(arg) if isinstance(arg, list) else arg for arg in args]
                await cursor.execute(query.encode(), params, binary=True)
                return await cursor.fetchall() if cursor.description else ()

    async def _run(self, script: str) -> None:
        with _translated():
            async with psycopg.AsyncRawCursor(self.raw) as cursor:
                await cursor.execute(script.encode(_encoding(self.raw)))

    async def _uncancelled(self, call: Coroutine[Any, Any, T]) -> T:
        """Run a call in a task of its own.

        psycopg, cancelled in the middle of one, waits for the server, which may be what does not
        answer. So the call goes on; the next one waits for it, and closing ends it.
        """
        task = asyncio.create_task(call)
        self._calls.add(task)
        task.add_done_callback(self._done)
        await asyncio.wait([task])
        return task.result()

    def _done(self, task: asyncio.Task[Any]) -> None:
        self._calls.discard(task)
        if not task.cancelled():
            task.exception()  # nobody may be left to ask


class _Watch:
    """Notifications and the end of a connection, as they come and without polling.

    psycopg's ``notifies()`` would hold the connection's lock, so that LISTEN had to wait for it.
    The loop watches a duplicate of the socket, since psycopg itself adds and removes the original.
    """

    def __init__(self, raw: RawConnection, notified: Notified, lost: Callable[[], None]) -> None:
        self._raw = raw
        self._notified = notified
        self._lost = lost
        self._loop = asyncio.get_running_loop()
        self._fd: int | None = os.dup(raw.fileno())
        self._loop.add_reader(self._fd, self._readable)
        raw.add_notify_handler(self._handle)  # for what comes while a statement runs

    def stop(self) -> None:
        """Let go of the socket."""
        if self._fd is not None:
            self._raw.remove_notify_handler(self._handle)
            self._loop.remove_reader(self._fd)
            os.close(self._fd)
            self._fd = None

    def _handle(self, notify: psycopg.Notify) -> None:
        self._notified(notify.channel, notify.payload)

    def _readable(self) -> None:
        if self._raw.closed:
            self._end()
        elif not self._raw.lock.locked():  # else the statement under way reads
            pgconn = self._raw.pgconn
            try:
                pgconn.consume_input()
            except psycopg.OperationalError:
                self._end()
                return
            encoding = self._raw.info.encoding
            while (notify := pgconn.notifies()) is not None:
                self._notified(notify.relname.decode(encoding), notify.extra.decode(encoding))
            if pgconn.status != pq.ConnStatus.OK:
                self._end()

    def _end(self) -> None:
        self.stop()
        self._lost()


class PsycopgDriver:
    """Where the backend's connections come from.

    Args:
        dsn: To open connections to listen on, or None: they are taken from ``pool`` then.
        pool: The application's pool, or None.
    """

    def __init__(self, dsn: str | None, pool: PsycopgPool | None = None) -> None:
        self._dsn = dsn
        self._pool = pool

    @property
    def pooled(self) -> bool:
        return self._pool is not None

    async def connect(self) -> Connection:
        if self._dsn is None:
            return await self.borrow()
        with _connecting():
            raw: RawConnection = await psycopg.AsyncConnection.connect(
                self._dsn, autocommit=True, client_encoding="utf8"
            )
        return PsycopgConnection(raw)

    async def borrow(self) -> Connection:
        assert self._pool is not None
        with _connecting():
            connection = PsycopgConnection(await self._pool.getconn(), self._pool)
            await connection.prepare()
            return connection

    async def give_back(self, connection: Connection) -> None:
        assert isinstance(connection, PsycopgConnection)
        await connection.give_back()


@contextmanager
def _translated() -> Iterator[None]:
    try:
        yield
    except psycopg.Error as exc:
        if exc.sqlstate is not None:
            raise error_from_server(exc.sqlstate, str(exc)) from exc
        if isinstance(exc, psycopg.OperationalError):
            raise ConnectionLost(f"PostgreSQL: the connection was lost: {exc}") from exc
        raise BackendException(f"psycopg: {exc}") from exc
    except OSError as exc:
        raise ConnectionLost(f"PostgreSQL: the connection was lost: {exc}") from exc
    except UnicodeError as exc:
        raise BackendException(f"the pool's client_encoding cannot carry a name: {exc}") from exc


def _encoding(raw: RawConnection) -> str:
    """Return what the server takes text for; an application's pool may have set anything."""
    encoding = raw.info.encoding
    return "utf-8" if encoding == "ascii" else encoding  # SQL_ASCII: bytes as they are


# libpq gives no SQLSTATE for a failed connection, only the server's words, in its language.
_REFUSED = re.compile(
    r"authentication failed|does not exist|no pg_hba\.conf entry|pg_hba\.conf rejects"
    r"|permission denied|not permitted to log in|not currently accepting connections"
    r"|no password supplied"
)
_NOT_NOW = re.compile(
    r"too many (clients|connections)|connection slots|terminating connection|shutting down"
    r"|starting up|in recovery|not yet accepting|could not fork|out of memory"
)


@contextmanager
def _connecting() -> Iterator[None]:
    """Translate what connecting raises.

    What cannot be told counts as transient, because what is refused is not sent again.
    """
    try:
        yield
    except psycopg.ProgrammingError as exc:
        raise BackendRefused(f"cannot connect to PostgreSQL: {exc}") from exc
    except psycopg.OperationalError as exc:
        kind = BackendRefused if _is_refused(exc) else BackendUnavailable
        raise kind(f"cannot connect to PostgreSQL: {exc}") from exc
    except (psycopg.Error, OSError) as exc:
        raise BackendUnavailable(f"cannot connect to PostgreSQL: {exc}") from exc


def _is_refused(exc: psycopg.OperationalError) -> bool:
    said = str(exc)
    if _NOT_NOW.search(said):
        return False
    if _REFUSED.search(said):
        return True
    # A server that is not ready, or full, says so before it asks for the password; libpq puts two
    # spaces before what a server says, and none before words of its own.
    pgconn = exc.pgconn
    asked = pgconn is not None and bool(pgconn.used_password or pgconn.needs_password)
    return asked and re.search(r":  \S", said) is not None


def _array(values: list[object]) -> str:
    """Write an array as PostgreSQL reads it; psycopg takes five times as long for a long one."""
    return "{" + ",".join(map(_element, values)) + "}"


def _element(value: object) -> str:
    match value:
        case bytes():
            return f'"\\\\x{value.hex()}"'
        case str():
            escaped = value.replace("\\", "\\\\").replace('"', '\\"')
            return f'"{escaped}"'
        case None:
            return "NULL"
        case _:
            return str(value)


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'
