"""The driver port: what the Postgres broker asks of asyncpg and of psycopg.

A driver package implements :class:`Connection` and :class:`Driver` and nothing else.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any, Protocol

from channels.core._errors import BackendException, BackendRefused, BackendUnavailable


class ConnectionLost(BackendUnavailable):
    """The connection broke during a call: what was asked may or may not have been done."""


class NotifyQueueFull(BackendUnavailable):
    """The server's queue of notifications is full, because a session has stopped reading it."""


class ReadOnlyServer(BackendUnavailable):
    """It takes no writes: a standby, or a primary that was replaced. Connect again."""


class Connection(Protocol):
    """One connection in autocommit mode, used by one task at a time.

    Its calls raise what :func:`error_from_server` makes of the server's answer, or
    :class:`ConnectionLost`. They have no deadline of their own: the broker calls :meth:`abort`.
    """

    @property
    def pid(self) -> int:
        """The server process as the connection's start-up named it; a pooler invents one."""
        ...

    @property
    def is_lent(self) -> bool:
        """Whether it is of the application's pool, and so keeps the application's settings."""
        ...

    def is_closed(self) -> bool:
        """Tell, without waiting, whether the connection is known to be gone."""
        ...

    async def fetch(self, query: str, *args: object) -> Sequence[Sequence[Any]]:
        """Run one statement with ``$1``-style parameters and return its rows."""
        ...

    async def run(self, script: str) -> None:
        """Run statements without parameters in one round trip and one transaction."""
        ...

    def watch(self, notified: Callable[[str, str], None], lost: Callable[[], None]) -> None:
        """From now on call ``notified(channel, payload)`` per notification, in order.

        ``lost()`` is called when the connection is found to be gone.
        """
        ...

    async def listen(self, channels: Sequence[str]) -> None:
        """Have the server confirm ``LISTEN`` for all of them, or raise and listen to none more."""
        ...

    async def unlisten(self, channels: Sequence[str]) -> None:
        """Have the server confirm ``UNLISTEN``."""
        ...

    def abort(self) -> None:
        """Break the connection at once; a call under way raises :class:`ConnectionLost`.

        One that was closed or given back is left as it is.
        """
        ...

    async def close(self) -> None:
        """Take leave of the server; never raises."""
        ...


class Driver(Protocol):
    """Where connections come from."""

    @property
    def pooled(self) -> bool:
        """Whether :meth:`borrow` takes from a pool that belongs to the application."""
        ...

    async def connect(self) -> Connection:
        """Open a connection to listen on, or for statements where there is no pool.

        Raises:
            BackendUnavailable: The server cannot be reached.
            BackendRefused: It does not want us.
        """
        ...

    async def borrow(self) -> Connection:
        """Take a connection for statements from the application's pool."""
        ...

    async def give_back(self, connection: Connection) -> None:
        """Return a borrowed connection."""
        ...


_TRANSIENT_CLASSES = frozenset({"25", "40", "53", "55", "57", "58", "XX"})
_REFUSED_CLASSES = frozenset({"0A", "0L", "0P", "26", "28", "3D", "3F", "42"})
_IN_DOUBT = frozenset({"57P02"})  # a crash may strike after the commit
_PREPARED_STATEMENTS = frozenset({"26000", "42P05"})


def error_from_server(sqlstate: str, message: str) -> BackendException:
    """Return ours for an error that the server sent; the statement was rolled back.

    Args:
        sqlstate: The five characters of its ``SQLSTATE``.
        message: What it said.
    """
    text = f"PostgreSQL: {message.strip()} (SQLSTATE {sqlstate})"
    if sqlstate in _IN_DOUBT or sqlstate.startswith("08"):
        return ConnectionLost(text)
    if sqlstate == "54000":
        return NotifyQueueFull(text)
    if sqlstate == "25006":
        return ReadOnlyServer(text)
    if sqlstate[:2] in _TRANSIENT_CLASSES:
        return BackendUnavailable(text)
    if sqlstate in _PREPARED_STATEMENTS:
        text += "; a pooler in transaction mode (pgbouncer) loses prepared statements"
    if sqlstate[:2] in _REFUSED_CLASSES:
        return BackendRefused(with_way_out(text))
    return BackendException(text)


_WAYS_OUT = {
    "rejected SSL upgrade|does not support SSL": (
        "it speaks no TLS: turn it on there (ssl = on), or pass sslmode=prefer"
    ),
    "certificate is not valid for|does not match host name": (
        "connect by a name that is in its certificate, or pass sslmode=verify-ca"
    ),
    "certificate verify failed(?!: certificate)": (  # not: has expired, is not yet valid
        "let sslrootcert name the authority that issued the server's certificate"
    ),
    "valid client certificate|alert (unknown ca|bad certificate|certificate [a-z]+)": (
        "let sslcert and sslkey name a certificate that the server trusts, and its key"
    ),
    r"pg_hba\.conf .* no encryption": "if it takes TLS only, pass sslmode=require",
}


def with_way_out(text: str) -> str:
    """Add, to why a connection could not be made, what to do if the two sides' TLS is the reason.

    Args:
        text: What the driver or the server said.
    """
    for said, way_out in _WAYS_OUT.items():
        if re.search(said, text):
            return f"{text}; {way_out}"
    return text
