"""Where statements run: a connection kept open, or one borrowed from the application's pool."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from typing import Any

from channels.core._errors import BackendUnavailable, NotRunningError
from channels.core.postgres._port import Connection, ConnectionLost, Driver, ReadOnlyServer


@contextmanager
def deadline(connection: Connection, seconds: float) -> Iterator[None]:
    """Break ``connection`` if the block takes longer.

    Cancelling a driver's call would wait for the server, which may be what is not answering.

    Raises:
        ConnectionLost: It took longer.
    """
    expired = False

    def expire() -> None:
        nonlocal expired
        expired = True
        connection.abort()

    handle = asyncio.get_running_loop().call_later(seconds, expire)
    try:
        yield
    except BackendUnavailable as exc:
        if expired:
            raise ConnectionLost(f"PostgreSQL gave no answer within {seconds:g} s") from exc
        raise
    finally:
        handle.cancel()


async def ask(
    connection: Connection, seconds: float, query: str, *args: object
) -> Sequence[Sequence[Any]]:
    """Run one statement within ``seconds``."""
    with deadline(connection, seconds):
        return await connection.fetch(query, *args)


class Lane:
    """One connection at a time, for one user at a time.

    Without a pool the connection is opened when first needed and again after it broke; so a
    backend never has more connections than lanes and listeners.

    Args:
        driver: Where connections come from.
        prepare: Run on each new connection; on a borrowed one, the first time and after a failure.
        seconds: How long connecting, or waiting for the pool, may take.
    """

    def __init__(
        self, driver: Driver, prepare: Callable[[Connection], Awaitable[None]], seconds: float
    ) -> None:
        self._driver = driver
        self._prepare = prepare
        self._seconds = seconds
        self._lock = asyncio.Lock()
        self._kept: Connection | None = None
        self._used: Connection | None = None
        self._prepared = False
        self._closed = False

    @asynccontextmanager
    async def connection(self) -> AsyncIterator[Connection]:
        """Have the connection to oneself.

        Raises:
            BackendUnavailable: None can be had in time.
            BackendRefused: The server does not want us.
            NotRunningError: The lane was closed, perhaps while this waited.
        """
        async with self._lock:
            self._used = await self._take()
            try:
                if not self._prepared:
                    await self._prepare(self._used)
                    self._prepared = True
                yield self._used
            except BackendUnavailable as exc:
                self._prepared = False  # it may be another server the next time
                if isinstance(exc, ReadOnlyServer):
                    self._used.abort()  # and shall be
                raise
            except asyncio.CancelledError:
                self._used.abort()  # in the middle of a reply perhaps
                raise
            finally:
                used, self._used = self._used, None
                if self._driver.pooled:
                    await self._driver.give_back(used)

    async def _take(self) -> Connection:
        self._check()
        if self._driver.pooled:
            return await within(self._seconds, self._driver.borrow, "no connection of the pool")
        if self._kept is None or self._kept.is_closed():
            if self._kept is not None:
                await self._kept.close()
                self._kept = None
            self._prepared = False
            connection = await within(self._seconds, self._driver.connect, "no connection")
            if self._closed:
                await close(connection)
                self._check()
            self._kept = connection
        return self._kept

    def _check(self) -> None:
        if self._closed:
            raise NotRunningError("the backend was closed")

    def abort(self) -> None:
        """Break the connection in use, if one is."""
        if self._used is not None:
            self._used.abort()

    async def close(self) -> None:
        """Close the kept connection, and open no other."""
        self._closed = True
        kept, self._kept = self._kept, None
        if kept is not None:
            await close(kept)


async def within(
    seconds: float, connect: Callable[[], Awaitable[Connection]], what: str
) -> Connection:
    """Get a connection in time.

    Raises:
        BackendUnavailable: It took longer.
    """
    try:
        async with asyncio.timeout(seconds):
            return await connect()
    except TimeoutError as exc:
        raise BackendUnavailable(f"PostgreSQL: {what} within {seconds:g} s") from exc


async def close(connection: Connection) -> None:
    """Close politely, but within a second."""
    handle = asyncio.get_running_loop().call_later(1, connection.abort)
    try:
        await connection.close()
    finally:
        handle.cancel()
