"""The driver port for psycopg."""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Protocol

import psycopg
from psycopg import pq
from psycopg.adapt import Transformer
from psycopg.pq.abc import PGresult

from channels.core import BackendException, BackendRefused, BackendUnavailable
from channels.core.postgres import Connection, ConnectionLost, error_from_server, with_way_out
from channels.psycopg._wire import Notified, RawConnection, Wire


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
        self._encoding = _encoding(raw)
        self._wire = Wire(raw, self._encoding)
        self._load = Transformer(raw)
        self._prepared: dict[str, bytes] = {}
        self._numbers = itertools.count()

    @property
    def pid(self) -> int:
        return self.raw.info.backend_pid

    @property
    def is_lent(self) -> bool:
        return self._pool is not None

    def is_closed(self) -> bool:
        self._wire.look()
        return self._wire.ended

    async def fetch(self, query: str, *args: object) -> Sequence[Sequence[Any]]:
        try:
            result = await self._result(query, [self._param(arg) for arg in args])
            if result.status != pq.ExecStatus.TUPLES_OK:
                return ()
            self._load.set_pgresult(result)
            return self._load.load_rows(0, result.ntuples, tuple)
        except (psycopg.Error, UnicodeError) as exc:
            raise _translated(exc) from exc

    async def run(self, script: str) -> None:
        try:
            await self._wire.run(script.encode(self._encoding))
        except (psycopg.Error, UnicodeError) as exc:
            raise _translated(exc) from exc

    def watch(self, notified: Notified, lost: Callable[[], None]) -> None:
        self._wire.watch(notified, lost)

    async def listen(self, channels: Sequence[str]) -> None:
        await self.run(";".join(f"LISTEN {_quoted(channel)}" for channel in channels))

    async def unlisten(self, channels: Sequence[str]) -> None:
        await self.run(";".join(f"UNLISTEN {_quoted(channel)}" for channel in channels))

    def abort(self) -> None:
        self._wire.shut_down()

    async def close(self) -> None:
        if self.raw.lock.locked():
            self.abort()  # a call that was cancelled still waits for its answer
        elif self._pool is not None:
            try:
                await self.run("UNLISTEN *")
            except BackendException:
                self.abort()
        if self._pool is not None:
            await self.give_back()
            return
        await self._wire.settle()
        self._wire.stop()
        await self.raw.close()

    async def prepare(self) -> None:
        """Leave no transaction open behind a statement."""
        if not self._autocommit:
            await self.raw.set_autocommit(True)

    async def give_back(self) -> None:
        """Return it to its pool, as it was."""
        assert self._pool is not None
        await self._wire.settle()
        self._wire.look()
        self._wire.stop()
        try:
            if not self._autocommit and not self.raw.closed:
                await self.raw.set_autocommit(False)
        except psycopg.Error:
            await self.raw.close()  # the pool replaces it
        await self._pool.putconn(self.raw)

    async def _result(self, query: str, params: Sequence[bytes | None]) -> PGresult:
        """Run a statement, prepared on a connection of our own.

        On a lent one it would stay behind, and a pooler beneath the application's pool may lose it.
        """
        if self._pool is not None:
            return await self._wire.query(query.encode(), params)
        name = self._prepared.get(query)
        if name is None:
            name = b"channels_%d" % next(self._numbers)  # anew where one was cancelled
            await self._wire.prepare(name, query.encode())
            self._prepared[query] = name
        return await self._wire.execute(name, params)

    def _param(self, value: object) -> bytes | None:
        text = _text(value)
        if text is None:
            return None
        param = text.encode(self._encoding)
        if b"\0" in param:
            raise psycopg.DataError("PostgreSQL's text holds no NUL")
        return param


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


def _translated(exc: psycopg.Error | UnicodeError) -> BackendException:
    if isinstance(exc, UnicodeError):
        return BackendException(f"the pool's client_encoding cannot carry a name: {exc}")
    if exc.sqlstate is not None:
        return error_from_server(exc.sqlstate, str(exc))
    if isinstance(exc, psycopg.OperationalError):
        return ConnectionLost(f"PostgreSQL: the connection was lost: {exc}")
    return BackendException(f"psycopg: {exc}")


def _encoding(raw: RawConnection) -> str:
    """Return what the server takes text for; an application's pool may have set anything."""
    encoding = raw.info.encoding
    return "utf-8" if encoding == "ascii" else encoding  # SQL_ASCII: bytes as they are


# libpq gives no SQLSTATE for a failed connection, only the server's words, in its language.
_REFUSED = re.compile(
    r"authentication failed|does not exist|no pg_hba\.conf entry|pg_hba\.conf rejects"
    r"|permission denied|not permitted to log in|not currently accepting connections"
    r"|no password supplied|requires a valid client certificate|invalid sslmode value"
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
        raise kind(with_way_out(f"cannot connect to PostgreSQL: {exc}")) from exc
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


def _text(value: object) -> str | None:
    """Write a value as PostgreSQL reads it."""
    match value:
        case list():
            return "{" + ",".join(map(_element, value)) + "}"
        case bytes():
            return f"\\x{value.hex()}"
        case None:
            return None
        case _:
            return str(value)


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
