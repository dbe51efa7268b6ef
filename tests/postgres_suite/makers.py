"""The two drivers, as the suites see them; each is imported when it is used."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, ClassVar

from channels.core.postgres import PostgresChannelsBackend
from postgres_suite._maker import Maker


class AsyncpgMaker(Maker):
    """asyncpg."""

    sqlalchemy_url: ClassVar[str] = "postgresql+asyncpg"

    def make(self, dsn: str | None = None, **options: Any) -> PostgresChannelsBackend:
        from channels.asyncpg import AsyncPgChannelsBackend

        return AsyncPgChannelsBackend(dsn, **options)

    @asynccontextmanager
    async def pool(self, dsn: str, size: int) -> AsyncIterator[Any]:
        import asyncpg

        async with asyncpg.create_pool(dsn, min_size=0, max_size=size) as pool:
            yield pool

    @asynccontextmanager
    async def connection(self, dsn: str) -> AsyncIterator[Any]:
        import asyncpg

        connection = await asyncpg.connect(dsn)
        try:
            yield connection
        finally:
            await connection.close()

    async def execute(self, connection: Any, statement: str) -> None:
        await connection.execute(statement)


class PsycopgMaker(Maker):
    """psycopg."""

    sqlalchemy_url: ClassVar[str] = "postgresql+psycopg"

    def make(self, dsn: str | None = None, **options: Any) -> PostgresChannelsBackend:
        from channels.psycopg import PsycoPgChannelsBackend

        return PsycoPgChannelsBackend(dsn, **options)

    @asynccontextmanager
    async def pool(self, dsn: str, size: int) -> AsyncIterator[Any]:
        from psycopg_pool import AsyncConnectionPool

        async with AsyncConnectionPool(dsn, min_size=0, max_size=size, open=False) as pool:
            yield pool

    @asynccontextmanager
    async def connection(self, dsn: str) -> AsyncIterator[Any]:
        import psycopg

        async with await psycopg.AsyncConnection.connect(dsn, autocommit=True) as connection:
            yield connection

    async def execute(self, connection: Any, statement: str) -> None:
        await connection.execute(statement)
