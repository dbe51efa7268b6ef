"""Real servers that are killed, emptied, frozen and cut off, under a running plugin."""

import asyncio
import time
from collections.abc import Callable
from typing import TypeAlias

import pytest

from channels.core import ChannelsBackend, ChannelsPlugin, Message, PublishUnconfirmed
from channels.core.testing import TcpProxy
from channels.redis import RedisChannelsPubSubBackend, RedisChannelsStreamBackend
from kit import RedisServer, eventually

FAST = {"heartbeat": 0.3, "timeout": 0.8, "connect_timeout": 0.8}

Make: TypeAlias = Callable[[str], ChannelsBackend]


def pubsub(url: str) -> ChannelsBackend:
    return RedisChannelsPubSubBackend(url, **FAST)


def stream(url: str) -> ChannelsBackend:
    return RedisChannelsStreamBackend(url, history=10_000, **FAST)


faults = pytest.mark.faults
both = pytest.mark.parametrize("make", [pubsub, stream])


@pytest.mark.parametrize(
    ("make", "seconds"),
    [
        (pubsub, 1),
        (stream, 1),
        pytest.param(stream, 3, marks=pytest.mark.extended),
        *(pytest.param(make, s, marks=faults) for make in (pubsub, stream) for s in (10, 40)),
    ],
)
async def test_killed_for_a_while(
    private_redis: RedisServer, prove: Callable, make: Make, seconds: int
) -> None:
    async with prove(make(private_redis.url)) as proof:
        await proof.published(20)
        private_redis.kill()
        await asyncio.sleep(seconds)
        private_redis.start()
        await proof.published(20)
        await proof.finished()
        if make is stream:
            assert proof.acknowledged <= set(proof.numbers)
            assert not proof.gaps
        else:
            assert proof.gaps == ["news"]


@both
async def test_restarted_empty(private_redis: RedisServer, prove: Callable, make: Make) -> None:
    async with prove(make(private_redis.url)) as proof:
        await proof.published(20)
        private_redis.restart(empty=True)
        await proof.published(20)
        await proof.finished()
        assert proof.gaps == ["news"]


@both
async def test_cut_and_found_again(private_redis: RedisServer, prove: Callable, make: Make) -> None:
    async with (
        TcpProxy("127.0.0.1", private_redis.port) as proxy,
        prove(make(private_redis.url_for(proxy.port)), make(private_redis.url)) as proof,
    ):
        await proof.published(20)
        proxy.refuse()
        proxy.cut()
        await proof.published(50)
        proxy.accept()
        await proof.finished()
        assert len(proof.acknowledged) > 50
        assert proof.gaps == ([] if make is stream else ["news"])
        if make is stream:
            assert set(range(1, max(proof.numbers) + 1)) == set(proof.numbers)


@both
async def test_black_hole_is_noticed(
    private_redis: RedisServer, prove: Callable, make: Make
) -> None:
    async with (
        TcpProxy("127.0.0.1", private_redis.port) as proxy,
        prove(make(private_redis.url_for(proxy.port)), make(private_redis.url)) as proof,
    ):
        await proof.published(20)
        await proof.arrived()
        accepted = proxy.accepted
        proxy.stall()
        began = time.monotonic()
        await eventually(lambda: proxy.accepted > accepted, "another connection", 5)
        assert time.monotonic() - began < 2 * FAST["heartbeat"] + 0.5
        proxy.resume()
        await proof.arrived()
        assert proof.gaps == ([] if make is stream else ["news"])


@both
async def test_frozen_server(private_redis: RedisServer, prove: Callable, make: Make) -> None:
    async with prove(make(private_redis.url)) as proof:
        await proof.published(20)
        private_redis.freeze()
        await eventually(lambda: bool(proof.in_doubt), "an event in doubt", 5)
        await eventually(lambda: bool(proof.not_sent), "an event that was not sent", 5)
        private_redis.thaw()
        await proof.published(20)
        await proof.finished()


@both
async def test_swallowed_replies_are_told_and_never_repeated(
    private_redis: RedisServer, prove: Callable, make: Make
) -> None:
    async with (
        TcpProxy("127.0.0.1", private_redis.port) as proxy,
        prove(make(private_redis.url), make(private_redis.url_for(proxy.port))) as proof,
    ):
        await proof.published(20)
        proxy.swallow_replies()
        await eventually(lambda: bool(proof.in_doubt), "an event in doubt", 5)
        proxy.resume()
        await proof.published(20)
        await proof.finished()
        assert proof.in_doubt & set(proof.numbers), "it was published, only its reply was lost"
        assert not proof.gaps


