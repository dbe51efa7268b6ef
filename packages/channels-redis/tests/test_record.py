"""What is on the server: names, lineage, expiry, trimming, and what a reader makes of it."""

import asyncio
import time
from collections.abc import Callable
from contextlib import AsyncExitStack

import pytest
from hypothesis import given
from hypothesis import strategies as st

from channels.core import (
    BEGINNING,
    BackendException,
    Event,
    HistoryRequest,
    Listener,
    Lost,
    Message,
    Position,
)
from channels.redis import RedisChannelsPubSubBackend, RedisChannelsStreamBackend
from channels.redis._keys import Keys, slot
from kit import RedisCluster, RedisServer, eventually
from kit.fixtures import ClusterSpace, RedisSpace

name = st.text(alphabet=st.sampled_from("ab:{}%*?[]\\^-é"), min_size=1, max_size=5)


@given(name, name, name, name, st.integers(0, 1), st.integers(0, 1))
def test_names_are_injective(a: str, b: str, x: str, y: str, i: int, j: int) -> None:
    one, other = Keys(a, i), Keys(b, j)
    mine = {one.plain(x), one.doorbell(x)}, {one.stream(x), one.meta(x)}
    theirs = {other.plain(y), other.doorbell(y)}, {other.stream(y), other.meta(y)}
    assert len(mine[0] | mine[1]) == 4
    if (a, x, i) != (b, y, j):
        assert not mine[0] & theirs[0]
    if (a, x) != (b, y):
        assert not mine[1] & theirs[1]
    assert one.owns(one.stream(x))
    assert a == b or not one.owns(other.stream(y))


@pytest.mark.extended
async def test_slot_is_the_servers(redis_cluster: RedisCluster) -> None:
    keys = Keys("a{b}c", 0)
    for channel in ("news", "}{", "%", "é" * 100):
        for key in (keys.stream(channel), keys.meta(channel), keys.doorbell(channel)):
            assert redis_cluster.key_slot(key) == slot(keys.tag(channel))


@pytest.mark.parametrize("kind", [RedisChannelsPubSubBackend, RedisChannelsStreamBackend])
async def test_prefixes_and_databases_never_meet(redis_space: RedisSpace, kind: type) -> None:
    url, prefix = redis_space.url, redis_space.key_prefix
    async with (
        kind(url, key_prefix=prefix) as one,
        kind(url, key_prefix=prefix + ":") as two,
        kind(url.removesuffix("0") + "1", key_prefix=prefix) as three,
        one.listen() as listener,
    ):
        await listener.subscribe(["news", ":news"])
        for other in (two, three, one):
            await other.publish([Message("news", b"%d" % id(other))])
        (event,) = await anext(aiter(listener))
        assert event == b"%d" % id(one)


PREFIXES = ["*", "[a]", "a", "a*", "a?", "\\a", "{a}", "[^b]", "a:{x}"]


@pytest.mark.parametrize("kind", [RedisChannelsPubSubBackend, RedisChannelsStreamBackend])
async def test_glob_characters_in_prefixes(redis_space: RedisSpace, kind: type) -> None:
    async with AsyncExitStack() as stack:
        backends, listeners = [], []
        for prefix in PREFIXES:
            backend = await stack.enter_async_context(kind(redis_space.url, key_prefix=prefix))
            listener = await stack.enter_async_context(backend.listen())
            await listener.subscribe(["news", "*"])
            backends.append(backend)
            listeners.append(listener)
        for prefix, backend in zip(PREFIXES, backends, strict=True):
            await backend.publish([Message("news", prefix.encode()), Message("*", b"end")])
        for prefix, listener, backend in zip(PREFIXES, listeners, backends, strict=True):
            received: list[object] = []
            async for events in listener:
                received += events
                if b"end" in received:
                    break
            assert received == [prefix.encode(), b"end"]
            if backend.keeps_history:
                (history,) = await backend.get_history([HistoryRequest("news")])
                assert history.events == [prefix.encode()]


