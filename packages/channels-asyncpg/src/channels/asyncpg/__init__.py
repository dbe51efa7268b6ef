"""The Postgres backend on the asyncpg driver."""

from channels.asyncpg._backend import AsyncPgChannelsBackend

__all__ = ("AsyncPgChannelsBackend",)
