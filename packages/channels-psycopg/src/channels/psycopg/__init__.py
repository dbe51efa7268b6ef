"""The Postgres backend on the psycopg driver, version 3."""

from channels.psycopg._backend import PsycoPgChannelsBackend

__all__ = ("PsycoPgChannelsBackend",)
