"""The parser and the connections, against what a server may send."""

import asyncio

import hiredis
import pytest
from hypothesis import given
from hypothesis import strategies as st

from channels.core import BackendUnavailable, Message
from channels.redis import RedisChannelsPubSubBackend
from channels.redis._cluster import Cluster
from channels.redis._resp import NOT_ENOUGH, ProtocolError, PythonParser, ReplyError, command
from channels.redis._servers import OneServer, Timing
from channels.redis._settings import from_url
from channels.redis._shared import SharedCall
from channels.redis._wire import PING, NotSent, Pipeline
from kit import RedisServer, eventually
from kit.fixtures import RedisSpace

leaves = st.one_of(
    st.none(), st.integers(-(2**63), 2**63 - 1), st.binary(max_size=30), st.just(ReplyError("E x"))
)
replies = st.recursive(leaves, lambda inner: st.lists(inner, max_size=4), max_leaves=10)


def encode(reply: object) -> bytes:
    match reply:
        case None:
            return b"$-1\r\n"
        case int():
            return b":%d\r\n" % reply
        case bytes():
            return b"$%d\r\n%b\r\n" % (len(reply), reply)
        case ReplyError():
            return b"-%b\r\n" % str(reply).encode()
        case list():
            return b"*%d\r\n%b" % (len(reply), b"".join(map(encode, reply)))
    raise AssertionError(reply)


@given(st.lists(replies, max_size=5), st.integers(1, 40))
def test_python_parser_reads_whatever_the_pieces(sent: list[object], piece: int) -> None:
    data = b"".join(map(encode, sent))
    parser, reference = (
        PythonParser(),
        hiredis.Reader(replyError=ReplyError, notEnoughData=NOT_ENOUGH),
    )
    got: dict[object, list[object]] = {parser: [], reference: []}
    for start in range(0, len(data), piece):
        for each, found in got.items():
            each.feed(data[start : start + piece])
            while (reply := each.gets()) is not NOT_ENOUGH:
                found.append(reply)
    assert repr(got[parser]) == repr(got[reference]) == repr(sent)


@pytest.mark.parametrize("value", [b"\r\n", b"\r\r\n\n", b"a\r\n\r\nb\r", b"\n$1\r\nx"])
def test_python_parser_keeps_line_ends_wherever_it_is_cut(value: bytes) -> None:
    data = encode([value, 1, [value]])
    for cut in range(len(data) + 1):
        parser, got = PythonParser(), []
        for piece in (data[:cut], data[cut:]):
            parser.feed(piece)
            while (reply := parser.gets()) is not NOT_ENOUGH:
                got.append(reply)
        assert got == [[value, 1, [value]]]


@pytest.mark.parametrize(
    "nonsense",
    [
        b"HTTP/1.1 400\r\n",
        b"$x\r\n",
        b"*1\r\n:x\r\n",
        b"\r\n",
        b"$1\r\nab\r\n",
        b"$2\r\na\r\nb\r\n",
    ],
)
def test_python_parser_refuses_nonsense(nonsense: bytes) -> None:
    parser = PythonParser()
    parser.feed(nonsense)
    with pytest.raises(ProtocolError):
        parser.gets()


async def pipeline(space: RedisSpace) -> Pipeline:
    backend = RedisChannelsPubSubBackend(space.url)
    return await OneServer(backend._deployment, backend._timing, run_id=False).connect("", Pipeline)


async def test_concurrent_calls_get_their_own_answers(redis_space: RedisSpace) -> None:
    wire = await pipeline(redis_space)
    calls = [wire.run([command("ECHO", f"{i}-{j}") for j in range(i % 5)], 5.0) for i in range(200)]
    for i, answers in enumerate(await asyncio.gather(*calls)):
        assert answers == [f"{i}-{j}".encode() for j in range(i % 5)]
    await wire.close()


async def test_cancelled_call_does_not_shift_the_answers(redis_space: RedisSpace) -> None:
    wire = await pipeline(redis_space)
    cancelled = asyncio.create_task(wire.run([command("ECHO", "no")], 5.0))
    await asyncio.sleep(0)
    cancelled.cancel()
    assert await wire.run([command("ECHO", "yes")], 5.0) == [b"yes"]
    await wire.close()


