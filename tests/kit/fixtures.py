"""The kit's pytest fixtures; a test run loads them with ``-p kit.fixtures``.

``CHANNELS_REDIS`` and ``CHANNELS_POSTGRES`` choose the servers: "redis" or "valkey", and 15, 16 or
18; or the URL of a server that runs already, for the tests that share one and harm none.
"""

import os
from collections.abc import Callable, Generator, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import count
from typing import TypeVar, cast
from urllib.parse import unquote, urlsplit

import pytest

from kit._binaries import PostgresVersion, RedisFlavour
from kit._databases import Databases
from kit._home import home
from kit._resp import Reply, ask
from kit._server import Server, running
from kit.cluster import RedisCluster
from kit.postgres import PostgresServer, connect
from kit.redis import RedisServer
from kit.sentinel import RedisSentinel

pytest_plugins = ["kit.leaks"]

S = TypeVar("S", bound=Server)

_log_sizes = pytest.StashKey[dict[Server, int]]()
_numbers = count(1)
_run = f"t{os.getpid()}_"


@dataclass(frozen=True)
class RedisSpace:
    """A test's own empty place on a Redis that other tests use too."""

    url: str
    key_prefix: str
    own_server: RedisServer | None

    @property
    def server(self) -> RedisServer:
        """The shared server; a test that asks for it is skipped where it is not ours."""
        return _ours(self.own_server)

    def command(self, *words: object) -> Reply:
        """Run one command and return its reply."""
        if self.own_server is not None:
            return self.own_server.command(*words)
        url = urlsplit(self.url)
        login: list[tuple[object, ...]] = []
        if url.password:
            login = [("AUTH", unquote(url.username or "") or "default", unquote(url.password))]
        database = url.path.strip("/") or "0"
        address = (url.hostname or "localhost", url.port or 6379)
        return ask(address, [*login, ("SELECT", database), words])[-1]


@dataclass(frozen=True)
class ClusterSpace:
    """A test's own empty place on a cluster that other tests use too."""

    url: str
    key_prefix: str
    cluster: RedisCluster


@dataclass(frozen=True)
class PostgresSpace:
    """A test's own empty database on a PostgreSQL that other tests use too."""

    url: str
    name: str
    own_server: PostgresServer | None

    @property
    def server(self) -> PostgresServer:
        """The shared server; a test that asks for it is skipped where it is not ours."""
        return _ours(self.own_server)

    def execute(self, query: str, *args: object) -> list[tuple[object, ...]]:
        """Run SQL on a connection of its own and return the rows, if there are any."""
        with connect(self.url) as connection:
            cursor = connection.execute(query.encode(), args or None)
            return cursor.fetchall() if cursor.description else []


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Note how much the servers have logged before the test."""
    item.stash[_log_sizes] = {server: server.log_size for server in running()}


def pytest_unconfigure() -> None:
    """Leave nothing behind, even when a fixture failed to."""
    home.close()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item,
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Show with a test that failed what servers logged meanwhile."""
    report = yield
    if report.failed:
        sizes = item.stash[_log_sizes]
        for server in running():
            if text := server.log(30, since=sizes.get(server, 0)):
                report.sections.append((f"log of {server}", text))
    return report


@pytest.fixture(scope="session")
def redis_server() -> Iterator[RedisServer]:
    """Give the run's shared Redis: not to be killed, frozen or configured."""
    with RedisServer(_redis_flavour()) as server:
        yield server


@pytest.fixture
def redis_space(request: pytest.FixtureRequest) -> Iterator[RedisSpace]:
    """Give an empty Redis and a key prefix that no other test has."""
    prefix = f"{_run}{next(_numbers)}:"
    if "://" in (url := os.environ.get("CHANNELS_REDIS", "")):
        space = RedisSpace(url, prefix, None)
        yield space
        keys = space.command("KEYS", f"*{prefix}*")
        if keys:
            space.command("DEL", *cast(list[Reply], keys))
        return
    server: RedisServer = request.getfixturevalue("redis_server")
    server.command("FLUSHALL")
    yield RedisSpace(server.url, prefix, server)


@pytest.fixture
def make_redis() -> Iterator[Callable[..., RedisServer]]:
    """Give a function that starts a private `RedisServer` with the options it is given."""
    with ExitStack() as stack:

        def make(flavour: RedisFlavour | None = None, **options: object) -> RedisServer:
            server = RedisServer(flavour or _redis_flavour(), **options)  # type: ignore[arg-type]
            return stack.enter_context(server)

        yield make


