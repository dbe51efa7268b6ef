"""The driver port for asyncpg."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, cast

import asyncpg

from channels.core import BackendException, BackendRefused, BackendUnavailable, ConfigurationError
from channels.core.postgres import Connection, ConnectionLost, error_from_server, with_way_out

if TYPE_CHECKING:
    from asyncpg.pool import PoolConnectionProxy

    RawConnection = asyncpg.Connection | PoolConnectionProxy

Connect = Callable[[], Awaitable["asyncpg.Connection"]]
FAREWELL = 0.5
"""Seconds for a server to close its end; once it waits for that, asyncpg cannot be interrupted."""

Notified = Callable[[str, str], None]


class ListeningConnection(asyncpg.Connection):
    """A connection that hands over each notification, so that LISTENs can share a round trip.

    asyncpg's own ``add_listener`` takes one round trip per channel.
    """

    notified: Notified | None = None

    def _process_notification(self, pid: int, channel: str, payload: str) -> None:
        if self.notified is not None:
            self.notified(channel, payload)


class AsyncpgConnection:
    """A connection of asyncpg's.

    Args:
        raw: The connection, or a pool's stand-in for one.
        pool: Where it came from, if that is a pool.
    """

    def __init__(self, raw: RawConnection, pool: asyncpg.Pool | None = None) -> None:
        self.raw = raw
        self._pool = pool
        self._joins = type(raw) is ListeningConnection  # isinstance() says yes to every connection
        self._notified: Notified | None = None

    @property
    def pid(self) -> int:
        return self.raw.get_server_pid()

    @property
    def is_lent(self) -> bool:
        return self._pool is not None

    def is_closed(self) -> bool:
        return self.raw.is_closed()

    async def fetch(self, query: str, *args: object) -> Sequence[Sequence[Any]]:
        with _translated():
            rows = await self.raw.fetch(query, *args)
        return cast("Sequence[Sequence[Any]]", rows)  # a Record has what is used of a sequence

    async def run(self, script: str) -> None:
        with _translated():
            await self.raw.execute(script)

    def watch(self, notified: Notified, lost: Callable[[], None]) -> None:
        self._notified = notified
        if isinstance(self.raw, ListeningConnection) and self._joins:
            self.raw.notified = notified
        self.raw.add_termination_listener(lambda _: lost())

    async def listen(self, channels: Sequence[str]) -> None:
        if self._joins:
            await self.run(";".join(f"LISTEN {_quoted(channel)}" for channel in channels))
            return
        with _translated():
            for channel in channels:
                await self.raw.add_listener(channel, self._called)

    async def unlisten(self, channels: Sequence[str]) -> None:
        if self._joins:
            await self.run(";".join(f"UNLISTEN {_quoted(channel)}" for channel in channels))
            return
        with _translated():
            for channel in channels:
                await self.raw.remove_listener(channel, self._called)

    def abort(self) -> None:
        try:
            if not self.raw.is_closed():
                self.raw.terminate()
        except asyncpg.InterfaceError:
            pass  # its pool has it back, and may have lent it again

    async def close(self) -> None:
        try:
            await self.raw.close(timeout=FAREWELL)
        except (asyncpg.PostgresError, asyncpg.InterfaceError, TimeoutError, OSError):
            self.abort()
        # asyncpg does not await its own task that asks the server to cancel a statement.
        await asyncio.sleep(0)
        if self._pool is not None:
            await self.give_back()

    async def give_back(self) -> None:
        """Return it to its pool, which resets or replaces it."""
        assert self._pool is not None
        try:
            await self._pool.release(cast("PoolConnectionProxy", self.raw))
        except (asyncpg.PostgresError, asyncpg.InterfaceError, OSError):
            self.abort()  # what broke it was met before, or will be by the next who uses it

    def _called(self, _: object, __: int, channel: str, payload: object) -> None:
        if self._notified is not None:
            self._notified(channel, str(payload))


class AsyncpgDriver:
    """Where the backend's connections come from.

    Args:
        connect: Opens one to listen on, or None: it is taken from ``pool`` then.
        pool: The application's pool, or None.
    """

    def __init__(self, connect: Connect | None, pool: asyncpg.Pool | None = None) -> None:
        self._connect = connect
        self._pool = pool

    @property
    def pooled(self) -> bool:
        return self._pool is not None

    async def connect(self) -> Connection:
        if self._connect is None:
            return await self.borrow()
        with _connecting():
            return AsyncpgConnection(await self._connect())

    async def borrow(self) -> Connection:
        assert self._pool is not None
        with _connecting():
            return AsyncpgConnection(await self._pool.acquire(), self._pool)

    async def give_back(self, connection: Connection) -> None:
        assert isinstance(connection, AsyncpgConnection)
        await connection.give_back()


def by_dsn(dsn: str) -> Connect:
    """Return what connects to ``dsn``."""

    async def connect() -> asyncpg.Connection:
        return await asyncpg.connect(dsn, connection_class=ListeningConnection)

    return connect


@contextmanager
def _translated() -> Iterator[None]:
    try:
        yield
    except asyncpg.PostgresConnectionError as exc:  # class 08, or the connection ended
        raise ConnectionLost(f"PostgreSQL: the connection was lost: {exc}") from exc
    except asyncpg.PostgresError as exc:
        raise error_from_server(exc.sqlstate or "XX000", str(exc)) from exc
    except (asyncpg.InternalClientError, OSError) as exc:
        raise ConnectionLost(f"PostgreSQL: the connection was lost: {exc}") from exc
    except asyncpg.InterfaceError as exc:
        if "closed" in str(exc):
            raise ConnectionLost(f"PostgreSQL: the connection was lost: {exc}") from exc
        raise BackendException(f"asyncpg: {exc}") from exc


@contextmanager
def _connecting() -> Iterator[None]:
    try:
        with _translated():
            yield
    except ConnectionLost as exc:
        cause = exc.__cause__
        assert cause is not None
        # If the server hung up on our certificate, what it said of it is beneath asyncpg's error.
        why = f"cannot connect to PostgreSQL: {cause.__cause__ or cause}"
        if isinstance(cause, FileNotFoundError | PermissionError):
            why += ": the server's socket, or a file that sslrootcert, sslcert or sslkey names"
        raise BackendUnavailable(with_way_out(why)) from exc
    except BackendException as exc:
        if isinstance(exc.__cause__, asyncpg.ClientConfigurationError):
            raise ConfigurationError(str(exc.__cause__)) from exc
        raise
    except (ValueError, TypeError) as exc:
        raise BackendRefused(f"cannot connect to PostgreSQL: {exc}") from exc
    except TimeoutError as exc:  # asyncpg's own, of the DSN
        raise BackendUnavailable(f"cannot connect to PostgreSQL: {exc!r}") from exc


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'