async def check_flush_all(url: str, count: Callable[[], int], **options: bool) -> None:
    backends = [
        RedisChannelsStreamBackend(url, key_prefix=prefix, **options) for prefix in PREFIXES
    ]
    async with AsyncExitStack() as stack:
        for backend in backends:
            await stack.enter_async_context(backend)
            await backend.publish([Message(f"channel {i}", b"") for i in range(5)])
        left = count()
        assert left >= len(PREFIXES) * 10
        for backend in backends:
            assert await backend.flush_all() == 10
            left -= 10
            assert count() == left


async def test_flush_all_takes_its_own_only(redis_space: RedisSpace) -> None:
    redis_space.command("SET", "a:foreign", "1")
    await check_flush_all(redis_space.url, lambda: redis_space.command("DBSIZE"))


async def test_flush_all_on_a_cluster(cluster_space: ClusterSpace) -> None:
    nodes = cluster_space.cluster.nodes
    await check_flush_all(
        cluster_space.url, lambda: sum(node.command("DBSIZE") for node in nodes), cluster=True
    )


@pytest.mark.parametrize("kind", [RedisChannelsPubSubBackend, RedisChannelsStreamBackend])
async def test_idle_sends_the_heartbeat_and_looks_at_the_tops(
    make_redis: Callable[..., RedisServer], kind: type
) -> None:
    server = make_redis()
    heartbeat, interval = 0.2, 0.6
    looks = {"tops_interval": interval} if kind is RedisChannelsStreamBackend else {}
    backend = kind(server.url, heartbeat=heartbeat, **looks)
    names = [f"channel {i}" for i in range(10_000)]
    async with backend, backend.listen() as listener:
        for channel, top in (await listener.subscribe(names)).items():
            assert top is None, channel
        server.command("CONFIG", "RESETSTAT")
        began = time.monotonic()
        sent: dict[str, int] = {}

        def is_enough() -> bool:
            sent.update(calls(server))
            # A thousand channels in each look, and not in the midst of one.
            return sent.get("ping", 0) >= 8 and sent.get("mget", 0) % 10 == 0

        await eventually(is_enough, "heartbeats")
        took = time.monotonic() - began
    kinds = {"ping", "mget", "hello"} if looks else {"ping"}
    assert set(sent) - {"info", "config|resetstat"} == kinds
    assert sent["ping"] <= took / heartbeat + 1
    if looks:
        assert sent["hello"] <= took / interval + 1
        assert sent["mget"] // 10 <= took / interval + 1


def calls(server: RedisServer) -> dict[str, int]:
    """Return how often each command was run since RESETSTAT."""
    stats = server.command("INFO", "commandstats").decode().splitlines()
    return {
        line.removeprefix("cmdstat_").partition(":")[0]: int(
            line.partition("calls=")[2].partition(",")[0]
        )
        for line in stats[1:]
    }


async def test_a_look_finds_what_is_missing_among_thousands_and_nothing_else(
    make_redis: Callable[..., RedisServer],
) -> None:
    server = make_redis()
    backend = RedisChannelsStreamBackend(server.url, tops_interval=0.05)
    names = [f"channel {i}" for i in range(2_500)]
    first, middle, last = names[0], names[1_700], names[-1]
    arrived: list[Event | Lost] = []

    async def collect(listener: Listener) -> None:
        async for items in listener:
            arrived.extend(items)

    async def look_twice() -> None:
        server.command("CONFIG", "RESETSTAT")
        await eventually(lambda: calls(server).get("mget", 0) >= 3 * 3, "looks")

    async with backend, backend.listen() as listener:
        await listener.subscribe(names)
        collecting = asyncio.create_task(collect(listener))
        for data in (b"1", b"2"):
            await backend.publish([Message(name, data) for name in (first, middle, last)])
            await look_twice()
            assert [item for item in arrived if isinstance(item, Lost)] == []
        await eventually(lambda: len(arrived) == 6, "events")

        arrived.clear()
        backend._keys.doorbell, doorbell = lambda channel: b"nowhere", backend._keys.doorbell
        backend._head.cache_clear()
        await backend.publish([Message(middle, b"3"), Message(last, b"3")])
        backend._keys.doorbell = doorbell
        backend._head.cache_clear()
        await look_twice()
        lost = [item.channels for item in arrived if isinstance(item, Lost)]
        assert sorted(sum(lost, ())) == [middle, last]  # each told once

        await listener.unsubscribe([first, last])
        tops = await listener.subscribe([middle])
        assert tops[middle] is not None
        assert tops[middle].offset == 3
        arrived.clear()
        await look_twice()
        assert arrived == []
        collecting.cancel()
        await asyncio.wait([collecting])


