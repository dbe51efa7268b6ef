"""The guide's snippets that need no framework, each of them run."""

import asyncio
import re
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from fractions import Fraction
from types import ModuleType

import pytest

from channels.core import (
    BackendUnavailable,
    ChannelsPlugin,
    Event,
    MemoryChannelsBackend,
    Position,
)
from examples.guide import (
    batches,
    gaps,
    join_another,
    on_drop,
    own_limits,
    resume,
    sink,
    start_subscription,
    subscribe,
    subscribe_with_history,
    type_encoders,
    unsubscribe,
    unsubscribe_context,
    wait_published,
)
from tools.packages import ROOT

from .running import following, until

QUICKSTART = ROOT / "examples" / "guide" / "quickstart.py"


@asynccontextmanager
async def running(
    *names: str, history: int = 0, max_backlog: int | None = None
) -> AsyncIterator[ChannelsPlugin]:
    """Give a running plugin with these channels."""
    backend = MemoryChannelsBackend(history)
    async with ChannelsPlugin(backend, channels=names, max_backlog=max_backlog) as channels:
        yield channels


def test_the_quickstart_runs_and_is_what_readme_shows() -> None:
    done = subprocess.run(
        [sys.executable, "-W", "error", QUICKSTART],
        capture_output=True,
        check=False,
        text=True,
        timeout=20,
    )
    assert (done.stdout, done.stderr) == ('news {"message":"Hello"}\n', "")
    readme = (ROOT / "README.md").read_text("utf-8")
    first = re.search(r"(?ms)^```python\n(.*?)^```$", readme)
    assert first is not None
    assert first[1] == QUICKSTART.read_text("utf-8")


@pytest.mark.parametrize("example", [subscribe, start_subscription])
async def test_a_subscription_ends_with_its_block(example: ModuleType) -> None:
    async with running("foo", "bar") as channels:
        async with following(example.wait_for_event(channels), channels, "foo", "bar") as task:
            channels.publish(b"first", "bar")
            event = await task
        assert (event.channel, event) == ("bar", b"first")
        assert channels.subscriber_count("foo") == channels.subscriber_count("bar") == 0


@pytest.mark.parametrize("example", [subscribe, start_subscription])
async def test_a_subscription_ends_with_the_plugin(example: ModuleType) -> None:
    async with (
        running("foo", "bar") as channels,
        following(example.wait_for_event(channels), channels, "foo") as task,
    ):
        await channels.stop()
        assert await task is None


@pytest.mark.parametrize("example", [unsubscribe, unsubscribe_context])
async def test_one_of_two_channels_is_left(example: ModuleType) -> None:
    shown: list[Event] = []
    async with running("foo", "bar") as channels:
        async with following(example.watch(channels, shown.append), channels, "foo", "bar"):
            channels.publish(b"1", ["foo", "bar"])
            channels.publish(b"the end of foo", "foo")
            await until(lambda: len(shown) == 3)
            channels.publish(b"2", ["foo", "bar"])
            await until(lambda: len(shown) == 4)
            assert channels.subscriber_count("foo") == 0
        assert channels.subscriber_count("bar") == 0
    assert shown[-1].channel == "bar"
    assert sorted(shown) == [b"1", b"1", b"2", b"the end of foo"]


async def test_a_live_subscriber_joins_another_channel() -> None:
    shown: list[Event] = []
    async with running("invitations", "party") as channels:
        example = join_another.follow_invitations(channels, shown.append)
        async with following(example, channels, "invitations"):
            channels.publish("party", "invitations")
            await until(lambda: channels.subscriber_count("party"))
            async with channels.start_subscription("party"):
                pass
            channels.publish("music", "party")
            await until(lambda: len(shown) == 2)
    assert [(event.channel, event.decode()) for event in shown] == [
        ("invitations", "party"),
        ("party", "music"),
    ]


async def test_history_comes_before_what_is_live() -> None:
    shown: list[Event] = []
    async with running("news", history=20) as channels:
        for number in range(15):
            await channels.wait_published(str(number), "news")
        example = subscribe_with_history.watch(channels, shown.append)
        async with following(example, channels, "news"):
            channels.publish("live", "news")
            await until(lambda: b"live" in shown)
    assert [event.decode() for event in shown] == [*map(str, range(5, 15)), "live"]