@both
async def test_client_kill(private_redis: RedisServer, prove: Callable, make: Make) -> None:
    async with prove(make(private_redis.url)) as proof:
        for kind in ("pubsub", "normal", "pubsub"):
            await proof.published(20)
            private_redis.command("CLIENT", "KILL", "TYPE", kind)
        await proof.published(20)
        await proof.finished()
        assert bool(proof.gaps) is (make is pubsub)


@both
@pytest.mark.parametrize("seconds", [0.5, pytest.param(10, marks=faults)])
async def test_refused_at_first(private_redis: RedisServer, make: Make, seconds: float) -> None:
    private_redis.kill()
    gaps: list[str] = []
    plugin = ChannelsPlugin(
        make(private_redis.url),
        channels=["news"],
        connect_timeout=0.3,
        subscribe_timeout=seconds + 5,
        on_gap=gaps.append,
    )
    async with plugin:
        for number in range(100):
            plugin.publish(str(number), "news")
        subscribing = asyncio.create_task(plugin.subscribe(["news"]))
        await asyncio.sleep(seconds)
        private_redis.start()
        subscriber = await subscribing
        for number in range(100, 200):
            await plugin.wait_published(str(number), "news")
        received: list[int] = []
        async for event in subscriber.iter_events():
            received.append(int(event))
            if received[-1] == 199:
                break
        # Those of the queue may have been published before the subscription, and from there on
        # nothing is missing; they may be overtaken by the others.
        queued = [number for number in received if number < 100]
        assert queued == list(range(100))[100 - len(queued) :]
        assert [number for number in received if number >= 100] == list(range(100, 200))
        assert not gaps
        await plugin.unsubscribe(subscriber)


async def test_full_memory_stops_publishing_until_there_is_room(
    make_redis: Callable[..., RedisServer], prove: Callable
) -> None:
    server = make_redis()
    async with prove(stream(server.url)) as proof:
        await proof.published(20)
        server.command("CONFIG", "SET", "maxmemory", 1)
        await eventually(lambda: bool(proof.not_sent), "an event refused", 5)
        server.command("CONFIG", "SET", "maxmemory", 0)
        await proof.published(20)
        await proof.finished()
        assert proof.numbers == sorted(proof.acknowledged)[: len(proof.numbers)]
        assert not proof.gaps
        assert not proof.refused


async def test_flushed_scripts_are_not_missed(private_redis: RedisServer, prove: Callable) -> None:
    async with prove(stream(private_redis.url)) as proof:
        for _ in range(20):
            private_redis.command("SCRIPT", "FLUSH")
            await proof.published(2)
        await proof.arrived()
        assert not proof.not_sent
        assert not proof.in_doubt


async def test_flushed_record_is_told(private_redis: RedisServer, prove: Callable) -> None:
    backend = RedisChannelsStreamBackend(private_redis.url, history=10_000, **FAST)
    async with prove(backend) as proof:
        await proof.published(20)
        await backend.flush_all()
        await proof.published(20)
        await proof.finished()
        assert proof.gaps == ["news"]


async def test_lost_doorbell_is_found_on_a_living_connection(private_redis: RedisServer) -> None:
    backend = RedisChannelsStreamBackend(private_redis.url, tops_interval=0.1, **FAST)
    plugin = ChannelsPlugin(backend, channels=["news", "quiet"])
    async with plugin, plugin.start_subscription(["news", "quiet"]) as subscriber:
        topic = backend._keys.doorbell("news")
        await plugin.wait_published("1", "news")
        events = subscriber.iter_events()
        assert await anext(events) == b"1"
        # A server that forgets this subscription, and only this: its own client cannot know.
        backend._keys.doorbell, doorbell = lambda channel: b"nowhere", backend._keys.doorbell
        backend._head.cache_clear()
        await plugin.wait_published("2", "news")
        backend._keys.doorbell = doorbell
        backend._head.cache_clear()
        assert await asyncio.wait_for(anext(events), 5) == b"2"
        await plugin.wait_published("3", "news")
        assert await asyncio.wait_for(anext(events), 5) == b"3"
        assert topic == doorbell("news")


@both
async def test_outcomes_of_a_batch_that_was_cut(private_redis: RedisServer, make: Make) -> None:
    async with (
        TcpProxy("127.0.0.1", private_redis.port) as proxy,
        make(private_redis.url_for(proxy.port)) as backend,
    ):
        await backend.publish([Message("news", b"0")])
        proxy.swallow_replies()
        publishing = asyncio.create_task(backend.publish([Message("news", b"1")] * 3))
        await eventually(lambda: proxy.bytes_swallowed > 0, "swallowed replies")
        proxy.cut()
        outcomes = await publishing
        assert [type(each) for each in outcomes] == [PublishUnconfirmed] * 3
        proxy.resume()
        assert not any(
            isinstance(each, Exception) for each in await backend.publish([Message("news", b"2")])
        )
