"""One connection over a transport that writes down what it is told."""

import asyncio
import gc
import weakref
from typing import Any

from channels.uvicorn import FrameConnection, Frames
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


async def test_a_group_is_written_to_past_its_sinks() -> None:
    source = Numbers()
    pairs = [opened() for _ in range(3)]
    for connection, _ in pairs:
        connection.on_refuse = lambda: None
    groups = {connection.sink(source).shared_group for connection, _ in pairs}
    (group,) = groups
    assert group is not None
    run = [1]
    wire = group.prepare(run)
    assert wire == encode("1")[0]
    for connection, transport in pairs:
        connection.shared_writer.write(wire)
        assert transport.calls == [wire]
    assert source.translated == 1
    assert group.prepare([-1]) is None


async def test_a_group_overtakes_nothing_and_joins_what_is_more_in_a_turn() -> None:
    source = Numbers()
    connection, transport = opened()
    connection.on_refuse = lambda: None
    sink = connection.sink(source)
    group = sink.shared_group
    assert group is not None
    one, two, three, four = (encode(str(n))[0] for n in (1, 2, 3, 4))
    connection.shared_writer.write(group.prepare([1]) or b"")
    assert group.prepare([2]) is None, "the second of a turn"
    for number in (2, 3, 4):
        assert sink([number])
    assert transport.calls == [one, two]
    await turn()
    assert transport.calls == [one, two, three + four]
    connection.write(A)
    connection.write(B)
    assert group.prepare([5]) is None, "something is held"
    await turn()
    assert group.prepare([6]) == encode("6")[0]


async def test_a_group_is_of_those_who_take_the_same_bytes_and_say_when_they_refuse() -> None:
    source = Numbers()
    connection, _ = opened()
    refused: list[bool] = []
    assert connection.sink(source).shared_group is None, "it could not say that it refuses"
    connection.on_refuse = lambda: refused.append(connection.write(A))
    group = connection.shared_group
    assert group is not None
    other = FrameConnection(Recorder(), asyncio.get_running_loop())
    other.on_refuse = lambda: None
    assert other.sink(source).shared_group is None, "it is not open"
    other.open(12)
    assert other.shared_group not in (None, group), "it is sent other bytes"
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