async def test_a_reader_goes_on_where_it_stopped() -> None:
    shown: list[str] = []
    async with running("news", history=10) as channels:
        reader = resume.Reader(channels, shown.append)

        async def read(*published: int) -> None:
            for number in published[:-1]:
                await channels.wait_published(str(number), "news")
            async with following(reader.read(), channels, "news"):
                await channels.wait_published(str(published[-1]), "news")
                await until(lambda: shown[-1:] == [str(published[-1])])

        await read(0)
        await read(1, 2, 3)
        assert shown == ["0", "1", "2", "3"]
        await read(*range(4, 20))
    assert shown[4:] == ["(some news are no longer kept)", *map(str, range(9, 20))]


async def test_what_was_dropped_is_marked() -> None:
    shown: list[str] = []
    async with (
        running("news", max_backlog=2) as channels,
        following(gaps.watch(channels, shown.append), channels, "news"),
    ):
        for number in range(5):
            channels.publish(str(number), "news")
        await until(lambda: len(shown) == 3)
    assert shown == ["0", "1", "(news are missing here)"]


async def test_a_slow_insert_gets_longer_batches() -> None:
    stored: list[list[Event]] = []
    stalled = asyncio.Event()

    async def insert(events: list[Event]) -> None:
        stored.append(events)
        await stalled.wait()

    async with (
        running("measurements") as channels,
        following(batches.store(channels, insert), channels, "measurements"),
    ):
        await channels.wait_published("0", "measurements")
        await until(lambda: stored)
        for number in range(1, 701):
            await channels.wait_published(str(number), "measurements")
        stalled.set()
        await until(lambda: sum(map(len, stored)) == 701)
    assert [len(events) for events in stored] == [1, 500, 200]


async def test_a_sink_waits_for_a_reader_that_does_not_read() -> None:
    accepted: asyncio.Future[asyncio.StreamReader] = asyncio.get_running_loop().create_future()
    done = asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        accepted.set_result(reader)
        await done.wait()
        writer.close()
        await writer.wait_closed()

    server = await asyncio.start_server(serve, "127.0.0.1", 0, limit=1024)
    host, port = server.sockets[0].getsockname()
    async with server, running("news") as channels:
        async with following(sink.feed(channels, host, port), channels, "news"):
            reader = await accepted
            for number in range(100):
                await channels.wait_published(b"%d " % number + b"x" * 100_000, "news")
            for number in range(100):
                assert await reader.readexactly(len(b"%d " % number)) == b"%d " % number
                assert await reader.readexactly(100_001) == b"x" * 100_000 + b"\n"
        done.set()


async def test_the_publisher_learns_the_id_or_that_the_broker_is_away() -> None:
    class Away(MemoryChannelsBackend):
        async def publish(self, messages: object) -> object:
            raise BackendUnavailable("no broker")

    async with running("orders", history=10) as channels:
        first = await wait_published.place_order(channels, {"item": "tea"})
        assert Position.parse(first).offset == 1
    async with ChannelsPlugin(Away(), channels=["orders"]) as channels:
        assert await wait_published.place_order(channels, {"item": "tea"}) is None


async def test_a_type_of_ones_own_is_encoded() -> None:
    async with (
        type_encoders.channels as channels,
        channels.start_subscription("shares") as subscriber,
    ):
        channels.publish(type_encoders.Share("Ann", Fraction(1, 3)), "shares")
        async for event in subscriber.iter_events():
            assert event == b'{"owner":"Ann","part":"1/3"}'
            break


async def test_drops_are_counted() -> None:
    on_drop.dropped.clear()
    async with on_drop.channels as channels, channels.start_subscription("news") as subscriber:
        for number in range(1003):
            await channels.wait_published(str(number), "news")
        await until(lambda: subscriber.dropped == 3)
        assert subscriber.qsize == 1000
    assert on_drop.dropped == {"news": 3}


async def test_a_subscriber_has_limits_of_its_own() -> None:
    shown: list[Event] = []
    async with (
        running("news") as channels,
        following(own_limits.watch(channels, shown.append), channels, "news"),
    ):
        for number in range(100):
            channels.publish(str(number), "news")
        await until(lambda: b"99" in shown)
    assert len(shown) < 100
