import asyncio

import pytest

from channels.core import ChannelsPlugin, MemoryChannelsBackend, Message
from channels.core.testing import RecordingBackend


async def test_what_an_application_publishes_is_recorded() -> None:
    backend = RecordingBackend()
    async with ChannelsPlugin(backend, channels=["orders", "stock"]) as plugin:
        plugin.publish({"placed": 1}, "orders")
        assert await backend.wait_for("orders") == [b'{"placed":1}']
        await plugin.wait_published(b"\x00", ["stock", "orders"])
        assert await backend.wait_for("orders", 2) == [b'{"placed":1}', b"\x00"]
        assert backend.payloads("stock") == [b"\x00"]
    assert sorted(backend.published) == [
        ("orders", b"\x00"),
        ("orders", b'{"placed":1}'),
        ("stock", b"\x00"),
    ]
    backend.clear()
    assert backend.published == []


async def test_subscribers_get_the_events_too() -> None:
    backend = RecordingBackend(MemoryChannelsBackend(history=10))
    assert backend.keeps_history
    async with (
        ChannelsPlugin(backend, channels=["orders"]) as plugin,
        plugin.start_subscription("orders") as subscriber,
    ):
        ids = await plugin.wait_published("placed", "orders")
        async for event in subscriber.iter_events():
            assert (event, event.id) == (b"placed", ids["orders"])
            break


async def test_what_the_backend_refuses_is_not_recorded() -> None:
    backend = RecordingBackend(MemoryChannelsBackend(max_payload=3))
    async with backend:
        await backend.publish([Message("orders", b"1234"), Message("orders", b"123")])
    assert backend.published == [Message("orders", b"123")]


async def test_wait_for_waits_until_it_is_published() -> None:
    async with RecordingBackend() as backend:
        waiting = asyncio.create_task(backend.wait_for("orders", 2))
        for data in (b"one", b"two"):
            assert not waiting.done()
            await backend.publish([Message("orders", data)])
        assert await waiting == [b"one", b"two"]


async def test_wait_for_tells_what_was_published_instead() -> None:
    async with RecordingBackend() as backend:
        await backend.publish([Message("orders", b"one"), Message("stock", b"two")])
        with pytest.raises(
            AssertionError,
            match=r"2 events of channel 'orders' .* 0.05 s, 1 were published; .* \['stock'\]",
        ):
            await backend.wait_for("orders", 2, timeout=0.05)


async def test_wait_for_works_from_another_loop() -> None:
    async with RecordingBackend() as backend:
        waiting = asyncio.create_task(asyncio.to_thread(asyncio.run, backend.wait_for("orders")))
        while not backend._waiting:
            await asyncio.sleep(0.001)
        await backend.publish([Message("orders", b"one")])
        assert await waiting == [b"one"]
