"""Sentinels and clusters whose masters die, and slots that move, under a running plugin."""

import asyncio
from collections.abc import Callable, Iterator

import pytest
from redis.asyncio import RedisCluster as ClusterClient
from redis.asyncio.sentinel import Sentinel

from channels.core import (
    BackendException,
    BackendRefused,
    ChannelsBackend,
    ChannelsPlugin,
    Event,
    HistoryRequest,
    Message,
    Position,
    PublishUnconfirmed,
)
from channels.core.testing import TcpProxy
from channels.redis import RedisChannelsPubSubBackend, RedisChannelsStreamBackend
from kit import RedisCluster, RedisSentinel, RedisServer, eventually

pytestmark = pytest.mark.extended

FAST = {"heartbeat": 0.3, "timeout": 1.0, "connect_timeout": 1.0}


def sentinel_url(sentinel: RedisSentinel, scheme: str = "redis") -> str:
    hosts = ",".join(f"{host}:{port}" for host, port in sentinel.addresses)
    return f"{scheme}://{hosts}/0?sentinel={sentinel.name}"


async def failed_over(sentinel: RedisSentinel) -> None:
    await asyncio.to_thread(sentinel.fail_over)


async def test_sentinel_failover_that_loses_nothing(
    private_sentinel: RedisSentinel, prove: Callable
) -> None:
    backend = RedisChannelsStreamBackend.from_url(
        sentinel_url(private_sentinel, "redis+stream")
        + "&history=10000&wait_replicas=1&heartbeat=0.3&timeout=1&connect_timeout=1"
    )
    async with prove(backend) as proof:
        await proof.published(20)
        await failed_over(private_sentinel)
        await eventually(lambda: bool(proof.in_doubt), "no replica is left to confirm", 10)
        await asyncio.to_thread(private_sentinel.revive_replica)
        await proof.published(20)
        await proof.finished()
        assert proof.acknowledged <= set(proof.numbers)
        assert not proof.gaps


async def test_sentinel_failover_with_lost_writes_is_told(
    private_sentinel: RedisSentinel, prove: Callable
) -> None:
    client = Sentinel(private_sentinel.addresses).master_for(private_sentinel.name)
    backend = RedisChannelsStreamBackend(redis=client, history=10_000, **FAST)
    async with prove(backend) as proof:
        await proof.published(20)
        private_sentinel.isolate_replica()
        await proof.published(20)
        await proof.arrived()
        await failed_over(private_sentinel)
        await proof.published(20)
        await proof.finished()
        assert proof.gaps == ["news"]
    await client.aclose()


async def test_sentinel_failover_of_pubsub(
    private_sentinel: RedisSentinel, prove: Callable
) -> None:
    backend = RedisChannelsPubSubBackend.from_url(
        sentinel_url(private_sentinel) + "&heartbeat=0.3&timeout=1&connect_timeout=1"
    )
    async with prove(backend) as proof:
        await proof.published(20)
        await failed_over(private_sentinel)
        await proof.published(20)
        await proof.finished()
        assert proof.gaps == ["news"]
    async with RedisChannelsPubSubBackend(
        sentinel_url(private_sentinel).partition("?")[0], sentinel="nobody"
    ) as wrong:
        with pytest.raises(BackendRefused, match="no master named 'nobody'"):
            await wrong.publish([Message("news", b"")])


