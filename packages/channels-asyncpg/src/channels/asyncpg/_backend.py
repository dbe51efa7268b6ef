"""The public class."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import asyncpg

from channels.asyncpg._driver import AsyncpgDriver, by_dsn
from channels.core import ConfigurationError
from channels.core.postgres import PostgresChannelsBackend


class AsyncPgChannelsBackend(PostgresChannelsBackend):
    """PostgreSQL as the broker, over asyncpg.

    Without a pool it has a connection to publish on, one to read on (both opened when first
    needed) and one per plugin to listen on. By URL: ``postgresql+asyncpg://host/database``, with
    the options below in its query.

    Args:
        dsn: What :func:`asyncpg.connect` takes. Listening must not go through a pooler in
            transaction mode.
        pool: The application's pool to publish and read with. With neither ``dsn`` nor
            ``make_connection`` one of its connections is kept to listen on, where each
            subscription is a round trip of its own.
        make_connection: An async function that opens a connection, in place of ``dsn``; let
            :func:`asyncpg.connect` do it.
        history: How many events to keep per channel; 0 keeps none. All processes that share the
            tables pass the same. Default 0.
        schema: The schema of the tables. Default ``channels``.
        create_schema: Make the tables where they are missing. Default False.
        notify: Whether listeners are woken by NOTIFY; else they poll, which needs history, and
            spares publishers the server-wide lock that NOTIFY takes at commit. Default True.
        poll_interval: Seconds between two looks where ``notify`` is False. Default 0.5.
        heartbeat: Seconds between two signs of life of an idle listener, at most 60; a frozen
            connection is found within twice as long. Default 5.
        timeout: Seconds that connecting, or one statement, may take. Default 5.
        max_payload: The largest event in bytes. Default 1 MiB.

    Raises:
        ConfigurationError: There is no way to connect, a value is out of its range, or two
            contradict each other.
    """

    def __init__(
        self,
        dsn: str | None = None,
        *,
        pool: asyncpg.Pool | None = None,
        make_connection: Callable[[], Awaitable[asyncpg.Connection]] | None = None,
        history: int = 0,
        schema: str = "channels",
        create_schema: bool = False,
        notify: bool = True,
        poll_interval: float = 0.5,
        heartbeat: float = 5.0,
        timeout: float = 5.0,
        max_payload: int = 1024 * 1024,
    ) -> None:
        if dsn is not None and make_connection is not None:
            raise ConfigurationError("pass dsn or make_connection, not both")
        if dsn is not None:
            make_connection = by_dsn(dsn)
        if make_connection is None and pool is None:
            raise ConfigurationError("pass dsn, pool or make_connection")
        super().__init__(
            AsyncpgDriver(make_connection, pool),
            history=history,
            schema=schema,
            create_schema=create_schema,
            notify=notify,
            poll_interval=poll_interval,
            heartbeat=heartbeat,
            timeout=timeout,
            max_payload=max_payload,
        )
