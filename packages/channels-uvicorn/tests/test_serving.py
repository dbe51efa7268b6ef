"""Shared frames from a real uvicorn, read by a client that parses them by hand."""

import asyncio
import gc
import logging
import os
import random
import socket
import ssl
import struct
import weakref
import zlib
from collections import defaultdict
from dataclasses import dataclass
from typing import Any

import pytest
import websockets

from channels.core import ChannelsPlugin, MemoryChannelsBackend
from channels.uvicorn import FrameConnection, Frames, SansIOProtocol, _connection, _protocol
from channels.uvicorn._frames import UNCOMPRESSED
from channels.uvicorn._group import Group
from kit._tls import authority, server_certificate

encode, join = FrameConnection.encode, FrameConnection.join
SIZES = (0, 1, 125, 126, 65535, 65536, 300_000)


class Source:
    """Turns events into text messages."""

    def __init__(self) -> None:
        self.given: object = None
        self.frames = Frames()

    def translate(self, events: Any) -> Frames:
        self.given = events
        self.frames = join([encode(event.decode()) for event in events])
        return self.frames


def test_messages_of_any_size_arrive_between_ordinary_ones(kit: Any) -> None:
    @kit.shared
    async def app(connection: Any, receive: Any, send: Any) -> None:
        for size in SIZES:
            while not connection.write(encode("x" * size)):
                await asyncio.sleep(0.001)
            await send({"type": "websocket.send", "text": f"sent {size}"})
            connection.write(join([encode(b"\x00" * size), encode("joined")]))
            await send({"type": "websocket.send", "bytes": b"sent"})
        await kit.left(receive)

    async def scenario() -> None:
        async with kit.serving(app, kit.ws) as server:
            client = await server.connect()
            for size in SIZES:
                frames = [await client.read() for _ in range(5)]
                assert [(frame.opcode, frame.payload) for frame in frames] == [
                    (1, b"x" * size),
                    (1, b"sent %d" % size),
                    (2, b"\x00" * size),
                    (1, b"joined"),
                    (2, b"sent"),
                ]

    kit.run(scenario())


def test_it_takes_from_accept_to_close(kit: Any) -> None:
    seen: list[object] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        connection = scope["extensions"]["channels.websocket.frames"]["connection"]
        await receive()
        seen.append(connection.write(encode("early")))
        connection.on_ready = lambda: seen.append(connection.write(encode("at accept")))
        await send({"type": "websocket.accept"})
        seen.append(connection.write(encode("held")))
        await send({"type": "websocket.close", "code": 4001, "reason": "enough"})
        seen.append(connection.write(encode("late")))
        seen.append((await kit.left(receive))["code"])

    async def scenario() -> None:
        async with kit.serving(app, kit.ws) as server:
            client = await server.connect()
            frames = [await client.read() for _ in range(3)]
            client.send(8, b"\x0f\xa1")
            assert await client.rest() == []
            payloads = [(frame.opcode, frame.payload) for frame in frames]
            assert payloads == [(1, b"at accept"), (1, b"held"), (8, b"\x0f\xa1enough")]
            await kit.until(lambda: len(seen) == 5)
            assert seen == [False, True, True, False, 4001]

    kit.run(scenario())


@pytest.mark.parametrize("accepts", [True, False], ids=["closed", "refused"])
def test_a_closed_connection_takes_nothing(kit: Any, accepts: bool) -> None:
    taken: list[bool] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        connection = scope["extensions"]["channels.websocket.frames"]["connection"]
        await receive()
        if accepts:
            await send({"type": "websocket.accept"})
            await kit.left(receive)
        else:
            await send({"type": "websocket.close"})
        taken.append(connection.write(encode("late")))

    async def scenario() -> None:
        async with kit.serving(app, kit.ws) as server:
            client = await server.connect()
            client.send(8, b"\x03\xe8")
            await client.rest()
            await kit.until(lambda: taken)
            assert taken == [False]

    kit.run(scenario())