async def test_record_expires_and_its_position_later(redis_space: RedisSpace) -> None:
    async with RedisChannelsStreamBackend(
        redis_space.url, key_prefix=redis_space.key_prefix, ttl=0.05, meta_ttl=60
    ) as backend:
        (first,) = await backend.publish([Message("news", b"1")])
        stream, meta = backend._keys.stream("news"), backend._keys.meta("news")
        await eventually(lambda: redis_space.command("EXISTS", stream) == 0, "expiry")
        assert 0 < redis_space.command("PTTL", meta) <= 60_000
        history = (await backend.get_history([HistoryRequest("news", None, first)]))[0]
        assert history == ([], first, True)
        (second,) = await backend.publish([Message("news", b"2")])
        assert second == (first.epoch, 2)
        history = (await backend.get_history([HistoryRequest("news", None, BEGINNING)]))[0]
        assert (list(history.events), history.complete) == ([b"2"], False)


async def test_nothing_expires_without_ttl(redis_space: RedisSpace) -> None:
    async with RedisChannelsStreamBackend(
        redis_space.url, key_prefix=redis_space.key_prefix, ttl=None
    ) as backend:
        await backend.publish([Message("news", b"1")])
        for key in (backend._keys.stream("news"), backend._keys.meta("news")):
            assert redis_space.command("PTTL", key) == -1


@pytest.mark.parametrize("approximate", [False, True])
async def test_trimming_is_approximate_only_when_asked(
    redis_space: RedisSpace, approximate: bool
) -> None:
    async with RedisChannelsStreamBackend(
        redis_space.url,
        key_prefix=redis_space.key_prefix,
        history=10,
        cap_streams_approximate=approximate,
    ) as backend:
        await backend.publish([Message("news", b"%d" % i) for i in range(95)])
        kept = redis_space.command("XLEN", backend._keys.stream("news"))
        assert kept == (95 if approximate else 10)
        await backend.publish([Message("news", b"%d" % i) for i in range(500)])
        assert redis_space.command("XLEN", backend._keys.stream("news")) <= 110


async def read(
    backend: RedisChannelsStreamBackend, since: Position | None
) -> tuple[list[bytes], bool]:
    (history,) = await backend.get_history([HistoryRequest("news", None, since)])
    assert all(isinstance(event, Event) and event.channel == "news" for event in history.events)
    return [bytes(event) for event in history.events], history.complete


async def restarted(server: RedisServer, backend: RedisChannelsStreamBackend) -> None:
    pipeline = backend._servers._node._pipeline
    server.restart()
    await eventually(lambda: pipeline.reason, "the end of the connection")


