"""One connection over a transport that writes down what it is told."""

import asyncio
import gc
import socket
import struct
import weakref
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import ExitStack
from typing import Any, cast

import pytest

from channels.uvicorn import FrameConnection, Frames
from channels.uvicorn._connection import AWAY
from channels.uvicorn._group import Group
from channels.uvicorn._transport import OrderedTransport

encode = FrameConnection.encode


class Recorder(asyncio.Transport):
    """A transport that never sends anything."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[Any] = []
        self.fails = False

    def write(self, data: Any) -> None:
        if self.fails:
            raise OSError("broken")
        self.calls.append(bytes(data))

    def close(self) -> None:
        self.calls.append("close")

    def abort(self) -> None:
        self.calls.append("abort")

    def get_write_buffer_size(self) -> int:
        return 0

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        self.calls.append(high)


class Numbers:
    """A source that makes a message of a number; of a negative one it makes none."""

    def __init__(self) -> None:
        self.given: object = None
        self.frames = Frames()
        self.translated = 0

    def translate(self, given: list[int]) -> Frames | None:
        self.translated += 1
        if given[0] < 0:
            return None
        self.given = given
        self.frames = FrameConnection.join([encode(str(number)) for number in given])
        return self.frames


def opened() -> tuple[FrameConnection, Recorder]:
    transport = Recorder()
    connection = FrameConnection(transport, asyncio.get_running_loop())
    connection.open(0)
    transport.calls.clear()
    return connection, transport


class Linked(asyncio.Protocol):
    """A connection over a real socket that holds little, and what it tells whoever serves it."""

    def __init__(self) -> None:
        self.told: list[str] = []
        self.read = bytearray()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        raw = cast("asyncio.Transport", transport)
        self.connection = FrameConnection(raw, asyncio.get_running_loop())
        self.ordered = OrderedTransport(raw, self.connection)
        self.connection.open(0)
        self.connection.on_ready = lambda: self.told.append("ready")
        self.connection.on_refuse = lambda: self.told.append("refuses")
        self.connection.on_regroup = lambda: self.told.append("other group")

    def pause_writing(self) -> None:
        self.connection.pause()

    def resume_writing(self) -> None:
        self.connection.resume()

    def connection_lost(self, exc: Exception | None) -> None:
        self.connection.lose()

    def link(self, peer: socket.socket) -> None:
        peer.setblocking(False)
        self.peer = peer

    @property
    def group(self) -> Group:
        group = self.connection.shared_group
        assert group is not None
        return group

    def write(self, wire: bytes) -> int:
        """Write what was prepared for the group."""
        return self.group.write(cast("int", self.connection.shared_writer), wire)

    def fill(self, wire: bytes) -> tuple[int, int]:
        """Write until nothing is taken; return how often it was, and how much of the last one."""
        times = written = 0
        while True:
            try:
                written += self.write(wire[written:])
            except BlockingIOError:
                return times, written
            if written == len(wire):
                times, written = times + 1, 0

    async def receive(self, size: int) -> bytes:
        """Read so many bytes in all at the other end."""
        loop = asyncio.get_running_loop()
        async with asyncio.timeout(5):
            while len(self.read) < size:
                self.read += await loop.sock_recv(self.peer, 1 << 16)
        return bytes(self.read)


@pytest.fixture
async def linked() -> AsyncIterator[Callable[[int], Awaitable[list[Linked]]]]:
    """Return what opens so many connections."""
    loop = asyncio.get_running_loop()
    with ExitStack() as stack:

        async def one() -> Linked:
            with socket.create_server(("127.0.0.1", 0)) as server:
                peer = stack.enter_context(socket.socket())
                peer.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1)
                peer.connect(server.getsockname())
                ours, _ = server.accept()
            ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1)
            _, protocol = await loop.connect_accepted_socket(Linked, ours)
            stack.callback(protocol.connection.abort)
            protocol.link(peer)
            return protocol

        async def many(count: int) -> list[Linked]:
            return [await one() for _ in range(count)]

        yield many
    await turn()


async def turn() -> None:
    await asyncio.sleep(0)
    await asyncio.sleep(0)


A, B, C = (encode(letter) for letter in "abc")


async def test_the_first_write_of_a_turn_goes_out_at_once_and_the_rest_as_one() -> None:
    connection, transport = opened()
    assert connection.write(A)
    assert transport.calls == [A[0]]
    assert connection.write(B)
    assert connection.write(C)
    assert transport.calls == [A[0]]
    assert connection.buffered == 6
    await turn()
    assert transport.calls == [A[0], B[0] + C[0]]
    assert connection.buffered == 0
    connection.write(A)
    assert transport.calls[2:] == [A[0]]


async def test_a_turn_is_the_same_for_all_connections_and_each_keeps_its_own() -> None:
    pairs = [opened() for _ in range(3)]
    for message in (A, B, C):
        for connection, _ in pairs:
            connection.write(message)
    await turn()
    assert [transport.calls for _, transport in pairs] == [[A[0], B[0] + C[0]]] * 3


async def test_nothing_overtakes_what_is_held() -> None:
    connection, transport = opened()
    ordered = OrderedTransport(transport, connection)
    connection.write(A)
    connection.write(B)
    ordered.write(b"pong")
    connection.write(C)
    ordered.close()
    assert transport.calls == [A[0], B[0], b"pong", C[0], "close"]
    assert not connection.write(A)
    await turn()
    assert len(transport.calls) == 5


async def test_holding_is_bounded() -> None:
    connection, transport = opened()
    connection.set_limit(1000)
    big = encode(b"x" * 600)
    for _ in range(5):
        assert connection.write(big)
    assert transport.calls == [1000, big[0], big[0] * 2, big[0] * 2]


async def test_one_that_cannot_be_written_to_stops_no_other() -> None:
    pairs = [opened() for _ in range(3)]
    for connection, _ in pairs:
        connection.write(A)
        connection.write(B)
    pairs[0][1].fails = True
    await turn()
    assert [transport.calls for _, transport in pairs[1:]] == [[A[0], B[0]]] * 2


async def test_aborting_drops_what_is_held() -> None:
    connection, transport = opened()
    connection.write(A)
    connection.write(B)
    connection.abort()
    await turn()
    assert transport.calls == [A[0], "abort"]
    assert not connection.write(A)


async def test_it_refuses_while_paused_and_says_when_it_takes_again() -> None:
    connection, transport = opened()
    ready: list[bool] = []
    connection.on_ready = lambda: ready.append(connection.write(B))
    connection.pause()
    assert not connection.write(A)
    assert ready == []
    connection.resume()
    assert ready == [True]
    connection.shut()
    connection.resume()
    assert ready == [True]
    assert transport.calls == [B[0]]


async def test_opened_while_paused_it_waits() -> None:
    transport = Recorder()
    connection = FrameConnection(transport, asyncio.get_running_loop())
    connection.pause()
    connection.open(0)
    assert not connection.write(A)
    connection.resume()
    assert connection.write(A)


async def test_a_source_translates_once_for_all() -> None:
    source = Numbers()
    pairs = [opened() for _ in range(3)]
    sinks = [connection.sink(source) for connection, _ in pairs]
    runs = [[1], [2, 3]]
    for run in runs:
        assert all(sink(run) for sink in sinks)
    assert source.translated == 2
    await turn()
    one, two, three = (encode(str(n))[0] for n in (1, 2, 3))
    assert [transport.calls for _, transport in pairs] == [[one, two + three]] * 3


async def test_what_has_no_frames_goes_elsewhere() -> None:
    source = Numbers()
    connection, transport = opened()
    assert not connection.sink(source)([-1])
    seen: list[Any] = []
    assert connection.sink(source, lambda run: not seen.append(run))([-2])
    assert seen == [[-2]]
    assert transport.calls == []
    connection.pause()
    assert not connection.sink(source)([-1])
    assert source.translated == 2


# -- groups ----------------------------------------------------------------------------------

Linker = Callable[[int], Awaitable[list[Linked]]]


async def test_a_group_is_written_to_past_its_sinks(linked: Linker) -> None:
    source = Numbers()
    members = await linked(3)
    (group,) = {member.connection.sink(source).shared_group for member in members}
    assert group is not None
    wire = group.prepare([1])
    assert wire == encode("1")[0]
    for member in members:
        assert member.write(wire) == len(wire)
        assert await member.receive(len(wire)) == wire
    assert source.translated == 1
    assert group.prepare([-1]) is None


async def test_a_group_overtakes_nothing_and_joins_what_is_more_in_a_turn(linked: Linker) -> None:
    (member,) = await linked(1)
    connection = member.connection
    sink = connection.sink(Numbers())
    group = member.group
    one, two, three, four = (encode(str(n))[0] for n in (1, 2, 3, 4))
    member.write(group.prepare([1]) or b"")
    assert group.prepare([2]) is None, "the second of a turn"
    for number in (2, 3, 4):
        assert sink([number])
    assert connection.buffered == len(three + four)
    await turn()
    assert connection.buffered == 0
    connection.write(A)
    connection.write(B)
    assert group.prepare([5]) is None, "something is held"
    await turn()
    assert group.prepare([6]) == encode("6")[0]
    expected = one + two + three + four + A[0] + B[0]
    assert await member.receive(len(expected)) == expected


async def test_a_group_is_of_those_who_take_the_same_bytes_and_say_when_they_refuse(
    linked: Linker,
) -> None:
    source = Numbers()
    (member, other) = await linked(2)
    connection = member.connection
    connection.on_regroup = None
    assert connection.sink(source).shared_group is None, "it could not say that it leaves"
    connection.on_refuse, connection.on_regroup = None, lambda: None
    assert connection.sink(source).shared_group is None, "it could not say that it refuses"
    refused: list[bool] = []
    connection.on_refuse = lambda: refused.append(connection.write(A))
    group = connection.shared_group
    assert group is not None
    other.connection.shut()
    other.connection.on_refuse = other.connection.on_regroup = lambda: None
    assert other.connection.sink(source).shared_group is None, "it is not open"
    other.connection.open(12)
    assert other.connection.shared_group not in (None, group), "it is sent other bytes"
    connection.pause()
    assert connection.shared_group is None
    assert refused == [False]
    connection.pause()
    connection.resume()
    assert connection.shared_group is group
    refused.clear()
    connection.on_refuse = lambda: refused.append(True)
    connection.sink(Numbers())
    assert connection.shared_group not in (None, group)
    assert refused == [True], "whoever served it as one of the old group no longer may"
    connection.shut()
    connection.lose()
    assert refused == [True, True]
    assert connection.shared_group is None


async def test_a_transport_that_is_not_known_is_not_gone_past() -> None:
    connection, _ = opened()
    connection.on_refuse = connection.on_regroup = lambda: None
    assert connection.sink(Numbers()).shared_group is None
    assert connection.shared_writer is None


async def test_what_the_socket_does_not_take_comes_before_all_else(linked: Linker) -> None:
    (member,) = await linked(1)
    connection = member.connection
    connection.set_limit(1 << 20)
    sink = connection.sink(Numbers())
    wire = encode("x" * 700)[0]
    times, written = member.fill(wire)
    member.told.clear()
    connection.finish(wire, written)
    assert member.told == ["other group"]
    assert connection.shared_group is None, "it would overtake the rest"
    expected = wire * (times + 1)
    for number in range(3):
        assert sink([number])
        expected += encode(str(number))[0]
    assert await member.receive(len(expected)) == expected
    assert connection.shared_group is None, "not at once"
    for number in range(AWAY - 2):  # the first of those three, and the others as one, count
        assert connection.shared_group is None
        expected += encode(str(number))[0]
        assert sink([number])
        await member.receive(len(expected))
    assert member.told == ["other group"] * 2
    expected += wire
    assert member.write(wire) == len(wire)
    assert await member.receive(len(expected)) == expected


async def test_one_that_is_over_its_limit_is_of_a_group_only_long_after(linked: Linker) -> None:
    (member,) = await linked(1)
    connection = member.connection
    connection.set_limit(100)
    sink = connection.sink(Numbers())
    wire = encode("x" * 700)[0]
    times, written = member.fill(wire)
    member.told.clear()
    connection.finish(wire, written)
    assert member.told == ["refuses"]
    assert not sink([1])
    expected = wire * (times + 1)
    await member.receive(len(expected))
    assert member.told == ["refuses", "ready"]
    assert connection.shared_group is None
    for number in range(AWAY):
        await turn()
        expected += encode(str(number))[0]
        assert sink([number])
        await member.receive(len(expected))
    assert connection.shared_group is not None
    assert bytes(member.read) == expected


@pytest.mark.parametrize("lines", [False, True], ids=["write", "writelines"])
async def test_what_the_server_writes_takes_it_out_of_its_group(
    linked: Linker, lines: bool
) -> None:
    (member,) = await linked(1)
    connection = member.connection
    connection.sink(Numbers())
    connection.set_limit(1 << 20)
    sent = 0

    def write(data: bytes) -> None:
        nonlocal sent
        sent += len(data)
        if lines:
            member.ordered.writelines([data])
        else:
            member.ordered.write(data)

    async def write_and_see(data: bytes) -> None:
        write(data)
        await member.receive(sent)

    write(b"pong")
    assert member.group
    member.told.clear()
    big = b"x" * 500_000
    write(big)
    assert connection.shared_group is None
    assert member.told == ["other group"], "not ready, which may write behind a close frame"
    await member.receive(sent)
    for _ in range(AWAY - 1):
        await write_and_see(b"pong")
    await write_and_see(big)
    for _ in range(AWAY):
        assert connection.shared_group is None
        await write_and_see(b"pong")
    assert member.group
    assert member.told == ["other group"] * 2


async def test_one_whose_client_has_gone_is_ended_by_its_transport(linked: Linker) -> None:
    (member,) = await linked(1)
    connection = member.connection
    connection.sink(Numbers())
    wire = encode("1")[0]
    member.peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    member.peer.close()
    with pytest.raises(OSError, match=r"(reset|Broken)"):
        while True:
            member.write(wire)
    connection.finish(wire, 0)
    for _ in range(3):
        await turn()
    assert not connection.write(A)
    assert connection.shared_group is None
    assert connection.shared_writer is None, "the number may be another socket's by now"
    assert member.told[-1] == "refuses"


async def test_one_that_is_lost_once_it_had_sent_the_rest_can_be_aborted(linked: Linker) -> None:
    (member,) = await linked(1)
    member.ordered.write(b"x" * 500_000)
    member.ordered.close()
    await member.receive(500_000)
    await turn()
    assert member.connection.shared_writer is None, "it is lost"
    member.connection.abort()


async def test_the_lost_is_freed_without_the_collector() -> None:
    class Handler:
        def ready(self) -> None:
            """Do nothing."""

        def otherwise(self, run: object) -> bool:
            return False

    connection, _ = opened()
    handler = Handler()
    connection.on_ready = handler.ready
    sink = connection.sink(Numbers(), handler.otherwise)
    gone = weakref.ref(handler)
    gc.disable()
    try:
        connection.lose()
        del handler
        assert gone() is None
        assert not sink([1])
    finally:
        gc.enable()