def test_a_close_by_the_client_ends_a_storm_with_the_echo(kit: Any) -> None:
    @kit.shared
    async def app(connection: Any, receive: Any, send: Any) -> None:
        leaving = asyncio.ensure_future(kit.left(receive))
        number = 0
        while not leaving.done():
            for _ in range(3):
                number += connection.write(encode(str(number)))
            await asyncio.sleep(0)

    async def scenario() -> None:
        async with kit.serving(app, kit.ws) as server:
            client = await server.connect()
            await client.texts(100)
            client.send(9, b"are you there")
            client.send(8, b"\x03\xe8bye")
            frames = await client.rest()
            assert (frames[-1].opcode, frames[-1].payload) == (8, b"\x03\xe8bye")
            others = [frame for frame in frames if frame.opcode != 1]
            assert [frame.opcode for frame in others] == [10, 8]
            numbers = [int(frame.payload) for frame in frames if frame.opcode == 1]
            assert numbers == list(range(100, 100 + len(numbers)))

    kit.run(scenario())


def test_shutdown_sends_what_is_held_and_then_closes(kit: Any) -> None:
    @kit.shared
    async def app(connection: Any, receive: Any, send: Any) -> None:
        await receive()
        connection.write(encode("first"))
        connection.write(encode("second"))
        protocol_shutdown()
        assert not connection.write(encode("late"))

    def protocol_shutdown() -> None:
        (protocol,) = (each for each in state.connections if isinstance(each, kit.ws))
        protocol.shutdown()

    async def scenario() -> None:
        nonlocal state
        async with kit.serving(app, kit.ws) as server:
            state = server.state
            client = await server.connect()
            client.send(1, b"go")
            frames = await client.rest()
            assert [frame.payload for frame in frames] == [b"first", b"second", b"\x03\xf4"]

    state: Any = None
    kit.run(scenario())


def test_a_slow_client_is_refused_and_then_goes_on(kit: Any) -> None:
    counts: list[int] = []

    @kit.shared
    async def app(connection: Any, receive: Any, send: Any) -> None:
        connection.set_limit(10_000)
        ready = asyncio.Event()
        connection.on_ready = ready.set
        message = encode(b"x" * 20_000)
        taken = 0
        while connection.write(message):
            taken += 1
            await asyncio.sleep(0)
        counts.append(taken)
        assert 10_000 < connection.buffered <= 30_008
        await ready.wait()
        assert connection.buffered <= 2_500
        assert connection.write(encode("again"))
        await kit.left(receive)

    async def scenario() -> None:
        async with kit.serving(app, kit.ws) as server:
            client = await server.connect(limit=1000)
            await kit.until(lambda: counts)
            for _ in range(counts[0]):
                assert len((await client.read()).payload) == 20_000
            assert (await client.read()).payload == b"again"

    kit.run(scenario())


def test_abort_cuts_one_that_reads_nothing(kit: Any) -> None:
    ended: list[Any] = []

    @kit.shared
    async def app(connection: Any, receive: Any, send: Any) -> None:
        while connection.write(encode(b"x" * 50_000)):
            await asyncio.sleep(0)
        connection.abort()
        ended.append((await kit.left(receive))["code"])
        ended.append(connection.write(encode("late")))

    async def scenario() -> None:
        async with kit.serving(app, kit.ws) as server:
            await server.connect(limit=1000)
            await kit.until(lambda: len(ended) == 2)
            assert ended[0] in (1005, 1006)
            assert ended[1] is False

    kit.run(scenario())


OFFERS = {
    "none": (None, UNCOMPRESSED),
    "unknown": ("x-webkit-deflate-frame", UNCOMPRESSED),
    "plain": ("permessage-deflate", None),
    "browser": ("permessage-deflate; client_max_window_bits", None),
    "own contexts": ("permessage-deflate; client_no_context_takeover", None),
    "no server context": ("permessage-deflate; server_no_context_takeover", None),
    "small window": ("permessage-deflate; server_max_window_bits=10", 10),
    "two offers": ("permessage-deflate; server_max_window_bits=9, permessage-deflate", 9),
}


