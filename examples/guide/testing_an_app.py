"""Test an application that publishes and one that receives, without a broker."""

from channels.core import ChannelsPlugin, Event
from channels.core.testing import RecordingBackend, publish_and_wait


async def place_order(channels: ChannelsPlugin, number: int) -> None:
    channels.publish({"placed": number}, "orders")


class Warehouse:
    def __init__(self) -> None:
        self.packed: list[Event] = []

    def pack(self, event: Event) -> None:
        self.packed.append(event)


async def test_an_order_is_published() -> None:
    backend = RecordingBackend()
    async with ChannelsPlugin(backend, channels=["orders"]) as channels:
        await place_order(channels, 1)
        assert await backend.wait_for("orders") == [b'{"placed":1}']


async def test_an_order_is_packed() -> None:
    warehouse = Warehouse()
    async with ChannelsPlugin("memory://", channels=["orders"]) as channels:
        async with channels.start_subscription("orders") as subscriber:
            async with subscriber.run_in_background(warehouse.pack):
                await publish_and_wait(channels, {"placed": 1}, "orders")
        assert warehouse.packed == [b'{"placed":1}']
