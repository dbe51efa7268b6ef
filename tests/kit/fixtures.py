"""The kit's pytest fixtures; a test run loads them with ``-p kit.fixtures``."""

import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import count
from typing import Any

import pytest

from kit._home import home
from kit.postgres import PostgresServer
from kit.redis import RedisServer

_numbers = count(1)


@dataclass(frozen=True)
class RedisSpace:
    """A test's own empty place on a Redis that other tests use too."""

    url: str
    key_prefix: str
    server: RedisServer


@dataclass(frozen=True)
class PostgresSpace:
    """A test's own empty database on a PostgreSQL that other tests use too."""

    url: str
    name: str
    server: PostgresServer


def pytest_unconfigure() -> None:
    """Leave nothing behind, even when a fixture failed to."""
    home.close()


@pytest.fixture(scope="session")
def redis_server() -> Iterator[RedisServer]:
    """Give the run's shared Redis: not to be killed, frozen or configured."""
    with RedisServer() as server:
        yield server


@pytest.fixture
def redis_space(redis_server: RedisServer) -> RedisSpace:
    """Give an empty Redis and a key prefix that no other test has."""
    redis_server.command("FLUSHALL")
    return RedisSpace(redis_server.url, f"t{next(_numbers)}:", redis_server)


@pytest.fixture
def make_redis() -> Iterator[Callable[..., RedisServer]]:
    """Give a function that starts a private `RedisServer` with the options it is given."""
    with ExitStack() as stack:
        yield lambda *args, **options: stack.enter_context(RedisServer(*args, **options))


@pytest.fixture
def private_redis(make_redis: Callable[..., RedisServer]) -> RedisServer:
    """Give a running Redis of the test's own, to be killed or frozen; it keeps its data."""
    return make_redis(persistent=True)


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[PostgresServer]:
    """Give the run's shared PostgreSQL: not to be killed, frozen or configured."""
    with PostgresServer() as server:
        yield server


@pytest.fixture
def postgres_space(postgres_server: PostgresServer) -> Iterator[PostgresSpace]:
    """Give an empty database on the shared PostgreSQL."""
    name = f"t{next(_numbers)}"
    url = postgres_server.create_database(name)
    yield PostgresSpace(url, name, postgres_server)
    postgres_server.drop_database(name)


@pytest.fixture
def make_postgres() -> Iterator[Callable[..., PostgresServer]]:
    """Give a function that starts a private `PostgresServer` with the options it is given."""
    with ExitStack() as stack:
        yield lambda *args, **options: stack.enter_context(PostgresServer(*args, **options))


@pytest.fixture
def private_postgres(make_postgres: Callable[..., PostgresServer]) -> PostgresServer:
    """Give a running PostgreSQL of the test's own, to be killed or frozen; it keeps its data."""
    return make_postgres()
