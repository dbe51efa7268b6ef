"""Running a statement of ours inside a transaction of the application's."""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping
from typing import Any

from channels.core._errors import ConfigurationError

_PARAMETER = re.compile(r"\$(\d+)")


async def execute_in(connection: object, query: str, args: tuple[object, ...]) -> None:
    """Run ``query`` on an asyncpg or psycopg connection, or an SQLAlchemy session or connection.

    Raises:
        ConfigurationError: It is none of these, or not in a transaction.
    """
    target: Any = connection
    match _kind(connection):
        case "asyncpg":
            if not target.is_in_transaction():
                raise _no_transaction("open one: async with connection.transaction()")
            await target.execute(query, *args)
        case "psycopg.AsyncConnection":
            _check_psycopg(target)
            await target.execute(*_psycopg(query, args))
        case "sqlalchemy.AsyncSession":
            # The driver's connection is outside the transaction until a first statement has run.
            await _execute_sqlalchemy(await target.connection(), query, args)
        case "sqlalchemy.AsyncConnection":
            await _execute_sqlalchemy(target, query, args)
        case _:
            raise ConfigurationError(
                f"cannot publish in {type(connection).__name__}: pass a connection of asyncpg, an "
                f"AsyncConnection of psycopg, or an AsyncSession or AsyncConnection of SQLAlchemy"
            )


def execute_in_sync(connection: object, query: str, args: tuple[object, ...]) -> None:
    """Run ``query`` on a psycopg connection, or an SQLAlchemy session or connection.

    Raises:
        ConfigurationError: It is none of these, or not in a transaction.
    """
    target: Any = connection
    match _kind(connection):
        case "psycopg.Connection":
            _check_psycopg(target)
            target.execute(*_psycopg(query, args))
        case "sqlalchemy.Session":
            _check_sqlalchemy(target.connection())
            target.execute(*_sqlalchemy(query, args))
        case "sqlalchemy.Connection":
            _check_sqlalchemy(target)
            target.execute(*_sqlalchemy(query, args))
        case _:
            raise ConfigurationError(
                f"cannot publish in {type(connection).__name__}: pass a Connection of psycopg, or "
                f"a Session or Connection of SQLAlchemy"
            )


def _kind(connection: object) -> str:
    """Name the public class that ``connection`` is of; its library need not be imported here."""
    for kind in type(connection).__mro__:
        library = kind.__module__.partition(".")[0]
        if library == "asyncpg" and kind.__name__ in {"Connection", "PoolConnectionProxy"}:
            return "asyncpg"
        if library == "psycopg" and kind.__name__ in {"AsyncConnection", "Connection"}:
            return f"psycopg.{kind.__name__}"
        if library == "sqlalchemy" and kind.__name__ in {
            "AsyncConnection",
            "AsyncSession",
            "Connection",
            "Session",
        }:
            return f"sqlalchemy.{kind.__name__}"
        if library == "sqlalchemy" and kind.__name__ in {"async_scoped_session", "scoped_session"}:
            return f"sqlalchemy.{'AsyncSession' if 'async' in kind.__name__ else 'Session'}"
    return ""


def _psycopg(query: str, args: tuple[object, ...]) -> tuple[str, Mapping[str, object]]:
    return _PARAMETER.sub(r"%(p\1)s", query), _named(args)


def _sqlalchemy(query: str, args: tuple[object, ...]) -> tuple[Any, Mapping[str, object]]:
    text = sys.modules["sqlalchemy"].text  # loaded, or there would be no session
    return text(_PARAMETER.sub(r":p\1", query)), _named(args)


def _named(args: tuple[object, ...]) -> Mapping[str, object]:
    return {f"p{number}": arg for number, arg in enumerate(args, 1)}


async def _execute_sqlalchemy(connection: Any, query: str, args: tuple[object, ...]) -> None:
    _check_sqlalchemy(connection.sync_connection)
    await connection.execute(*_sqlalchemy(query, args))


def _check_psycopg(connection: Any) -> None:
    if connection.autocommit and connection.info.transaction_status == 0:  # idle
        raise _no_transaction("open one: with connection.transaction()")


def _check_sqlalchemy(connection: Any) -> None:
    if connection.get_execution_options().get("isolation_level") == "AUTOCOMMIT":
        raise _no_transaction("it has isolation_level AUTOCOMMIT")


def _no_transaction(why: str) -> ConfigurationError:
    return ConfigurationError(f"the connection is not in a transaction; {why}")
