from __future__ import annotations

import datetime
from typing import TYPE_CHECKING, Any

import pytest
from litestar import Litestar, get, post
from litestar.testing import AsyncTestClient

from channels.core import ConfigurationError, EncodeError, NotRunningError
from channels.litestar import ChannelsPlugin as Plugin

if TYPE_CHECKING:
    from channels.litestar import ChannelsPlugin


class Celsius:
    def __init__(self, degrees: int) -> None:
        self.degrees = degrees


@post("/messages", sync_to_thread=True)
def send(channels: ChannelsPlugin) -> None:
    channels.publish({"text": "hi"}, "news")


@get("/same")
async def same(channels: ChannelsPlugin, others: ChannelsPlugin) -> bool:
    return channels is others


async def test_a_sync_handler_publishes_from_its_thread() -> None:
    @get("/next")
    async def next_event(channels: ChannelsPlugin) -> str:
        async with channels.start_subscription("news", history=1) as subscriber:
            async for event in subscriber.iter_events():
                return event.decode()
        return ""

    plugin = Plugin("memory://?history=1", channels=["news"])
    async with AsyncTestClient(
        Litestar([send, next_event], plugins=[plugin], logging_config=None)
    ) as client:
        assert (await client.post("/messages")).status_code == 201
        assert (await client.get("/next")).text == '{"text":"hi"}'


async def test_two_plugins_have_two_keys() -> None:
    plugins = [Plugin("memory://"), Plugin("memory://", dependency_key="others")]
    async with AsyncTestClient(Litestar([same], plugins=plugins, logging_config=None)) as client:
        assert (await client.get("/same")).json() is False


@pytest.mark.parametrize(
    ("option", "value", "takes"),
    [
        ("guards", 5, "a list"),
        ("middleware", None, "a list"),
        ("dependencies", ["a"], "a dictionary, or None"),
        ("opt", 5, "a dictionary, or None"),
        ("dependency_key", "not one", "the name of a parameter"),
        ("dependency_key", None, "the name of a parameter"),
    ],
)
def test_the_option_is_named(option: str, value: object, takes: str) -> None:
    options: dict[str, Any] = {option: value}
    with pytest.raises(ConfigurationError) as caught:
        Plugin("memory://", **options)
    assert str(caught.value) == f"{option}={value!r}: pass {takes}"


async def test_the_plugin_runs_as_long_as_the_application() -> None:
    plugin = Plugin("memory://", channels=["news"])
    app = Litestar([], plugins=[plugin], logging_config=None)
    for _ in range(2):
        with pytest.raises(NotRunningError):
            plugin.publish("early", "news")
        async with AsyncTestClient(app):
            plugin.publish("in time", "news")


async def test_data_is_encoded_as_the_application_would() -> None:
    plugin = Plugin("memory://", channels=["news"], type_encoders={Celsius: lambda v: v.degrees})
    app = Litestar(
        [], plugins=[plugin], type_encoders={Celsius: str, complex: str}, logging_config=None
    )
    async with AsyncTestClient(app):
        assert plugin.encode({"t": Celsius(21), "z": 1j}) == b'{"t":21,"z":"1j"}'
        assert plugin.encode(datetime.date(2026, 1, 2)) == b'"2026-01-02"'
        assert plugin.encode(b"\x00") == b"\x00"
        with pytest.raises(EncodeError):
            plugin.encode(object())