@pytest.fixture
def private_redis(make_redis: Callable[..., RedisServer]) -> RedisServer:
    """Give a running Redis of the test's own, to be killed or frozen; it keeps its data."""
    return make_redis(persistent=True)


@pytest.fixture(scope="session")
def redis_cluster() -> Iterator[RedisCluster]:
    """Give the run's shared cluster of three masters: not to be killed or frozen."""
    with RedisCluster(flavour=_redis_flavour()) as cluster:
        yield cluster


@pytest.fixture
def cluster_space(redis_cluster: RedisCluster) -> ClusterSpace:
    """Give an empty cluster and a key prefix that no other test has; slots may be moved."""
    for node in redis_cluster.nodes:
        node.command("FLUSHALL")
    return ClusterSpace(redis_cluster.url, f"{_run}{next(_numbers)}:", redis_cluster)


@pytest.fixture
def private_cluster() -> Iterator[RedisCluster]:
    """Give a cluster of the test's own, three masters with a replica each."""
    with RedisCluster(replicas=1, flavour=_redis_flavour()) as cluster:
        yield cluster


@pytest.fixture
def private_sentinel() -> Iterator[RedisSentinel]:
    """Give a master, a replica and three Sentinels of the test's own."""
    with RedisSentinel(flavour=_redis_flavour()) as sentinel:
        yield sentinel


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[PostgresServer]:
    """Give the run's shared PostgreSQL: not to be killed, frozen or configured."""
    with PostgresServer(_postgres_version()) as server:
        yield server


@pytest.fixture(scope="session")
def postgres_databases(request: pytest.FixtureRequest) -> Iterator[Databases]:
    """Give the databases that `postgres_space` lends."""
    url = os.environ.get("CHANNELS_POSTGRES", "")
    if "://" in url:
        databases = Databases(url, _run)
        yield databases
        databases.close()
    else:
        yield Databases(request.getfixturevalue("postgres_server").url, _run)


@pytest.fixture
def postgres_space(
    request: pytest.FixtureRequest, postgres_databases: Databases
) -> Iterator[PostgresSpace]:
    """Give an empty database on the shared PostgreSQL."""
    name = postgres_databases.take()
    url = os.environ.get("CHANNELS_POSTGRES", "")
    if "://" in url:
        yield PostgresSpace(urlsplit(url)._replace(path=f"/{name}").geturl(), name, None)
    else:
        server: PostgresServer = request.getfixturevalue("postgres_server")
        yield PostgresSpace(server.url_for(name), name, server)
    postgres_databases.give_back(name)


@pytest.fixture(scope="session")
def newer_server(request: pytest.FixtureRequest) -> Iterator[tuple[PostgresServer, Databases]]:
    """Give a shared PostgreSQL of the version that the test's parameter names."""
    with PostgresServer(request.param) as server:
        yield server, Databases(server.url, _run)


@pytest.fixture
def newer_postgres(newer_server: tuple[PostgresServer, Databases]) -> Iterator[PostgresSpace]:
    """Give an empty database on `newer_server`, whatever the run's own version is."""
    server, databases = newer_server
    name = databases.take()
    yield PostgresSpace(server.url_for(name), name, server)
    databases.give_back(name)


@pytest.fixture
def make_postgres() -> Iterator[Callable[..., PostgresServer]]:
    """Give a function that starts a private `PostgresServer` with the options it is given."""
    with ExitStack() as stack:

        def make(version: PostgresVersion | None = None, **options: object) -> PostgresServer:
            server = PostgresServer(version or _postgres_version(), **options)  # type: ignore[arg-type]
            return stack.enter_context(server)

        yield make


@pytest.fixture
def private_postgres(make_postgres: Callable[..., PostgresServer]) -> PostgresServer:
    """Give a running PostgreSQL of the test's own, to be killed or frozen; it keeps its data."""
    return make_postgres()


def _redis_flavour() -> RedisFlavour | None:
    match os.environ.get("CHANNELS_REDIS", ""):
        case "redis" | "valkey" as flavour:
            return flavour
        case choice if not choice or "://" in choice:
            return None
        case choice:
            raise pytest.UsageError(f"CHANNELS_REDIS is neither redis, valkey nor a URL: {choice}")


def _postgres_version() -> PostgresVersion | None:
    match os.environ.get("CHANNELS_POSTGRES", ""):
        case "15" | "16" | "18" as version:
            return cast(PostgresVersion, int(version))
        case choice if not choice or "://" in choice:
            return None
        case choice:
            raise pytest.UsageError(f"CHANNELS_POSTGRES is not 15, 16, 18 or a URL: {choice}")


def _ours(server: S | None) -> S:
    if server is None:
        pytest.skip("server: needs one that the kit started")
    return server