@pytest.mark.parametrize(
    "ended", [("normal", "pubsub"), ("pubsub",), ()], ids=["as Sentinels do", "listening", "none"]
)
async def test_failover_and_back_with_lost_writes_is_told(
    make_redis: Callable[..., RedisServer], ended: tuple[str, ...]
) -> None:
    """Of a channel that nobody published to in between: the process that wrote last is the same.

    So may be the connections: ``REPLICAOF`` ends none.
    """
    first = make_redis()
    second = make_redis(replica_of=first)
    gaps: list[str] = []
    backend = RedisChannelsStreamBackend(first.url, **FAST)
    async with ChannelsPlugin(backend, channels=["news"], on_gap=gaps.append) as plugin:
        events: list[Event] = []
        subscriber = await plugin.subscribe("news")
        subscriber.attach(lambda run: events.extend(run) is None)
        await plugin.wait_published("1", "news")
        await eventually(lambda: second.command("EXISTS", "channels:{news}:m"), "the replica", 10)
        second.command("REPLICAOF", "NO", "ONE")
        await plugin.wait_published("lost", "news")
        await eventually(lambda: events == [b"1", b"lost"], "both events")
        first.command("REPLICAOF", "127.0.0.1", second.port)
        await eventually(lambda: first.info()["master_link_status"] == "up", "the failover", 10)
        first.command("REPLICAOF", "NO", "ONE")
        for kind in ended:
            first.command("CLIENT", "KILL", "TYPE", kind)
        pipeline = backend._servers._node._pipeline
        await eventually(lambda: not pipeline.was_master_throughout(), "that it is not sure")

        async def published() -> bool:
            try:
                await plugin.wait_published("2", "news")
            except BackendException:
                return False
            return True

        await eventually(published, "that it is a master again", 10)
        await plugin.wait_published("3", "news")
        await eventually(lambda: events[-1] == b"3", "the events after")
        assert events == [b"1", b"lost", b"2", b"3"]
        assert gaps == ["news"]


async def test_cluster_failover_and_back_with_lost_writes_is_told(
    private_cluster: RedisCluster,
) -> None:
    """A publisher that was idle meanwhile has its connection still, and so has a listener."""
    slot = private_cluster.key_slot("{news}")
    first = private_cluster.owner(slot)
    second = next(
        node for node in private_cluster.nodes if node.info().get("master_port") == str(first.port)
    )
    gaps: list[str] = []
    listening = ChannelsPlugin(
        on_cluster("stream", private_cluster), channels=["news"], on_gap=gaps.append
    )
    async with on_cluster("stream", private_cluster) as publisher, listening:
        events: list[Event] = []
        subscriber = await listening.subscribe("news")
        subscriber.attach(lambda run: events.extend(run) is None)
        await publisher.publish([Message("news", b"1")])
        await eventually(
            lambda: first.info()["master_repl_offset"] == second.info()["master_repl_offset"],
            "the replica",
            10,
        )
        first.command("ACL", "SETUSER", "default", "-psync", "-sync")
        first.command("CLIENT", "KILL", "TYPE", "replica")
        await publisher.publish([Message("news", b"lost")])
        await eventually(lambda: events == [b"1", b"lost"], "both events")
        second.command("CLUSTER", "FAILOVER", "TAKEOVER")
        await eventually(lambda: first.info().get("master_link_status") == "up", "the failover", 20)
        first.command("CLUSTER", "FAILOVER", "TAKEOVER")
        await asyncio.to_thread(private_cluster.wait_failover, slot)
        assert private_cluster.owner(slot) is first
        for number in (b"2", b"3"):

            async def published(data: bytes = number) -> bool:
                (outcome,) = await publisher.publish([Message("news", data)])
                return isinstance(outcome, Position)

            await eventually(published, "that it is a master again", 10)
        await eventually(lambda: events[-1] == b"3", "the events after", 20)
        assert events == [b"1", b"lost", b"2", b"3"]
        assert gaps == ["news"]


