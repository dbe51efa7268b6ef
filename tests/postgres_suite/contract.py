"""The contract suites, over every way to connect and to listen."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, ClassVar

import pytest

from channels.core import ChannelsBackend
from channels.core.testing import BackendContract, HistoryContract
from kit import PostgresVersion
from kit.fixtures import PostgresSpace
from postgres_suite._maker import Maker


def on_postgres(version: PostgresVersion) -> pytest.MarkDecorator:
    """Mark a class to run on one version."""
    return pytest.mark.parametrize("newer_server", [version], indirect=True, scope="session")


class LiveContract(BackendContract, Maker):
    """Without history."""

    options: ClassVar[dict[str, Any]] = {"create_schema": True}

    @pytest.fixture(autouse=True)
    def space(self, postgres_space: PostgresSpace) -> None:
        self.postgres = postgres_space

    @asynccontextmanager
    async def backend(self) -> AsyncIterator[ChannelsBackend]:
        async with self.make(self.postgres.url, **self.options) as backend:
            yield backend


class PooledContract(LiveContract):
    """Without history, and everything on the application's pool."""

    # The pool of an application is started again by the application.
    test_start_again = None
    test_start_again_on_another_loop = None
    test_entries_at_once = None
    # Names do not depend on where a connection comes from.
    test_any_name_is_a_channel = None
    test_similar_names_are_different_channels = None

    @asynccontextmanager
    async def backend(self) -> AsyncIterator[ChannelsBackend]:
        async with (
            self.pool(self.postgres.url, 6) as pool,
            self.make(pool=pool, **self.options) as backend,
        ):
            yield backend


class RecordContract(HistoryContract, Maker):
    """With history."""

    history_at_most = 100
    options: ClassVar[dict[str, Any]] = {"create_schema": True, "history": 100}

    @pytest.fixture(autouse=True)
    def space(self, postgres_space: PostgresSpace) -> None:
        self.postgres = postgres_space

    @asynccontextmanager
    async def backend(self) -> AsyncIterator[ChannelsBackend]:
        async with self.make(self.postgres.url, **self.options) as backend:
            yield backend

    async def lose_record(self, channel: str) -> None:
        self.postgres.execute("TRUNCATE channels.channel, channels.event")


class NewerServerContract(RecordContract):
    """With history, on a newer server than the run's own: mark a class with `on_postgres`."""

    # Names do not depend on the version.
    test_any_name_is_a_channel = None
    test_similar_names_are_different_channels = None

    @pytest.fixture(autouse=True)
    def space(self, newer_postgres: PostgresSpace) -> None:
        self.postgres = newer_postgres


class PollingContract(RecordContract):
    """With history and without NOTIFY."""

    # Nothing is notified under a name.
    test_any_name_is_a_channel = None
    test_similar_names_are_different_channels = None

    # Who polls reads from the record, which a flood must not overtake between two looks.
    history_at_most = 2_000
    options: ClassVar[dict[str, Any]] = {
        **RecordContract.options,
        "history": 2_000,
        "notify": False,
        "poll_interval": 0.02,
    }
