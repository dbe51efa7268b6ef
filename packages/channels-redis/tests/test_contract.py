"""Both backends against the suites of the contract, on every kind of deployment."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import count
from typing import ClassVar

import pytest
from redis.asyncio import RedisCluster as ClusterClient

from channels.core import ChannelsBackend
from channels.core.testing import BackendContract, HistoryContract
from channels.redis import RedisChannelsPubSubBackend, RedisChannelsStreamBackend, _wire
from channels.redis._resp import PythonParser
from kit import RedisCluster, RedisServer
from kit.fixtures import RedisSpace

_prefixes = count(1)


class TestPubSub(BackendContract):
    @pytest.fixture(autouse=True)
    def space(self, redis_space: RedisSpace) -> None:
        self.url = redis_space.url
        self.prefix = redis_space.key_prefix

    @asynccontextmanager
    async def backend(self) -> AsyncIterator[ChannelsBackend]:
        async with RedisChannelsPubSubBackend(self.url, key_prefix=self.prefix) as backend:
            yield backend


class StreamSuite(HistoryContract):
    approximate: ClassVar[bool] = False
    history_at_most = 100

    @pytest.fixture(autouse=True)
    def space(self, redis_space: RedisSpace) -> None:
        self.url = redis_space.url
        self.prefix = redis_space.key_prefix
        self.command = redis_space.command

    @asynccontextmanager
    async def backend(self) -> AsyncIterator[ChannelsBackend]:
        async with RedisChannelsStreamBackend(
            self.url,
            key_prefix=self.prefix,
            history=self.history,
            cap_streams_approximate=self.approximate,
        ) as backend:
            yield backend

    async def lose_record(self, channel: str) -> None:
        keys = RedisChannelsStreamBackend(self.url, key_prefix=self.prefix)._keys
        self.command("DEL", keys.meta(channel), keys.stream(channel))


class TestStream(StreamSuite):
    pass


@pytest.fixture(scope="module")
def valkey() -> AsyncIterator[RedisServer]:
    with RedisServer("valkey") as server:
        yield server


@pytest.fixture
def our_parser(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have replies parsed as where hiredis is not installed."""
    monkeypatch.setattr(_wire, "make_parser", PythonParser)


@pytest.mark.extended
@pytest.mark.usefixtures("our_parser")
class TestPubSubOnValkey(TestPubSub):
    @pytest.fixture(autouse=True)
    def space(self, valkey: RedisServer) -> None:
        self.url = valkey.url
        self.prefix = f"v{next(_prefixes)}"


@pytest.mark.extended
@pytest.mark.usefixtures("our_parser")
class TestStreamOnValkey(StreamSuite):
    approximate = True
    history_at_most = 300

    @pytest.fixture(autouse=True)
    def space(self, valkey: RedisServer) -> None:
        self.url = valkey.url
        self.prefix = f"v{next(_prefixes)}"
        self.command = valkey.command

    async def lose_record(self, channel: str) -> None:
        """Lose only what says where the record stands, as an eviction may."""
        keys = RedisChannelsStreamBackend(self.url, key_prefix=self.prefix)._keys
        self.command("DEL", keys.meta(channel))


@pytest.mark.extended
class TestPubSubOnACluster(TestPubSub):
    @pytest.fixture(autouse=True)
    def space(self, redis_cluster: RedisCluster) -> None:
        self.url = redis_cluster.url
        self.prefix = f"c{next(_prefixes)}"

    @asynccontextmanager
    async def backend(self) -> AsyncIterator[ChannelsBackend]:
        async with RedisChannelsPubSubBackend(
            self.url, key_prefix=self.prefix, cluster=True
        ) as backend:
            yield backend


@pytest.mark.extended
class TestStreamOnACluster(StreamSuite):
    @pytest.fixture(autouse=True)
    def space(self, redis_cluster: RedisCluster) -> None:
        self.cluster = redis_cluster
        self.url = redis_cluster.url
        self.prefix = f"c{next(_prefixes)}"

    @asynccontextmanager
    async def backend(self) -> AsyncIterator[ChannelsBackend]:
        client = ClusterClient.from_url(self.url)
        async with RedisChannelsStreamBackend(
            redis=client,
            key_prefix=self.prefix,
            history=self.history,
            cap_streams_approximate=self.approximate,
        ) as backend:
            yield backend

    async def lose_record(self, channel: str) -> None:
        keys = RedisChannelsStreamBackend(self.url, key_prefix=self.prefix)._keys
        names = (keys.meta(channel), keys.stream(channel))
        self.cluster.owner(self.cluster.key_slot(names[0])).command("DEL", *names)