async def test_an_old_master_is_left_with_all_connections(
    make_redis: Callable[..., RedisServer],
) -> None:
    """What it has says nothing of events that come from the new one."""
    first = make_redis()
    second = make_redis(replica_of=first)
    async with TcpProxy("127.0.0.1", first.port) as proxy:
        backend = RedisChannelsStreamBackend(first.url_for(proxy.port), **FAST)
        async with ChannelsPlugin(backend, channels=["news"]) as plugin:
            events: list[Event] = []
            subscriber = await plugin.subscribe("news")
            subscriber.attach(lambda run: events.extend(run) is None)
            async with RedisChannelsStreamBackend(first.url) as before:
                await before.publish([Message("news", b"1")])
            await eventually(lambda: events == [b"1"], "the event before")
            await eventually(lambda: second.command("EXISTS", "channels:{news}:m"), "replica", 10)
            second.command("REPLICAOF", "NO", "ONE")
            proxy._network.upstream = ("127.0.0.1", second.port)
            async with RedisChannelsStreamBackend(second.url) as after:
                await after.publish([Message("news", b"2")])
                first.command("CLIENT", "KILL", "TYPE", "pubsub")
                await eventually(lambda: events == [b"1", b"2"], "the event meanwhile", 10)
                await after.publish([Message("news", b"3")])
                await eventually(lambda: events == [b"1", b"2", b"3"], "the event after")


async def test_a_replica_is_left_by_who_only_listens(
    make_redis: Callable[..., RedisServer],
) -> None:
    """It answers every heartbeat, and its own master may be out of its reach."""
    first = make_redis()
    second = make_redis()
    async with TcpProxy("127.0.0.1", first.port) as proxy:
        backend = RedisChannelsStreamBackend(first.url_for(proxy.port), tops_interval=0.4, **FAST)
        async with ChannelsPlugin(backend, channels=["news"]) as plugin:
            events: list[Event] = []
            subscriber = await plugin.subscribe("news")
            subscriber.attach(lambda run: events.extend(run) is None)
            first.command("REPLICAOF", "127.0.0.1", 1)
            proxy._network.upstream = ("127.0.0.1", second.port)
            async with RedisChannelsStreamBackend(second.url) as publisher:
                await publisher.publish([Message("news", b"1")])
                await eventually(lambda: events == [b"1"], "the event", 10)


async def test_a_replica_is_left_by_who_publishes_without_a_record(
    make_redis: Callable[..., RedisServer],
) -> None:
    """It takes every ``PUBLISH``, and passes it on to nobody."""
    first = make_redis()
    second = make_redis()
    async with (
        TcpProxy("127.0.0.1", first.port) as proxy,
        RedisChannelsPubSubBackend(first.url_for(proxy.port), **FAST) as publisher,
        RedisChannelsPubSubBackend(second.url) as backend,
        backend.listen() as listener,
    ):
        await listener.subscribe(["news"])
        await publisher.publish([Message("news", b"1")])
        first.command("REPLICAOF", "127.0.0.1", 1)
        proxy._network.upstream = ("127.0.0.1", second.port)
        pipeline = publisher._servers._node._pipeline
        await eventually(lambda: pipeline.since_look() > FAST["heartbeat"], "the time to look")
        await publisher.publish([Message("news", b"2")])
        assert await anext(aiter(listener)) == [b"2"]


async def test_a_first_replica_is_no_failover(make_redis: Callable[..., RedisServer]) -> None:
    """The server gives itself another replication id, which only new connections have read."""
    server = make_redis()
    async with (
        RedisChannelsStreamBackend(server.url) as before,
        RedisChannelsStreamBackend(server.url) as after,
    ):
        positions = [*await before.publish([Message("news", b"1")])]
        make_redis(replica_of=server)
        await eventually(lambda: server.info()["connected_slaves"] == "1", "the replica", 10)
        for number in range(2, 8):
            backend = after if number % 2 else before
            positions += await backend.publish([Message("news", b"%d" % number)])
        assert [position.offset for position in positions] == [*range(1, 8)]  # type: ignore[union-attr]
        assert len({position.epoch for position in positions[2:]}) == 1  # type: ignore[union-attr]
        [history] = await after.get_history([HistoryRequest("news", since=positions[0])])  # type: ignore[arg-type]
        assert (len(history.events), history.complete) == (6, True)


