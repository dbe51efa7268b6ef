"""Make a connection with redis-py, look whom we met, and take its transport over."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable
from typing import Any, TypeVar

from redis.asyncio.connection import AbstractConnection
from redis.exceptions import ResponseError

from channels.core import BackendException, BackendRefused, BackendUnavailable
from channels.redis._errors import DRIVER_ERRORS, from_driver
from channels.redis._settings import Target
from channels.redis._wire import Server, Wire

W = TypeVar("W", bound=Wire)

_OLDEST = {"redis": (7, 0), "valkey": (7, 2)}


async def connect(
    target: Target,
    make: Callable[[Server], W],
    *,
    timeout: float,
    cluster: bool = False,
    run_id: bool = False,
) -> W:
    """Connect once and return a wire to a server that is new enough and takes writes.

    Args:
        target: The server.
        make: Builds the wire.
        timeout: Seconds for all of it.
        cluster: Whether the server must, or else must not, belong to a cluster.
        run_id: Whether to ask for it and the replication id; needs permission for ``INFO``.

    Raises:
        BackendUnavailable: It cannot be reached, is loading, or is a replica.
        BackendRefused: The login failed, or the server is none that we can use.
    """
    connection = target.make(timeout)
    try:
        async with asyncio.timeout(timeout):
            await connection.connect()  # type: ignore[no-untyped-call]
            server = await _meet(connection, target.address, cluster=cluster, run_id=run_id)
    except DRIVER_ERRORS as exc:
        await _drop(connection)
        raise from_driver(exc, target.address, tls=target.is_tls) from exc
    except BaseException:
        await _drop(connection)
        raise
    wire = make(server)
    wire.attach(_take_writer(connection, target.address))
    return wire


async def ask(target: Target, *words: str, timeout: float) -> Any:
    """Run one command on a connection of its own.

    Raises:
        BackendException: As :func:`connect`.
    """
    connection = target.make(timeout)
    try:
        async with asyncio.timeout(timeout):
            await connection.connect()  # type: ignore[no-untyped-call]
            return await _ask(connection, *words)
    except DRIVER_ERRORS as exc:
        raise from_driver(exc, target.address, tls=target.is_tls) from exc
    finally:
        await _drop(connection)


async def _ask(connection: Any, *words: str) -> Any:
    await connection.send_command(*words)
    return await connection.read_response()


async def _meet(
    connection: AbstractConnection, address: str, *, cluster: bool, run_id: bool
) -> Server:
    try:
        reply = await _ask(connection, "HELLO")
    except ResponseError as exc:
        if not str(exc).lower().startswith("unknown command"):
            raise
        raise _too_old(address, "is older than 6.0") from exc
    about: dict[bytes, bytes] = dict(zip(reply[::2], reply[1::2], strict=True))
    name, version = about[b"server"].decode(), about[b"version"].decode()
    numbers = tuple(int(number) for number in re.findall(r"\d+", version)[:2])
    if numbers < _OLDEST.get(name, (7, 0)):
        raise _too_old(address, f"is {name} {version}")
    if (about[b"mode"] == b"cluster") is not cluster:
        raise BackendRefused(
            f"{address} is no member of a cluster: leave cluster=True out"
            if cluster
            else f"{address} is a member of a cluster: pass cluster=True"
        )
    if about[b"mode"] == b"sentinel":
        raise BackendRefused(f"{address} is a Sentinel: name the master, as in sentinel=mymaster")
    if about[b"role"] != b"master":
        raise BackendUnavailable(f"{address} is a replica at present, not the master")
    return await _identify(connection, address) if run_id else Server(address)


async def _identify(connection: AbstractConnection, address: str) -> Server:
    try:
        info: bytes = await _ask(connection, "INFO", "server", "replication")
    except ResponseError as exc:
        raise BackendRefused(
            f"{address}: the user needs permission for INFO, whose run_id tells that a server "
            f"came back without its last writes: {exc}"
        ) from exc
    run, replication = (
        re.search(rb"^%b:(\w{16})" % name, info, re.MULTILINE)
        for name in (b"run_id", b"master_replid")
    )
    if run is None or replication is None:
        raise BackendRefused(
            f"{address} tells no run_id and master_replid in INFO, which streams need"
        )
    return Server(address, run[1], replication[1])


def _too_old(address: str, what: str) -> BackendException:
    return BackendRefused(f"{address} {what}; needed is Redis 7.0 or Valkey 7.2 at least")


async def _drop(connection: AbstractConnection) -> None:
    try:
        await connection.disconnect(nowait=True)
    except DRIVER_ERRORS:
        pass  # it is gone already


def _take_writer(connection: AbstractConnection, address: str) -> asyncio.StreamWriter:
    # redis-py has no public way to hand its transport out, and reads one reply per await.
    writer: asyncio.StreamWriter | None = connection._writer  # pyright: ignore[reportPrivateUsage]
    if writer is None:
        raise BackendUnavailable(f"{address} closed the connection")
    connection._reader = None  # pyright: ignore[reportPrivateUsage]
    connection._writer = None  # pyright: ignore[reportPrivateUsage]
    return writer
