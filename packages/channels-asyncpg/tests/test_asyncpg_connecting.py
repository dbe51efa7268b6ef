"""The ways to connect that only asyncpg's backend has."""

from __future__ import annotations

import asyncpg
import pytest

from channels.asyncpg import AsyncPgChannelsBackend
from channels.core import BackendRefused, ConfigurationError, Message, load_backend
from kit.fixtures import PostgresSpace
from postgres_suite import send, tapped


async def test_a_function_that_connects(postgres_space: PostgresSpace) -> None:
    made: list[asyncpg.Connection] = []

    async def connect() -> asyncpg.Connection:
        made.append(await asyncpg.connect(postgres_space.url))
        return made[-1]

    async with (
        AsyncPgChannelsBackend(make_connection=connect) as backend,
        tapped(backend, "a", "long" * 30) as tap,
    ):
        await send(backend, "a", b"1")
        await send(backend, "long" * 30, b"2")
        assert set(await tap.count(2)) == {b"1", b"2"}
        await tap.listener.unsubscribe(["a"])
        await send(backend, "a", b"nobody listens")
        await send(backend, "long" * 30, b"3")
        await tap.until(lambda: b"3" in tap.events, "the last event")
        assert b"nobody listens" not in tap.events
    assert len(made) == 2
    assert all(connection.is_closed() for connection in made)


async def test_a_url_that_asyncpg_cannot_read() -> None:
    async with AsyncPgChannelsBackend("postgresql://localhost:port/x") as backend:
        [outcome] = await backend.publish([Message("a", b"1")])
        assert isinstance(outcome, BackendRefused)


def test_two_ways_to_connect() -> None:
    async def connect() -> asyncpg.Connection:
        raise AssertionError

    with pytest.raises(ConfigurationError, match="not both"):
        AsyncPgChannelsBackend("postgresql://localhost/x", make_connection=connect)


async def test_a_url_without_a_host_keeps_its_slashes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    dsns: list[str] = []

    async def connect(dsn: str, **options: object) -> asyncpg.Connection:
        dsns.append(dsn)
        raise OSError("far enough")

    monkeypatch.setattr(asyncpg, "connect", connect)
    backend = load_backend("postgresql+asyncpg:///db?host=/tmp&max_payload=100")
    assert backend.max_payload == 100
    async with backend:
        await backend.publish([Message("a", b"1")])
    assert set(dsns) == {"postgresql:///db?host=/tmp"}