async def test_wait_replicas_says_when_there_is_none(
    private_sentinel: RedisSentinel,
) -> None:
    async with RedisChannelsStreamBackend(
        private_sentinel.master.url, wait_replicas=2, timeout=2.0
    ) as backend:
        (outcome,) = await backend.publish([Message("news", b"")])
        assert isinstance(outcome, PublishUnconfirmed)
        assert "1 of wait_replicas=2" in str(outcome)
    async with RedisChannelsStreamBackend(private_sentinel.master.url, wait_replicas=1) as backend:
        (outcome,) = await backend.publish([Message("news", b"")])
        assert isinstance(outcome, Position)
        assert outcome.offset == 2


def on_cluster(kind: str, cluster: RedisCluster) -> ChannelsBackend:
    if kind == "pubsub":
        return RedisChannelsPubSubBackend(cluster.url, cluster=True, **FAST)
    return RedisChannelsStreamBackend(
        redis=ClusterClient.from_url(cluster.url), history=10_000, **FAST
    )


@pytest.fixture(scope="module")
def movable() -> Iterator[RedisCluster]:
    with RedisCluster() as cluster:
        yield cluster


@pytest.mark.parametrize("kind", ["pubsub", "stream"])
async def test_cluster_slot_moves_while_publishing(
    movable: RedisCluster, prove: Callable, kind: str
) -> None:
    slot = movable.key_slot("{news}")
    async with prove(on_cluster(kind, movable)) as proof:
        for _ in range(2):
            await proof.published(20)
            source = movable.owner(slot)
            target = next(node for node in movable.masters if node is not source)
            await asyncio.to_thread(movable.move_slot, slot, target)
            await proof.published(20)
            await proof.arrived()
        await proof.finished()
        if kind == "stream":
            assert proof.acknowledged <= set(proof.numbers)
            assert not proof.gaps
        else:
            assert proof.gaps == ["news", "news"]


@pytest.mark.parametrize("kind", ["pubsub", "stream"])
async def test_cluster_failover(private_cluster: RedisCluster, prove: Callable, kind: str) -> None:
    slot = private_cluster.key_slot("{news}")
    async with prove(on_cluster(kind, private_cluster)) as proof:
        await proof.published(20)
        await proof.arrived()
        private_cluster.kill_master(slot)
        await asyncio.to_thread(private_cluster.wait_failover, slot)
        await proof.published(20)
        await proof.finished()
        if kind == "pubsub":
            assert proof.gaps == ["news"]


async def test_cluster_failover_with_lost_writes_is_told(
    private_cluster: RedisCluster, prove: Callable
) -> None:
    slot = private_cluster.key_slot("{news}")
    async with prove(on_cluster("stream", private_cluster)) as proof:
        await proof.published(20)
        await proof.arrived()
        master = private_cluster.owner(slot)
        replica = private_cluster.isolate_replica(slot)
        # The one under way may be acknowledged only now, and yet the replica has it.
        last_replicated = proof.begun
        await proof.published(20)
        await proof.arrived()
        lost = {number for number in proof.acknowledged if number > last_replicated}
        master.kill()
        replica.thaw()
        await asyncio.to_thread(private_cluster.wait_failover, slot)
        await proof.published(20)
        await proof.finished()
        assert proof.gaps == ["news"]
        history = (await proof.publisher.backend.get_history([HistoryRequest("news")]))[0]
        assert lost
        assert not lost & {int(event) for event in history.events}


async def test_cluster_listener_finds_where_slots_went(movable: RedisCluster) -> None:
    """A slot that moved while nobody listened, and one that moves back under a listener."""
    slot = movable.key_slot("{other}")
    async with on_cluster("stream", movable) as backend:
        assert await backend.publish([Message("other", b"1")])
        source = movable.owner(slot)
        target = next(node for node in movable.masters if node is not source)
        await asyncio.to_thread(movable.move_slot, slot, target)
        async with backend.listen() as listener:
            tops = await listener.subscribe(["other"])
            assert tops["other"].offset == 1
            (outcome,) = await backend.publish([Message("other", b"2")])
            assert await anext(aiter(listener)) == [b"2"]
            assert outcome.offset == 2