@pytest.mark.parametrize(("offer", "bits"), OFFERS.values(), ids=OFFERS)
def test_compression_is_shared_where_it_was_negotiated(
    kit: Any, offer: str | None, bits: int | None
) -> None:
    texts = [f"the quick brown fox number {number} " * 30 for number in range(4)]

    @kit.shared
    async def app(connection: Any, receive: Any, send: Any) -> None:
        for text in texts:
            connection.write(encode(text))
            await send({"type": "websocket.send", "text": text})
            connection.write(join([encode("short"), encode(text)]))
        await kit.left(receive)

    async def scenario() -> None:
        async with kit.serving(app, kit.ws) as server:
            client = await server.connect(offer)
            negotiated = b"permessage-deflate" in client.response
            assert negotiated == (bits != UNCOMPRESSED)
            if negotiated:
                assert b"server_no_context_takeover" in client.response
                assert client.response.count(b"permessage-deflate") == 1
            window = bits or (12 if kit.ws is SansIOProtocol and negotiated else 15)
            # One decoder for all, as a client may have that keeps its context.
            decoder = zlib.decompressobj(-window)
            for text in texts:
                for expected in (text, text, "short", text):
                    frame = await client.read()
                    assert frame.compressed == (negotiated and expected != "short")
                    payload = frame.payload
                    if frame.compressed:
                        assert len(payload) < 100
                        payload = decoder.decompress(payload + b"\0\0\xff\xff")
                    assert payload.decode() == expected

    kit.run(scenario())


def test_a_window_too_small_for_zlib_shares_what_is_not_compressed(kit: Any) -> None:
    @kit.shared
    async def app(connection: Any, receive: Any, send: Any) -> None:
        connection.write(encode("x" * 1000))
        await kit.left(receive)

    async def scenario() -> None:
        async with kit.serving(app, kit.ws) as server:
            client = await server.connect("permessage-deflate; server_max_window_bits=8")
            assert await client.texts(1) == ["x" * 1000]

    kit.run(scenario())


def test_uvicorn_can_be_told_not_to_compress(kit: Any) -> None:
    @kit.shared
    async def app(connection: Any, receive: Any, send: Any) -> None:
        connection.write(encode("x" * 1000))
        await kit.left(receive)

    async def scenario() -> None:
        async with kit.serving(app, kit.ws, ws_per_message_deflate=False) as server:
            client = await server.connect("permessage-deflate")
            assert b"deflate" not in client.response
            assert await client.texts(1) == ["x" * 1000]

    kit.run(scenario())


def test_it_works_over_tls(kit: Any) -> None:
    certificate = server_certificate()
    trust = ssl.create_default_context(cafile=str(authority().certificate.file))

    @kit.shared
    async def app(connection: Any, receive: Any, send: Any) -> None:
        assert connection.shared_writer is None, "the socket itself takes no plain text"
        ready = asyncio.Event()
        connection.on_ready = ready.set
        for number in range(2000):
            ready.clear()
            while not connection.write(encode(f"{number} ".ljust(1000, "x"))):
                await ready.wait()
        await send({"type": "websocket.close", "code": 1000})
        await kit.left(receive)

    async def scenario() -> None:
        files = {"ssl_certfile": str(certificate.file), "ssl_keyfile": str(certificate.key)}
        async with kit.serving(app, kit.ws, **files) as server:
            client = await server.connect(tls=trust)
            texts = await client.texts(2000)
            assert [int(text.split()[0]) for text in texts] == list(range(2000))
            assert (await client.read()).opcode == 8

    kit.run(scenario())


