import pytest

from channels.core import ChannelsPlugin
from channels.core.testing import FaultyBackend, publish_and_wait


async def test_all_subscribers_have_it() -> None:
    plugin = ChannelsPlugin("memory://", channels=["a", "b"])
    async with plugin:
        subscribers = [await plugin.subscribe(["a", "b"]) for _ in range(600)]
        await publish_and_wait(plugin, {"n": 1}, ["a", "b"])
        assert {subscriber.qsize for subscriber in subscribers} == {2}
        assert plugin.subscriber_count("a") == 600


async def test_what_is_lost_is_told() -> None:
    backend = FaultyBackend()
    backend.swallow = lambda event: True
    async with ChannelsPlugin(backend, channels=["a"]) as plugin:
        with pytest.raises(AssertionError, match=r"\['a'\]"):
            await publish_and_wait(plugin, "x", "a", timeout=0.05)
        assert plugin.subscriber_count("a") == 0
