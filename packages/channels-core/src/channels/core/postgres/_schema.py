"""The tables and functions: their SQL, and whether a database has them."""

from __future__ import annotations

import re
from importlib.resources import files
from typing import Final, NamedTuple

from channels.core._errors import BackendRefused, BackendUnavailable, ConfigurationError
from channels.core.postgres._frame import INLINE
from channels.core.postgres._lane import ask, deadline
from channels.core.postgres._port import Connection

VERSION: Final = 1
"""Of the tables and functions; a release that changes them counts it up."""

MINIMUM_SERVER: Final = 15

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,62}", re.ASCII)

FACTS: Final = """\
SELECT current_setting('server_version_num')::int / 10000,
       getdatabaseencoding() = 'UTF8',
       pg_is_in_recovery(),
       pg_backend_pid(),
       extract(epoch FROM pg_postmaster_start_time())::text,
       EXISTS (SELECT FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n
               ON n.oid = c.relnamespace WHERE n.nspname = $1 AND c.relname = 'settings')
"""

# What a database or role may be set to must not change what our own connections do.
_SESSION: Final = """\
SELECT set_config('default_transaction_isolation', 'read committed', false),
       set_config('jit', 'off', false),
       CASE WHEN current_setting('application_name') = ''
           THEN set_config('application_name', 'channels', false) END
"""


class Server(NamedTuple):
    """What was found on the other end of a connection."""

    utf8: bool
    tables: bool
    direct: bool
    started: str
    """When its main process did, to the microsecond: no other server's is the same."""


def quoted(schema: str) -> str:
    """Return ``schema`` as SQL writes it.

    Raises:
        ConfigurationError: It is no plain name.
    """
    if not isinstance(schema, str) or not _NAME.fullmatch(schema):
        raise ConfigurationError(
            f"schema={schema!r}: pass a name of at most 63 letters, digits and underscores"
        )
    return f'"{schema}"'


def schema_sql(
    schema: str = "channels",
    *,
    history: bool = True,
    notify: bool = True,
    grant_to: str | None = None,
) -> str:
    """Return the SQL that makes the tables and functions, for an application's migrations.

    Running it again, or over those of an older version, is safe. It is what a backend with
    ``create_schema=True`` runs.

    Args:
        schema: The schema to make them in. Default ``channels``.
        history: Whether the SQL function ``publish`` appends to the record, as backends with
            ``history`` above 0 do. Default True.
        notify: False for backends with ``notify=False``. Default True.
        grant_to: A role to grant what a backend needs, and no more. Default None.

    Raises:
        ConfigurationError: ``schema`` or ``grant_to`` is no plain name.
    """
    sql = files("channels.core.postgres").joinpath("schema.sql").read_text("utf-8")
    for name, value in {
        "schema": quoted(schema),
        "version": str(VERSION),
        "inline": str(INLINE),
        "history": str(history).lower(),
        "notify": str(notify).lower(),
    }.items():
        sql = sql.replace("{" + name + "}", value)
    return sql if grant_to is None else sql + _grants(quoted(schema), quoted(grant_to))


def _grants(schema: str, role: str) -> str:
    return f"""
GRANT USAGE ON SCHEMA {schema} TO {role};
GRANT SELECT ON {schema}.settings TO {role};
GRANT SELECT, INSERT, UPDATE, DELETE ON {schema}.channel TO {role};
GRANT SELECT, INSERT, UPDATE, DELETE ON {schema}.event TO {role};
GRANT SELECT, INSERT, DELETE ON {schema}.spill, {schema}.outbox TO {role};
"""


class Schema:
    """The tables that a backend works with, and how it wants them.

    Args:
        name: The schema that they are in.
        create: Make them where they are missing or old.
        history: The backend keeps history, and so cannot work without them.
        notify: The backend's listeners are notified.
    """

    def __init__(self, name: str, *, create: bool, history: bool, notify: bool) -> None:
        self.name = name
        self.sql = quoted(name)
        self._create = create
        self._history = history
        self._notify = notify

    async def meet(self, connection: Connection, seconds: float) -> Server:
        """Learn what server this is, and make the tables if asked to.

        Args:
            connection: A new connection.
            seconds: How long each step may take.

        Raises:
            BackendUnavailable: It is a standby, or does not answer.
            BackendRefused: Its version, the tables or a permission do not allow to go on.
        """
        [facts] = await ask(connection, seconds, FACTS, self.name)
        version, utf8, standby, pid, started, tables = facts
        if version < MINIMUM_SERVER:
            raise BackendRefused(
                f"PostgreSQL {version} is too old; this needs {MINIMUM_SERVER} or newer"
            )
        if standby:
            raise BackendUnavailable(
                "PostgreSQL: this server is a standby; events are published on, and read from, "
                "the primary"
            )
        if not connection.is_lent:
            await ask(connection, seconds, _SESSION)
        if tables or self._create:
            await self._check(connection, seconds, tables)
        elif self._history:
            raise BackendRefused(
                f"the tables of schema {self.sql} do not exist: pass create_schema=True, or run "
                f"what `python -m channels.core.postgres --schema {self.name}` prints"
            )
        return Server(utf8, tables or self._create, pid == connection.pid, started)

    async def _check(self, connection: Connection, seconds: float, tables: bool) -> None:
        settings = f"SELECT version, history, notify FROM {self.sql}.settings"
        found = await ask(connection, seconds, settings) if tables else ()
        version, history, notify = found[0] if found else (0, False, self._notify)
        if self._create and (version < VERSION or (self._history and not history)):
            with deadline(connection, seconds):
                await connection.run(self._script())
            version, history, notify = (await ask(connection, seconds, settings))[0]
        if version != VERSION:
            raise BackendRefused(
                f"the tables of schema {self.sql} have version {version}, this release needs "
                f"{VERSION}: "
                + ("update this program" if version > VERSION else "pass create_schema=True")
            )
        if self._history and not history:
            raise BackendRefused(
                f"schema {self.sql} was made without history: pass create_schema=True, or run "
                f"UPDATE {self.sql}.settings SET history = true"
            )
        if self._history and notify != self._notify:
            raise BackendRefused(
                f"schema {self.sql} has notify={notify}, this backend notify={self._notify}; all "
                f"must agree: change it, or run UPDATE {self.sql}.settings "
                f"SET notify = {self._notify}"
            )

    def _script(self) -> str:
        # The lock is held until the commit: of many starting processes one makes the tables, and
        # the others find that nothing is left to do.
        lock = f"SELECT pg_advisory_xact_lock(hashtextextended('{self.sql}.schema', 0));"
        script = schema_sql(self.name, history=self._history, notify=self._notify)
        return f"BEGIN;\n{lock}\nSET LOCAL client_min_messages = warning;\n{script}\nCOMMIT;"
