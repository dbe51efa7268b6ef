from __future__ import annotations

import asyncio
import json
import logging
from typing import Any

import pytest

from channels.core import ChannelsPlugin, ConfigurationError
from channels.core.asgi import CloseCode, Gateway, Limits
from channels.core.asgi._connection import query
from channels.core.testing import FaultyBackend

from .fake import event_source, websocket


def make_plugin(arbitrary: bool = False) -> ChannelsPlugin:
    return ChannelsPlugin(
        "memory://?history=9", channels=["news"], arbitrary_channels_allowed=arbitrary
    )


async def refusal(gateway: Gateway, *args: Any, **kwargs: Any) -> tuple[int, int, int]:
    """Return how a client is refused: status of the handshake, close code, status of a request."""
    async with websocket(gateway.websocket_endpoint(), *args, **kwargs) as client:
        status, body = await client.refused()
        assert json.loads(body)["status_code"] == status
    async with websocket(gateway.websocket_endpoint(), *args, can_deny=False, **kwargs) as client:
        code = await client.closed()
    async with event_source(gateway.event_stream_endpoint(), *args, **kwargs) as client:
        status_of_request, _ = await client.refused()
    assert not gateway.connection_count
    return status, code, status_of_request


async def is_let_in(gateway: Gateway, *args: Any, **kwargs: Any) -> bool:
    async with websocket(gateway.websocket_endpoint(), *args, **kwargs) as client:
        return (await client.message())["type"] == "websocket.accept"


# -- channels ----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["other", "", "$reserved", "x" * 201])
async def test_there_is_no_such_channel(name: str) -> None:
    async with Gateway(make_plugin()) as gateway:
        assert await refusal(gateway, name) == (404, CloseCode.UNKNOWN_CHANNEL, 404)


@pytest.mark.parametrize("name", ["a b", "x" * 101, "$reserved", "a\0", "a\n", "", "\ud800"])
async def test_an_odd_name_is_not_looked_up(name: str) -> None:
    async with Gateway(make_plugin(arbitrary=True)) as gateway:
        assert await refusal(gateway, name) == (404, CloseCode.UNKNOWN_CHANNEL, 404)


@pytest.mark.parametrize("name", ["room:1", "caf\u00e9", "user@host", "a/b", "x" * 100])
async def test_a_plain_name_is(name: str) -> None:
    async with Gateway(make_plugin(arbitrary=True)) as gateway:
        assert await is_let_in(gateway, name)


async def test_names_can_be_limited() -> None:
    limits = Limits(name_pattern=r"room-\d+", max_name_length=7)
    async with Gateway(make_plugin(arbitrary=True), limits=limits) as gateway:
        assert await is_let_in(gateway, "room-12")
        assert await is_let_in(gateway, "news"), "declared names are the application's own"
        for name in ("room-x", "room-123", "my room-1"):
            assert await refusal(gateway, name) == (404, CloseCode.UNKNOWN_CHANNEL, 404)


# -- authorize ---------------------------------------------------------------------------------


@pytest.mark.parametrize("answer", [False, None, 1, "yes"])
@pytest.mark.parametrize("is_async", [False, True])
async def test_only_true_lets_in(answer: Any, is_async: bool) -> None:
    asked: list[tuple[str, str]] = []

    def authorize(connection: Any, channel: str, action: str) -> Any:
        asked.append((channel, action))
        return answer

    async def authorize_async(connection: Any, channel: str, action: str) -> Any:
        await asyncio.sleep(0)
        return authorize(connection, channel, action)

    plugin = make_plugin()
    chosen = authorize_async if is_async else authorize
    async with Gateway(plugin, authorize=chosen) as gateway:
        assert await refusal(gateway) == (403, CloseCode.FORBIDDEN, 403)
        assert asked == [("news", "subscribe")] * 3
        answer = True
        assert await is_let_in(gateway)
        await refusal(gateway, "other")
        assert len(asked) == 4, "what does not exist is not asked for"


async def test_an_authorize_that_fails_refuses(caplog: pytest.LogCaptureFixture) -> None:
    def authorize(connection: Any, channel: str, action: str) -> bool:
        raise LookupError("no session")

    async with Gateway(make_plugin(), authorize=authorize) as gateway:
        assert await refusal(gateway) == (403, CloseCode.FORBIDDEN, 403)
    assert "authorize failed" in caplog.text
    assert "no session" in caplog.text


async def test_each_channel_is_asked_for() -> None:
    plugin = ChannelsPlugin("memory://", channels=["mine", "theirs"])

    async with Gateway(plugin, authorize=lambda _, channel, __: channel == "mine") as gateway:
        async with websocket(gateway.websocket_endpoint(["mine", "theirs"])) as client:
            assert (await client.refused())[0] == 403
        assert not plugin.subscriber_count("mine")


# -- origin ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "origin",
    [
        "https://app.example.org",
        "http://app.example.org",
        "https://APP.example.org:443",
        "https://friend.example",
        "https://friend.example:443",
    ],
)
async def test_pages_of_the_host_and_of_friends_may(origin: str) -> None:
    async with Gateway(make_plugin(), allowed_origins=["https://friend.example"]) as gateway:
        assert await is_let_in(gateway, headers={"origin": origin})