async def test_restart_begins_an_epoch_that_remembers(
    make_redis: Callable[..., RedisServer],
) -> None:
    server = make_redis(persistent=True)
    async with RedisChannelsStreamBackend(server.url) as backend:
        old = await backend.publish([Message("news", b"%d" % i) for i in (1, 2, 3)])
        await restarted(server, backend)
        (fourth,) = await backend.publish([Message("news", b"4")])
        assert fourth.offset == 4
        assert fourth.epoch != old[0].epoch
        assert await read(backend, old[2]) == ([b"4"], True)
        assert await read(backend, old[0]) == ([b"2", b"3", b"4"], True)
        assert await read(backend, BEGINNING) == ([b"1", b"2", b"3", b"4"], True)
        # A reader that had gone further than the record when it began again: told.
        assert await read(backend, Position(old[0].epoch, 4)) == ([b"4"], False)
        await restarted(server, backend)
        (fifth,) = await backend.publish([Message("news", b"5")])
        assert await read(backend, fourth) == ([b"5"], True)
        assert await read(backend, old[2]) == ([b"4", b"5"], True)
        assert await read(backend, Position(old[0].epoch, 4)) == ([b"4", b"5"], False)
        assert await read(backend, fifth) == ([], True)


async def test_eight_epochs_are_remembered(redis_space: RedisSpace) -> None:
    async with RedisChannelsStreamBackend(
        redis_space.url, key_prefix=redis_space.key_prefix
    ) as backend:
        positions = [*await backend.publish([Message("news", b"0")])]
        for number in range(1, 10):
            meta = redis_space.command("GET", backend._keys.meta("news"))
            _, epoch, offset, life, lineage = meta.split(b" ", 4)
            another = b" ".join((b"1", epoch, offset, life[::-1], lineage))
            redis_space.command("SET", backend._keys.meta("news"), another)
            positions += await backend.publish([Message("news", b"%d" % number)])
        events = [b"%d" % number for number in range(10)]
        assert len({position.epoch for position in positions}) == 10
        for number in range(1, 10):
            assert await read(backend, positions[number]) == (events[number + 1 :], True)
        # Nobody knows any more how far that one went.
        assert await read(backend, positions[0]) == (events, False)


async def test_record_without_its_meta_begins_afresh(redis_space: RedisSpace) -> None:
    async with RedisChannelsStreamBackend(
        redis_space.url, key_prefix=redis_space.key_prefix
    ) as backend:
        (before,) = await backend.publish([Message("news", b"old")])
        redis_space.command("DEL", backend._keys.meta("news"))
        (after,) = await backend.publish([Message("news", b"new")])
        assert after.offset == 1
        assert after.epoch != before.epoch
        assert await read(backend, None) == ([b"new"], True)
        assert await read(backend, before) == ([b"new"], False)


async def test_unknown_versions_are_not_guessed_at(
    redis_space: RedisSpace, caplog: pytest.LogCaptureFixture
) -> None:
    async with (
        RedisChannelsStreamBackend(redis_space.url, key_prefix=redis_space.key_prefix) as backend,
        backend.listen() as listener,
    ):
        await listener.subscribe(["news", "other"])
        topic = backend._keys.doorbell("news")
        broken = (b"\x01without an end", b"\x01no position\n", b"\x01e-x\n", b"\x01\xff-1\n")
        for frame in (b"\x02future", b"", *broken):
            redis_space.command("PUBLISH", topic, frame)
        await backend.publish([Message("news", b"1")])
        assert await anext(aiter(listener)) == [b"1"]
        assert backend.unknown_frames == 6
        assert caplog.text.count("unknown version") == 1
        redis_space.command("SET", backend._keys.meta("other"), "2 future")
        (outcome,) = await backend.publish([Message("other", b"")])
        assert isinstance(outcome, BackendException)
        with pytest.raises(BackendException, match="unknown version"):
            await backend.get_history([HistoryRequest("other")])


async def test_key_of_another_type_fails_alone(redis_space: RedisSpace) -> None:
    async with RedisChannelsStreamBackend(
        redis_space.url, key_prefix=redis_space.key_prefix
    ) as backend:
        redis_space.command("LPUSH", backend._keys.meta("bad"), "x")
        good, bad, also = await backend.publish([Message(c, b"") for c in ("a", "bad", "b")])
        assert type(bad) is BackendException
        assert good.offset == also.offset == 1
