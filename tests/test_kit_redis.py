"""What only the kit's Redis servers can: TLS, users, memory, replicas, cluster, Sentinel."""

import asyncio
import ssl
from collections.abc import Callable
from itertools import pairwise

import pytest
import redis

from channels.core.testing import TcpProxy
from kit import (
    Authority,
    RedisCluster,
    RedisSentinel,
    RedisServer,
    ReplyError,
    authority,
    wait_until,
)
from kit.fixtures import ClusterSpace, RedisSpace

Make = Callable[..., RedisServer]

pytestmark = pytest.mark.extended


def ping(url: str, **options: object) -> bool:
    with redis.Redis.from_url(url, **options) as client:
        return bool(client.ping())


@pytest.mark.parametrize("turn", [1, 2])
def test_a_space_is_empty(redis_space: RedisSpace, turn: int) -> None:
    assert redis_space.command("DBSIZE") == 0
    redis_space.command("SET", f"{redis_space.key_prefix}a", turn)
    assert ping(redis_space.url)


def test_no_two_spaces_share_a_prefix(
    request: pytest.FixtureRequest, redis_space: RedisSpace
) -> None:
    seen: list[str] = request.config.stash.setdefault(_prefixes, [])
    assert redis_space.key_prefix not in seen
    seen.append(redis_space.key_prefix)


_prefixes = pytest.StashKey[list[str]]()


def test_tls_is_spoken_by_who_trusts_the_authority(make_redis: Make) -> None:
    server = make_redis(tls=True)
    assert server.url.startswith("rediss://")
    assert ping(server.url, ssl_ca_certs=str(authority().certificate.file))
    with pytest.raises(redis.ConnectionError, match="certificate verify failed"):
        ping(server.url, ssl_ca_certs=str(Authority().certificate.file))
    with pytest.raises(redis.ConnectionError):
        ping(server.url_for(server.port, "redis"))


def test_only_the_user_may_come_in(make_redis: Make) -> None:
    server = make_redis(user="al:ice", password="s/ec@ret")
    assert ping(server.url)
    assert server.command("ACL", "WHOAMI") == b"al:ice"
    with pytest.raises(redis.AuthenticationError):
        ping(server.url.replace("ret", "rat"))
    with pytest.raises(redis.AuthenticationError):
        ping(f"redis://{server.host}:{server.port}")


def test_only_the_password_lets_in(make_redis: Make) -> None:
    server = make_redis(password="secret")
    assert ping(server.url)
    with pytest.raises(redis.AuthenticationError):
        ping(server.url.replace("secret", "wrong"))


def test_writes_are_refused_when_memory_is_full(make_redis: Make) -> None:
    server = make_redis(maxmemory="5mb")
    with pytest.raises(ReplyError, match="OOM"):
        server.commands([("SET", f"key{i}", "x" * 1_000_000) for i in range(6)])


def test_without_persistence_a_restart_is_empty(make_redis: Make) -> None:
    server = make_redis()
    server.command("SET", "a", 1)
    server.restart()
    assert server.command("GET", "a") is None


def test_it_listens_on_a_unix_socket_too(private_redis: RedisServer) -> None:
    assert ping(f"unix://{private_redis.unix_socket}")


def test_clients_of_the_port_are_listed(private_redis: RedisServer) -> None:
    with redis.Redis.from_url(private_redis.url, client_name="mine") as client:
        client.ping()
        assert [client["name"] for client in private_redis.clients()] == ["mine"]


def test_a_replica_follows(make_redis: Make) -> None:
    master = make_redis(password="secret")
    replica = make_redis(password="secret", replica_of=master)
    master.command("SET", "a", 1)
    wait_until(lambda: replica.command("GET", "a") == b"1", "the replica")


def test_a_cluster_shares_the_slots(cluster_space: ClusterSpace) -> None:
    cluster = cluster_space.cluster
    for number in range(100):
        cluster.owner(cluster.key_slot(f"key{number}")).command("SET", f"key{number}", number)
    sizes = [node.command("DBSIZE") for node in cluster.nodes]
    assert sum(size for size in sizes if isinstance(size, int)) == 100
    assert 0 not in sizes
    assert cluster.masters == cluster.nodes
    assert ping(cluster.url)


def test_a_slot_moves_with_its_keys(cluster_space: ClusterSpace) -> None:
    cluster = cluster_space.cluster
    slot = cluster.key_slot("moving")
    owner = cluster.owner(slot)
    owner.command("SET", "moving", "a")
    target = next(node for node in cluster.masters if node is not owner)
    for source, destination in pairwise([owner, target, owner]):
        cluster.move_slot(slot, destination)
        assert cluster.owner(slot) is destination
        assert destination.command("GET", "moving") == b"a"
        with pytest.raises(ReplyError, match=f"MOVED {slot} 127.0.0.1:{destination.port}"):
            source.command("GET", "moving")


def test_a_replica_stands_in_for_a_killed_master(private_cluster: RedisCluster) -> None:
    slot = private_cluster.key_slot("kept")
    owner = private_cluster.owner(slot)
    owner.commands([("SET", "kept", "a"), ("WAIT", 1, 5000)])
    assert private_cluster.kill_master(slot) is owner
    successor = private_cluster.wait_failover(slot)
    assert successor is not owner
    assert successor.command("GET", "kept") == b"a"
    owner.start()
    wait_until(lambda: not owner.is_master, "the killed master to become a replica", 10)


def test_sentinels_replace_a_master_that_took_writes_alone(
    private_sentinel: RedisSentinel,
) -> None:
    master, replica = private_sentinel.master, private_sentinel.replica
    master.commands([("SET", "a", "kept"), ("WAIT", 1, 5000)])
    private_sentinel.isolate_replica()
    master.command("SET", "a", "lost")
    private_sentinel.fail_over()
    assert (private_sentinel.master, private_sentinel.replica) == (replica, master)
    for sentinel in private_sentinel.sentinels:
        address = sentinel.command("SENTINEL", "GET-MASTER-ADDR-BY-NAME", private_sentinel.name)
        assert address == [replica.host.encode(), str(replica.port).encode()]
    assert replica.command("GET", "a") == b"kept"
    private_sentinel.revive_replica()
    assert master.command("GET", "a") == b"kept"


async def test_tls_passes_a_proxy(make_redis: Make) -> None:
    server = make_redis(tls=True)
    context = ssl.create_default_context(cafile=authority().certificate.file)
    context.verify_flags |= ssl.VERIFY_X509_STRICT
    async with TcpProxy(server.host, server.port) as proxy:
        reader, writer = await asyncio.open_connection(proxy.host, proxy.port, ssl=context)
        for _ in range(2):
            writer.write(b"PING\r\n")
            assert await reader.readline() == b"+PONG\r\n"
            proxy.stall()
            writer.write(b"PING\r\n")
            proxy.resume()
            assert await reader.readline() == b"+PONG\r\n"
        proxy.cut()
        with pytest.raises(ConnectionResetError):
            await reader.readline()
        writer.close()