async def test_batch_larger_than_every_buffer(redis_space: RedisSpace) -> None:
    wire = await pipeline(redis_space)
    blob = b"x" * 300_000
    answers = await wire.run([command("ECHO", blob)] * 100, 10.0)
    assert answers == [blob] * 100
    await wire.close()


async def test_frozen_server_takes_no_more_and_says_what_was_not_sent(
    private_redis: RedisServer,
) -> None:
    async with RedisChannelsPubSubBackend(private_redis.url, timeout=0.5) as backend:
        await backend.publish([Message("news", b"")])
        private_redis.freeze()
        outcomes = await backend.publish([Message("news", b"x" * 1_000_000)] * 40)
        kinds = [type(outcome).__name__ for outcome in outcomes]
        private_redis.thaw()
    unconfirmed = kinds.count("PublishUnconfirmed")
    assert 0 < unconfirmed < 40
    assert kinds == ["PublishUnconfirmed"] * unconfirmed + ["BackendUnavailable"] * (
        40 - unconfirmed
    )


async def test_idle_connection_is_tried_before_it_is_trusted(private_redis: RedisServer) -> None:
    """One that died unnoticed must not put an event in doubt."""
    from channels.core.testing import TcpProxy

    async with (
        TcpProxy("127.0.0.1", private_redis.port) as proxy,
        RedisChannelsPubSubBackend(private_redis.url_for(proxy.port), heartbeat=0.2) as backend,
    ):
        await backend.publish([Message("news", b"")])
        node = backend._servers._node
        await eventually(lambda: node._pipeline.since_look() > 0.2, "a quiet connection")
        proxy.swallow_replies()
        publishing = asyncio.create_task(backend.publish([Message("news", b"")]))
        await eventually(lambda: proxy.bytes_swallowed > 0, "the ping's answer is lost")
        proxy.resume()
        assert await publishing == [None]


async def test_answer_to_nothing_ends_the_connection(redis_space: RedisSpace) -> None:
    wire = await pipeline(redis_space)
    wire.data_received(b"+OK\r\n")
    assert wire.reason is not None
    assert "not asked" in wire.reason
    assert [str(each) for each in await wire.run([PING], 1.0)] == [wire.reason]


async def test_shared_call_outlives_a_cancelled_waiter() -> None:
    started, gate = 0, asyncio.Event()

    async def work() -> int:
        nonlocal started
        started += 1
        await gate.wait()
        return started

    call = SharedCall(work)
    waiters = [asyncio.create_task(call()) for _ in range(3)]
    await asyncio.sleep(0)
    waiters[0].cancel()
    await asyncio.sleep(0)
    gate.set()
    assert await asyncio.gather(*waiters[1:]) == [1, 1]
    assert await call() == 2
    assert waiters[0].cancelled()


async def test_a_shared_call_begins_no_more_once_closed() -> None:
    async def work() -> None:
        raise AssertionError("begun")

    call = SharedCall(work)
    await call.close()
    with pytest.raises(BackendUnavailable):
        await call()


async def test_a_backend_connects_no_more_once_closed(redis_server: RedisServer) -> None:
    """A call under way would else open a connection again that nobody closes."""
    servers = OneServer(
        from_url(
            redis_server.url,
            cluster=False,
            sentinel=None,
            sentinel_username=None,
            sentinel_password=None,
        ),
        Timing(5, 5, 5),
        run_id=False,
    )
    [pipeline] = await servers.pipelines()
    pipeline.since_look = lambda: 6.0  # type: ignore[method-assign]
    redis_server.freeze()
    try:
        running = asyncio.create_task(servers.run([b""], lambda server, places: [PING]))
        await eventually(lambda: pipeline._batches, "that it looks whether the server lives")
        await servers.close()
    finally:
        redis_server.thaw()
    with pytest.raises(BackendUnavailable):
        await running


async def test_a_master_that_left_the_cluster_meanwhile_is_unavailable() -> None:
    deployment = from_url(
        "redis://127.0.0.1:1",
        cluster=True,
        sentinel=None,
        sentinel_username=None,
        sentinel_password=None,
    )
    cluster = Cluster(deployment, Timing(5, 5, 5), run_id=False)
    cluster._slots = dict.fromkeys(range(16384), "127.0.0.1:2")
    [answer] = await cluster.run([b"news"], lambda server, places: [PING])
    assert isinstance(answer, NotSent)
    assert not cluster._slots
    with pytest.raises(BackendUnavailable):
        await cluster.connect("127.0.0.1:2", Pipeline)
