"""The guide's snippets for Litestar, each behind a real server."""

from types import ModuleType

import pytest
from litestar import Litestar
from websockets.exceptions import ConnectionClosed

from channels.core import ChannelsException
from examples.guide import (
    arbitrary_channels,
    backoff,
    disconnect,
    dropleft,
    explicit_channels,
    iter_stream,
    publish,
    publish_from_thread,
    put_history,
    run_in_background,
)

from .running import serving, subscribed, until


async def test_only_the_channels_that_were_passed_can_be_used() -> None:
    plugin = explicit_channels.channels_plugin
    async with serving(Litestar(plugins=[plugin], logging_config=None)):
        plugin.publish("x", ["foo", "bar"])
        with pytest.raises(ChannelsException, match="unknown channel 'baz'"):
            plugin.publish("x", "baz")
        with pytest.raises(ChannelsException, match="unknown channel 'baz'"):
            await plugin.subscribe("baz")


async def test_arbitrary_channels_come_with_their_first_subscription() -> None:
    plugin = arbitrary_channels.channels_plugin
    async with (
        serving(Litestar(plugins=[plugin], logging_config=None)),
        plugin.start_subscription("anything at all") as subscriber,
    ):
        await plugin.wait_published("x", "anything at all")
        async for event in subscriber.iter_events():
            assert event.channel == "anything at all"
            break


@pytest.mark.parametrize(
    ("example", "path", "data", "channel", "published"),
    [
        (publish, "/greet", None, "general", b'{"message":"Hello"}'),
        (publish_from_thread, "/reports", {"a": 2, "b": 3}, "reports", b'{"total":5}'),
    ],
)
async def test_a_handler_publishes_through_the_injected_plugin(
    example: ModuleType, path: str, data: object, channel: str, published: bytes
) -> None:
    async with (
        serving(example.app) as site,
        site.channels.start_subscription(channel) as subscriber,
    ):
        assert (await site.request("POST", path, json=data)).status_code == 201
        async for event in subscriber.iter_events():
            assert event == published
            break


async def test_the_stream_is_sent_to_the_client() -> None:
    async with serving(iter_stream.app) as site, site.connect("/ws") as socket:
        await subscribed(site.channels, "some_channel")
        for number in range(3):
            site.channels.publish(str(number), "some_channel")
        assert [await socket.recv() for _ in range(3)] == ["0", "1", "2"]
        # The loop would not notice that the client leaves; it ends with the plugin.
        await site.channels.stop()
        with pytest.raises(ConnectionClosed):
            await socket.recv()


async def test_a_client_receives_in_the_background_while_it_sends() -> None:
    async with serving(run_in_background.app) as site:
        async with site.connect("/ws") as ann, site.connect("/ws") as bob:
            await until(lambda: site.channels.subscriber_count("some_channel") == 2)
            await ann.send("Hello")
            assert await ann.recv() == await bob.recv() == "Hello"
        await until(lambda: site.channels.subscriber_count("some_channel") == 0)


async def test_history_is_put_before_what_is_live() -> None:
    async with serving(put_history.app) as site:
        for number in range(15):
            await site.channels.wait_published(str(number), "some_channel")
        async with site.connect("/ws") as socket:
            assert [await socket.recv() for _ in range(10)] == [*map(str, range(5, 15))]
            await socket.send("live")
            assert await socket.recv() == "live"
        await until(lambda: site.channels.subscriber_count("some_channel") == 0)


@pytest.mark.parametrize(
    ("example", "kept", "dropped"),
    [(backoff, slice(0, 1000), 3), (dropleft, slice(3, 1003), 3), (disconnect, slice(0, 1000), 1)],
)
async def test_a_strategy_keeps_the_backlog_bounded(
    example: ModuleType, kept: slice, dropped: int
) -> None:
    numbers = [b"%d" % number for number in range(1003)]
    async with (
        serving(Litestar(plugins=[example.channels], logging_config=None)) as site,
        site.channels.start_subscription("news") as subscriber,
    ):
        for number in numbers:
            await site.channels.wait_published(number, "news")
        await until(lambda: subscriber.end_reason or subscriber.dropped == dropped)
        await site.channels.stop()
        assert [event async for event in subscriber.iter_events()] == numbers[kept]
        assert subscriber.dropped == dropped
