"""The broker on PostgreSQL, apart from the driver: ``channels-asyncpg`` or ``channels-psycopg``."""

from channels.core.postgres._backend import PostgresChannelsBackend
from channels.core.postgres._port import (
    Connection,
    ConnectionLost,
    Driver,
    error_from_server,
    with_way_out,
)
from channels.core.postgres._schema import schema_sql

__all__ = (
    "Connection",
    "ConnectionLost",
    "Driver",
    "PostgresChannelsBackend",
    "error_from_server",
    "schema_sql",
    "with_way_out",
)
