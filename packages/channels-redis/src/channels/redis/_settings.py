"""Where the servers are and how to log in there, from a URL or from a client."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import urlsplit, urlunsplit

from redis.asyncio import ConnectionPool, Redis, RedisCluster
from redis.asyncio.connection import AbstractConnection, Connection, SSLConnection
from redis.asyncio.retry import Retry
from redis.asyncio.sentinel import (
    SentinelConnectionPool,
    SentinelManagedConnection,
    SentinelManagedSSLConnection,
)
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

from channels.core import ConfigurationError

Client = Redis | RedisCluster
"""A client of redis-py's asyncio side, for its settings."""

# What belongs to the client's own way of using a connection, not to the server.
_NOT_LENT: Final = re.compile(
    r"connection_pool|decode_responses|encod.*|event_dispatcher|health_check_interval"
    r"|himport_.*|legacy_responses|.*maint.*|max_connections|orig_.*|parser_class|protocol"
    r"|redis_connect_func|response_callbacks|retry.*|socket_(connect_timeout|timeout|read_size)"
)


@dataclass(frozen=True)
class Target:
    """One server: the class of a connection to it, and that class's arguments."""

    connection_class: type[AbstractConnection]
    arguments: Mapping[str, Any]

    @property
    def address(self) -> str:
        """Its address, for messages and as its identity; never a password."""
        if path := self.arguments.get("path"):
            return str(path)
        host, port = self.arguments.get("host", "localhost"), self.arguments.get("port", 6379)
        return f"[{host}]:{port}" if ":" in str(host) else f"{host}:{port}"

    @property
    def is_tls(self) -> bool:
        """Whether TLS is spoken there."""
        return issubclass(self.connection_class, SSLConnection)

    @property
    def database(self) -> int:
        """The number of the database, 0 where none is named."""
        return int(self.arguments.get("db") or 0)

    def at(self, host: str, port: int) -> Target:
        """The same way in, at another address."""
        return Target(self.connection_class, {**self.arguments, "host": host, "port": port})

    def make(self, timeout: float) -> AbstractConnection:
        """Build a connection that tries once, gives up in time and replies with bytes."""
        return self.connection_class(
            **self.arguments,
            protocol=2,
            decode_responses=False,
            retry=Retry(NoBackoff(), 0),
            socket_timeout=timeout,
            socket_connect_timeout=timeout,
        )


@dataclass(frozen=True)
class Single:
    """One server."""

    target: Target


@dataclass(frozen=True)
class Sentinels:
    """The server that Sentinels name as the master; ``target`` is the way in there."""

    target: Target
    sentinels: Sequence[Target]
    service: str


@dataclass(frozen=True)
class ClusterSeeds:
    """A cluster, and members of it to ask for the others."""

    target: Target
    seeds: Sequence[Target]


Deployment = Single | Sentinels | ClusterSeeds


def from_url(
    url: str,
    *,
    cluster: bool,
    sentinel: str | None,
    sentinel_username: str | None,
    sentinel_password: str | None,
) -> Deployment:
    """Read a URL, which for a cluster or Sentinels may name several hosts.

    Raises:
        ConfigurationError: It is not such a URL, or options contradict each other.
    """
    if cluster and sentinel:
        raise ConfigurationError("cluster=True and sentinel=... exclude each other")
    parts = urlsplit(url)
    login, at, hosts = parts.netloc.rpartition("@")
    urls = [urlunsplit(parts._replace(netloc=login + at + host)) for host in hosts.split(",")]
    targets = [_target(each) for each in urls]
    if cluster:
        return ClusterSeeds(targets[0], targets)
    if sentinel:
        own = {"username": sentinel_username, "password": sentinel_password, "db": 0}
        asked = [Target(t.connection_class, {**t.arguments, **own}) for t in targets]
        return Sentinels(targets[0], asked, sentinel)
    if len(targets) > 1:
        raise ConfigurationError(
            f"{len(targets)} hosts in the URL: say cluster=true, or sentinel= and the name of "
            f"the master, if the hosts are Sentinels"
        )
    return Single(targets[0])


def from_client(client: object) -> Deployment:
    """Borrow the settings of a client, never its connections.

    Raises:
        ConfigurationError: It is no asyncio client, or reads from replicas.
    """
    if isinstance(client, RedisCluster):
        nodes = client.nodes_manager.startup_nodes.values()
        seeds = [_lent(node.connection_class, node.connection_kwargs) for node in nodes]
        return ClusterSeeds(seeds[0], seeds)
    if not isinstance(client, Redis):
        raise ConfigurationError(
            f"redis={type(client).__module__}.{type(client).__name__}: pass a client of "
            f"redis.asyncio, Redis or RedisCluster, or a URL"
        )
    pool: Any = client.connection_pool
    if not issubclass(type(pool), SentinelConnectionPool):
        return Single(_lent(pool.connection_class, pool.connection_kwargs))
    if not pool.is_master:
        raise ConfigurationError("redis= is a client for replicas: pass Sentinel.master_for(...)")
    asked: list[Any] = [each.connection_pool for each in pool.sentinel_manager.sentinels]
    return Sentinels(
        _lent(pool.connection_class, pool.connection_kwargs),
        [_lent(each.connection_class, each.connection_kwargs) for each in asked],
        pool.service_name,
    )


def _target(url: str) -> Target:
    scheme, separator, rest = url.partition("://")
    parts = urlsplit(url)
    path = parts.path.strip("/")
    if parts.scheme != "unix" and path and not path.isdecimal():
        # redis-py would take database 0 instead.
        raise ConfigurationError(f"{scheme}://.../{path}: the database is a number, as in /0")
    try:
        pools: Any = ConnectionPool  # whose from_url is not typed
        pool = pools.from_url(scheme.removesuffix("+stream") + separator + rest)
    except ValueError as exc:
        raise ConfigurationError(f"{scheme}://... is no Redis URL: {exc}") from exc
    return _lent(pool.connection_class, pool.connection_kwargs)


def _lent(connection_class: Any, arguments: Mapping[str, Any]) -> Target:
    if issubclass(connection_class, SentinelManagedSSLConnection):
        connection_class = SSLConnection
    elif issubclass(connection_class, SentinelManagedConnection):
        connection_class = Connection
    target = Target(
        connection_class, {k: v for k, v in arguments.items() if not _NOT_LENT.fullmatch(k)}
    )
    try:
        target.make(1.0)
    except TypeError as exc:
        if unknown := re.search(r"unexpected keyword argument '(\w+)'", str(exc)):
            hint = "; redis+stream:// keeps history" if unknown[1] in ("history", "ttl") else ""
            raise ConfigurationError(
                f"{unknown[1]}= is no option of this backend, nor of redis-py's connections{hint}"
            ) from exc
        raise ConfigurationError(f"redis-py takes no such connection options: {exc}") from exc
    except (RedisError, ValueError) as exc:
        raise ConfigurationError(f"redis-py takes no such connection options: {exc}") from exc
    return target
