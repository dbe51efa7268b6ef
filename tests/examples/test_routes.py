"""Route handlers that the plugin generates."""

from examples.guide import (
    create_route_handler_arbitrary,
    create_route_handlers,
    create_route_handlers_send_history,
)

from .running import serving, until


async def test_each_channel_has_a_route() -> None:
    async with serving(create_route_handlers.app) as site:
        async with site.connect("/foo") as foo, site.connect("/bar") as bar:
            site.channels.publish("to foo", "foo")
            site.channels.publish("to both", ["foo", "bar"])
            assert [await foo.recv(), await foo.recv(), await bar.recv()] == [
                "to foo",
                "to both",
                "to both",
            ]
        await until(lambda: site.channels.subscriber_count("foo") == 0)


async def test_a_route_sends_history_first() -> None:
    async with serving(create_route_handlers_send_history.app) as site:
        for number in range(12):
            await site.channels.wait_published(str(number), "foo")
        async with site.connect("/foo") as socket:
            site.channels.publish("live", "foo")
            received = [await socket.recv() for _ in range(11)]
    assert received == [*map(str, range(2, 12)), "live"]


async def test_a_route_takes_the_channel_from_its_path() -> None:
    async with (
        serving(create_route_handler_arbitrary.app) as site,
        site.connect("/ws/anything") as socket,
    ):
        site.channels.publish("x", "anything")
        assert await socket.recv() == "x"