def test_an_application_that_fails_closes_after_what_was_written(kit: Any) -> None:
    @kit.shared
    async def app(connection: Any, receive: Any, send: Any) -> None:
        connection.write(encode("one"))
        connection.write(encode("two"))
        raise ValueError("a mistake")

    async def scenario() -> None:
        async with kit.serving(app, kit.ws) as server:
            client = await server.connect()
            assert [frame.payload for frame in await client.rest()] == [b"one", b"two"]

    kit.run(scenario())


@pytest.mark.extended
def test_clients_that_read_in_fits_get_all_in_order(
    kit: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They leave their group and come back all the time, with other messages between."""
    total, others = 400, 40
    dice = random.Random(7)
    stinted = 0

    def stint(descriptor: int, wire: bytes) -> int:
        nonlocal stinted
        if dice.random() < 0.8:
            return os.write(descriptor, wire)
        stinted += 1
        if dice.random() < 0.5:
            raise BlockingIOError
        return os.write(descriptor, wire[: dice.randrange(1, len(wire))])

    monkeypatch.setattr(Group, "write", staticmethod(stint))
    monkeypatch.setattr(_connection, "AWAY", 2)
    source = Source()
    joined = 0

    async def scenario() -> None:
        async with ChannelsPlugin(MemoryChannelsBackend(), channels=["a"]) as plugin:

            @kit.shared
            async def app(connection: Any, receive: Any, send: Any) -> None:
                nonlocal joined
                async with plugin.start_subscription(["a"]) as subscriber:
                    connection.set_limit(20_000)
                    sock = connection._transport.get_extra_info("socket")
                    sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 2**14)
                    connection.on_ready, connection.on_refuse = subscriber.ready, subscriber.busy
                    connection.on_regroup = subscriber.regroup
                    subscriber.attach(connection.sink(source))
                    joined += 1
                    for number in range(others):
                        await send({"type": "websocket.send", "text": f"other {number}"})
                        await asyncio.sleep(dice.choice((0, 0.001, 0.003)))
                    await kit.left(receive)

            async with kit.serving(app, kit.ws) as server:
                clients = [await server.connect(limit=1000, buffer=2**14) for _ in range(12)]
                await kit.until(lambda: joined == len(clients))

                async def read(client: Any) -> None:
                    counts = {"event": 0, "other": 0}
                    while counts != {"event": total, "other": others}:
                        if dice.random() < 0.1:
                            await asyncio.sleep(dice.choice((0, 0.001, 0.005)))
                        (text,) = await client.texts(1)
                        kind, number = text.split()[:2]
                        assert int(number) == counts[kind]
                        counts[kind] += 1

                async with asyncio.TaskGroup() as group:
                    for client in clients:
                        group.create_task(read(client))
                    for number in range(total):
                        text = f"event {number} ".ljust(dice.choice((20, 200, 4000)), "x")
                        plugin.publish(text, "a")
                        if dice.random() < 0.9:
                            await asyncio.sleep(dice.choice((0, 0, 0.001)))

    kit.run(scenario())
    assert stinted > 20


@dataclass
class Overseen:
    """What was seen of those who are written to past their transports.

    Attributes:
        made: Who had a descriptor, one after the other, and what it was of.
        written: How often something was written.
        wrong: What was written to none of those who may be.
    """

    made: dict[int, list[tuple[weakref.ref[FrameConnection], int]]]
    written: int = 0
    wrong: int = 0

    def write(self, descriptor: int, wire: bytes) -> int:
        ref, inode = self.made[descriptor][-1]
        connection = ref()
        self.written += 1
        self.wrong += (
            connection is None
            or connection.shared_writer != descriptor
            or connection.shared_group is None
            or connection.buffered > 0
            or os.fstat(descriptor).st_ino != inode
        )
        return os.write(descriptor, wire)


@pytest.fixture
def overseen(monkeypatch: pytest.MonkeyPatch) -> Overseen:
    seen = Overseen(defaultdict(list))

    class Connection(FrameConnection):
        __slots__ = ()

        def __init__(self, transport: Any, loop: Any) -> None:
            super().__init__(transport, loop)
            descriptor = self.shared_writer
            assert descriptor is not None
            inode = os.fstat(descriptor).st_ino
            seen.made[descriptor].append((weakref.ref(self), inode))

    monkeypatch.setattr(_protocol, "FrameConnection", Connection)
    monkeypatch.setattr(Group, "write", staticmethod(seen.write))
    return seen


@pytest.mark.untraced
def test_who_gets_the_descriptor_of_one_that_died_gets_nothing_of_it(
    kit: Any, overseen: Overseen
) -> None:
    dice = random.Random(7)
    source = Source()

    async def scenario() -> None:
        async with ChannelsPlugin(MemoryChannelsBackend(), channels=["a"]) as plugin:

            @kit.shared
            async def app(connection: Any, receive: Any, send: Any) -> None:
                async with plugin.start_subscription(["a"]) as subscriber:
                    connection.on_ready, connection.on_refuse = subscriber.ready, subscriber.busy
                    connection.on_regroup = subscriber.regroup
                    subscriber.attach(connection.sink(source))
                    await kit.left(receive)

            async with kit.serving(app, kit.ws) as server:

                async def live() -> None:
                    for _ in range(10):
                        client = await server.connect()
                        assert client.response.startswith(b"HTTP/1.1 101 ")
                        texts = await client.texts(dice.randrange(1, 6))
                        numbers = [int(text) for text in texts]
                        assert numbers == list(range(numbers[0], numbers[0] + len(numbers)))
                        reset = struct.pack("ii", 1, 0)
                        sock = client.writer.get_extra_info("socket")
                        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, reset)
                        client.close()

                living = asyncio.gather(*(live() for _ in range(20)))
                number = 0
                while not living.done():
                    plugin.publish(str(number), "a")
                    number += 1
                    await asyncio.sleep(0)
                await living

    kit.run(scenario())
    assert overseen.written > 500
    assert any(len(each) > 1 for each in overseen.made.values()), "no descriptor was used again"
    assert overseen.wrong == 0


@pytest.mark.untraced
def test_a_storm_reaches_everybody_in_order(kit: Any, overseen: Overseen) -> None:
    """Numbered events at speed to quick, slow, leaving and dying clients of two channels."""
    total = 1000
    backlogs: list[int] = []
    source = Source()
    connections: list[weakref.ref[Any]] = []
    subscribers: list[Any] = []

    async def scenario() -> None:
        backend = MemoryChannelsBackend()
        async with ChannelsPlugin(backend, channels=["a", "b"]) as plugin:

            @kit.shared
            async def app(connection: Any, receive: Any, send: Any) -> None:
                async with plugin.start_subscription(["a", "b"]) as subscriber:
                    connection.on_ready = subscriber.ready
                    if len(connections) % 4:  # the others are served alone
                        connection.on_refuse = subscriber.busy
                        connection.on_regroup = subscriber.regroup
                    subscriber.attach(connection.sink(source))
                    connections.append(weakref.ref(connection))
                    subscribers.append(subscriber)
                    if len(connections) > 30:
                        sock = connection._transport.get_extra_info("socket")
                        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 2**16)
                    while (message := await receive())["type"] != "websocket.disconnect":
                        await send({"type": "websocket.send", "text": message["text"]})

            async with kit.serving(app, kit.ws) as server:
                url = f"ws://127.0.0.1:{server.port}/"
                quick = [
                    await websockets.connect(url, compression=kind, max_queue=10_000)
                    for kind in ("deflate", None) * 5
                ]
                leaving = [await websockets.connect(url, max_queue=10_000) for _ in range(10)]
                dying = [await server.connect() for _ in range(10)]
                slow = [await server.connect(limit=1000, buffer=2**16) for _ in range(3)]
                await kit.until(lambda: len(connections) == 33)

                async def publish() -> None:
                    for number in range(total):
                        plugin.publish(f"a {number} ".ljust(1000, "x"), "a")
                        plugin.publish(f"b {number} ".ljust(1000, "y"), "b")
                        if number % 50 == 0:
                            await asyncio.sleep(0.001)

                async def read(client: Any, chatter: bool) -> None:
                    if chatter:
                        await client.send("hello")
                    await check(client.recv, chatter)

                async def check(recv: Any, chatter: bool) -> None:
                    counts = {"a": 0, "b": 0}
                    echoes = 0
                    while sum(counts.values()) < 2 * total or echoes < chatter:
                        text = await recv()
                        if text == "hello":
                            echoes += 1
                            continue
                        if text == "end":
                            continue
                        channel, number = text.split()[:2]
                        assert int(number) == counts[channel]
                        counts[channel] += 1

                async def leave(client: Any, after: int) -> None:
                    for _ in range(after):
                        await client.recv()
                    await client.close(4000)

                async def die(client: Any, after: int) -> None:
                    await client.texts(after)
                    client.close()

                published = asyncio.Event()

                async def lag(client: Any) -> None:
                    await published.wait()

                    async def recv() -> str:
                        return str((await client.texts(1))[0])

                    await check(recv, chatter=False)

                async with asyncio.TaskGroup() as group:
                    for index, client in enumerate(quick):
                        group.create_task(read(client, chatter=index % 2 == 0))
                    for index, client in enumerate(leaving):
                        group.create_task(leave(client, 10 * index))
                    for index, client in enumerate(dying):
                        group.create_task(die(client, 10 * index))
                    for client in slow:
                        group.create_task(lag(client))
                    await publish()
                    await plugin.wait_published("end", "a")
                    backlogs.extend(subscriber.qsize for subscriber in subscribers[30:])
                    published.set()
                for client in quick:
                    await client.close()
        assert overseen.wrong == 0
        assert all(backlogs), "the slow must have been refused, or nothing was shown"
        subscribers.clear()
        gc.collect()
        assert [ref for ref in connections if ref() is not None] == []

    kit.run(scenario())


def test_a_connection_is_freed_without_the_collector(kit: Any) -> None:
    protocols: list[weakref.ref[Any]] = []
    seen: list[weakref.ref[Any]] = []

    @kit.shared
    async def app(connection: Any, receive: Any, send: Any) -> None:
        seen.append(weakref.ref(connection))
        connection.write(encode("hello"))
        await kit.left(receive)

    async def scenario() -> None:
        async with kit.serving(app, kit.ws) as server:
            client = await server.connect()
            await client.read()
            protocols.extend(map(weakref.ref, server.state.connections))
            gc.collect()
            gc.disable()
            try:
                client.close()
                await kit.until(lambda: not any(ref() for ref in seen))
            finally:
                gc.enable()

    kit.run(scenario())
    assert protocols
    assert seen


def test_a_release_that_is_built_otherwise_gets_no_offer(
    kit: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    offered: list[bool] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        offered.append("channels.websocket.frames" in scope["extensions"])
        await receive()
        await send({"type": "websocket.accept"})
        await send({"type": "websocket.send", "text": "as ever"})
        await kit.left(receive)

    (base,) = (each for each in kit.ws.__bases__ if each.__module__.startswith("uvicorn"))
    original = base.connection_made

    def connection_made(self: Any, transport: Any) -> None:
        original(self, transport)
        self.transport = transport._transport

    monkeypatch.setattr(base, "connection_made", connection_made)

    async def scenario() -> None:
        async with kit.serving(app, kit.ws) as server:
            for _ in range(2):
                assert await (await server.connect()).texts(1) == ["as ever"]

    from channels.uvicorn._protocol import _note_change

    _note_change.cache_clear()
    with caplog.at_level(logging.WARNING, "channels"):
        kit.run(scenario())
    assert offered == [False, False]
    assert [record.message for record in caplog.records if record.name == "channels"] == [
        "this release of uvicorn is not known to channels.uvicorn: frames are not shared"
    ]
