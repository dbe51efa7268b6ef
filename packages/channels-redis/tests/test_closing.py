"""Ending while a fault lasts, and what twenty lives leave behind."""

import asyncio
import logging
import time
from collections.abc import Callable
from typing import TypeAlias

import pytest

from channels.core import BackendException, ChannelsBackend, ChannelsPlugin, load_backend
from channels.core.testing import TcpProxy
from channels.redis import RedisChannelsPubSubBackend, RedisChannelsStreamBackend
from kit import RedisCluster, RedisSentinel, RedisServer, eventually

DEADLINE = 0.4
LEEWAY = 0.5  # for a loaded machine

Make: TypeAlias = Callable[[str], ChannelsBackend]


def pubsub(url: str) -> ChannelsBackend:
    return RedisChannelsPubSubBackend(url, timeout=20, connect_timeout=20)


def stream(url: str) -> ChannelsBackend:
    return RedisChannelsStreamBackend(url, timeout=20, connect_timeout=20)


both = pytest.mark.parametrize("make", [pubsub, stream])


async def check_closing(
    backend: ChannelsBackend,
    fail: Callable[[], object],
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Stop a busy plugin in the middle of a fault: in time, and nobody is left waiting."""
    given_up: list[bytes] = []
    plugin = ChannelsPlugin(
        backend,
        channels=["news"],
        shutdown_timeout=DEADLINE,
        on_publish_error=lambda channel, data, error: given_up.append(data),
    )
    received: list[bytes] = []

    async def receive() -> None:
        async for event in subscriber.iter_events():
            received.append(bytes(event))

    await plugin.start()
    subscriber = await plugin.subscribe(["news"])
    receiving = asyncio.create_task(receive())
    await plugin.wait_published("before", "news")
    await eventually(lambda: received == [b"before"], "the first event")
    fail()
    waiting = [asyncio.create_task(plugin.wait_published("at once", "news")) for _ in range(3)]
    for _ in range(5):
        plugin.publish("queued", "news")
    await asyncio.sleep(0)  # all of it is on its way
    began = time.monotonic()
    await plugin.stop()
    assert time.monotonic() - began < DEADLINE + LEEWAY
    async with asyncio.timeout(1):
        outcomes = await asyncio.gather(*waiting, return_exceptions=True)
        await receiving
    assert all(isinstance(outcome, BackendException) for outcome in outcomes), outcomes
    assert received == [b"before"]
    unsent = 5 - len(given_up)
    told = [r.getMessage() for r in caplog.records if r.levelno == logging.ERROR]
    stopped = f"stopped with {unsent} events that could not be published"
    assert [each for each in told if "stop" in each] == ([stopped] if unsent else [])
    assert not [each for each in told if "close" in each]


@both
@pytest.mark.parametrize("fault", ["killed", "frozen"])
async def test_server_is(
    private_redis: RedisServer, make: Make, fault: str, caplog: pytest.LogCaptureFixture
) -> None:
    fail = private_redis.kill if fault == "killed" else private_redis.freeze
    await check_closing(make(private_redis.url), fail, caplog)


@both
@pytest.mark.parametrize("fault", ["black-holed", "cut", "swallowing replies"])
async def test_network_is(
    private_redis: RedisServer, make: Make, fault: str, caplog: pytest.LogCaptureFixture
) -> None:
    async with TcpProxy("127.0.0.1", private_redis.port) as proxy:

        def fail() -> None:
            match fault:
                case "black-holed":
                    proxy.stall()
                case "cut":
                    proxy.refuse()
                    proxy.cut()
                case _:
                    proxy.swallow_replies()

        await check_closing(make(private_redis.url_for(proxy.port)), fail, caplog)


async def test_memory_is_full(
    make_redis: Callable[..., RedisServer], caplog: pytest.LogCaptureFixture
) -> None:
    server = make_redis()

    def fail() -> None:
        server.command("CONFIG", "SET", "maxmemory", 1)

    await check_closing(stream(server.url), fail, caplog)


@pytest.mark.parametrize("kind", ["redis", "redis+stream"])
async def test_failover_is_under_way(
    private_sentinel: RedisSentinel, kind: str, caplog: pytest.LogCaptureFixture
) -> None:
    hosts = ",".join(f"{host}:{port}" for host, port in private_sentinel.addresses)
    backend = load_backend(f"{kind}://{hosts}/0?sentinel={private_sentinel.name}")
    await check_closing(backend, private_sentinel.master.kill, caplog)


async def test_cluster_is_frozen(caplog: pytest.LogCaptureFixture) -> None:
    with RedisCluster() as cluster:
        netloc = cluster.url.partition("://")[2].removesuffix("/0")

        def fail() -> None:
            for node in cluster.nodes:
                node.freeze()

        for scheme in ("redis", "redis+stream"):
            backend = load_backend(f"{scheme}://{netloc}?cluster=true")
            await check_closing(backend, fail, caplog)
            caplog.clear()
            for node in cluster.nodes:
                node.thaw()
            await asyncio.to_thread(cluster.wait_until_whole)


@both
async def test_twenty_lives_leave_nothing(
    make_redis: Callable[..., RedisServer], make: Make
) -> None:
    server = make_redis()
    backend = make(server.url)
    plugin = ChannelsPlugin(backend, channels=["news"])
    keys: list[object] = []
    for _ in range(20):
        async with plugin, plugin.start_subscription(["news"]) as subscriber:
            await plugin.wait_published("1", "news")
            assert await anext(subscriber.iter_events()) == b"1"
        assert asyncio.all_tasks() == {asyncio.current_task()}
        keys.append(server.command("DBSIZE"))
    await eventually(lambda: not server.clients(), "all connections closed")
    if isinstance(backend, RedisChannelsStreamBackend):
        assert keys == [2] * 20
        async with backend:
            assert await backend.flush_all() == 2
    assert server.command("DBSIZE") == 0