@pytest.mark.parametrize(
    "origin",
    [
        "https://evil.example",
        "http://friend.example",
        "https://friend.example:8443",
        "https://app.example.org.evil.example",
        "https://app.example.org:8443",
        "null",
        "",
        "file://",
        "https://app.example.org@evil.example",
        "https://evil.example/https://app.example.org",
        "https://[broken",
    ],
)
async def test_pages_of_others_may_not(origin: str, caplog: pytest.LogCaptureFixture) -> None:
    async with Gateway(make_plugin(), allowed_origins=["https://friend.example"]) as gateway:
        async with websocket(gateway.websocket_endpoint(), headers={"origin": origin}) as client:
            assert (await client.refused())[0] == 403
        assert not gateway.connection_count
    assert "allowed_origins" in caplog.text
    assert "Host header" in caplog.text


async def test_a_host_with_a_port_is_another() -> None:
    headers = {"origin": "http://localhost:8000", "host": "localhost:8000"}
    async with Gateway(make_plugin()) as gateway:
        assert await is_let_in(gateway, headers=headers)
        assert await is_let_in(
            gateway, headers={"host": "[::1]:8000", "origin": "http://[::1]:8000"}
        )
        async with websocket(
            gateway.websocket_endpoint(), headers=headers | {"host": "localhost"}
        ) as client:
            assert (await client.refused())[0] == 403


async def test_any_origin_when_that_is_said() -> None:
    async with Gateway(make_plugin(), allowed_origins="*") as gateway:
        assert await is_let_in(gateway, headers={"origin": "null"})


async def test_of_event_streams_cors_decides() -> None:
    async with Gateway(make_plugin()) as gateway:
        app = gateway.event_stream_endpoint()
        async with event_source(app, headers={"origin": "https://evil.example"}) as client:
            assert (await client.message())["status"] == 200


# -- where a client was ------------------------------------------------------------------------


@pytest.mark.parametrize(
    "since",
    [
        "nonsense",
        "abc-1x",
        "-1",
        '{"other": "abc-1"}',
        '{"news": 1}',
        "{",
        '{"news": "x"}',
        "x" * 500,
    ],
)
async def test_since_must_be_an_id(since: str) -> None:
    async with Gateway(make_plugin()) as gateway:
        assert await refusal(gateway, since=since) == (400, CloseCode.BAD_REQUEST, 400)


@pytest.mark.parametrize("since", ["", '{"news": null}', "{}"])
async def test_no_since(since: str) -> None:
    async with Gateway(make_plugin()) as gateway:
        assert await is_let_in(gateway, since=since)


# -- limits ------------------------------------------------------------------------------------


async def test_there_can_be_so_many_clients() -> None:
    async with Gateway(make_plugin(), limits=Limits(max_connections=2)) as gateway:
        app = gateway.websocket_endpoint()
        async with websocket(app) as one, event_source(gateway.event_stream_endpoint()) as two:
            await one.accepted()
            await two.message()
            async with websocket(app) as third:
                assert (await third.refused())[0] == 503
            async with websocket(app, can_deny=False) as third:
                assert await third.closed() == CloseCode.TRY_LATER
            async with event_source(gateway.event_stream_endpoint()) as third:
                assert (await third.refused())[0] == 503
        assert await is_let_in(gateway)


async def test_no_broker_no_entry() -> None:
    backend = FaultyBackend()
    plugin = ChannelsPlugin(
        backend, channels=["news"], connect_timeout=0.01, subscribe_timeout=0.05
    )
    with backend.outage():
        async with Gateway(plugin) as gateway:
            assert await refusal(gateway) == (503, CloseCode.TRY_LATER, 503)
            assert not plugin.subscriber_count("news")


@pytest.mark.parametrize(
    "options",
    [
        {"allowed_origins": ["app.example.org"]},
        {"allowed_origins": ["https://a.example/path"]},
        {"allowed_origins": ["null"]},
        {"encoding": "json"},
        {"heartbeat": 0},
        {"retry": -1},
        {"drain_timeout": 0},
    ],
)
def test_options_that_make_no_sense(options: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError, match=next(iter(options))):
        Gateway(make_plugin(), **options)


@pytest.mark.parametrize(
    "options",
    [{"max_connections": 0}, {"message_burst": 0}, {"name_pattern": "("}, {"max_name_length": -1}],
)
def test_limits_that_make_no_sense(options: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError, match=next(iter(options))):
        Limits(**options)


async def test_the_wrong_protocol() -> None:
    async with Gateway(make_plugin()) as gateway:
        async with event_source(gateway.websocket_endpoint()) as client:
            assert (await client.refused())[0] == 426
        async with event_source(gateway.event_stream_endpoint(), method="POST") as client:
            assert (await client.refused())[0] == 405
        async with websocket(gateway.event_stream_endpoint()) as client:
            assert (await client.refused())[0] == 404


async def test_a_refusal_is_no_error_in_the_log(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING)
    async with Gateway(make_plugin()) as gateway:
        await refusal(gateway, "other")
    assert caplog.text == ""


@pytest.mark.parametrize(
    ("text", "found"),
    [
        (b"", None),
        (b"sinc=1&ssince=2", None),
        (b"since", ""),
        (b"a=b&since=&since=2", ""),
        (b"s%69nce=a%2Bb+c%C3%A9&since=2", "a+b c\u00e9"),
        (b"x=y&" * 10_000 + b"since=ab-1", "ab-1"),
    ],
)
def test_a_query_parameter_is_found_wherever_it_is(text: bytes, found: str | None) -> None:
    assert query({"query_string": text}, "since") == found
