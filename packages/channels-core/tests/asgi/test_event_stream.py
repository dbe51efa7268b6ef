from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator

import pytest

from channels.core import ChannelsPlugin
from channels.core.asgi import Envelope, Gateway, Raw
from channels.core.testing import FaultyBackend
from kit import eventually

from .fake import FakeClient, event_source, make_scope


@pytest.fixture
async def plugin() -> ChannelsPlugin:
    return ChannelsPlugin("memory://?history=100", channels=["news", "chat"])


@pytest.fixture
async def gateway(plugin: ChannelsPlugin) -> AsyncIterator[Gateway]:
    async with Gateway(plugin) as gateway:
        yield gateway


async def joined(client: FakeClient) -> dict[str, str]:
    """Return the first event, and check what comes before it."""
    start = await client.message()
    headers = dict(start["headers"])
    assert start["status"] == 200
    assert headers[b"content-type"].startswith(b"text/event-stream")
    assert b"no-cache" in headers[b"cache-control"]
    block = await client.block()
    assert block["event"] == "joined"
    assert int(block["retry"]) > 0
    return block


async def test_events_with_ids(gateway: Gateway) -> None:
    async with event_source(gateway.event_stream_endpoint()) as client:
        first = await joined(client)
        assert json.loads(first["data"])["recovered"] is None
        assert json.loads(first["data"])["channels"] == {"news": first["id"]}
        ids = await gateway.plugin.wait_published({"a": 1}, "news")
        assert await client.block() == {"id": ids["news"], "data": '{"a":1}', "": ""}
    await eventually(lambda: not gateway.plugin.subscriber_count("news"), "it to be gone")
    assert not gateway.connection_count


async def test_head_is_answered_and_ends(gateway: Gateway) -> None:
    async with event_source(gateway.event_stream_endpoint(), method="HEAD") as client:
        start, end = await client.message(), await client.message()
        assert (start["status"], dict(start["headers"])[b"cache-control"]) == (
            200,
            b"no-cache, no-store",
        )
        assert not end.get("body")
        assert not end.get("more_body")
        await client.ended()
    assert not gateway.plugin.subscriber_count("news")
    assert not gateway.connection_count
    async with event_source(gateway.event_stream_endpoint(), "other", method="HEAD") as client:
        assert (await client.message())["status"] == 404


async def test_the_browser_resumes_by_itself(gateway: Gateway) -> None:
    app = gateway.event_stream_endpoint(history=1)
    async with event_source(app) as client:
        last = (await joined(client))["id"]
    for number in range(3):
        await gateway.plugin.wait_published(str(number), "news")
    # The header is newer than what the page put into the address.
    async with event_source(app, headers={"Last-Event-ID": last}, since="abc-1") as client:
        assert json.loads((await joined(client))["data"])["recovered"] is True
        body = (await client.message())["body"].decode()
        assert [line for line in body.splitlines() if "data" in line] == [
            "data: 0",
            "data: 1",
            "data: 2",
        ]
    async with event_source(app, since=last) as client:
        assert json.loads((await joined(client))["data"])["recovered"] is True


async def test_several_channels_have_one_id(gateway: Gateway) -> None:
    app = gateway.event_stream_endpoint(["news", "chat"])
    async with event_source(app) as client:
        await joined(client)
        await gateway.plugin.wait_published("1", "news")
        await client.block()
        await gateway.plugin.wait_published("2", "chat")
        last = (await client.block())["id"]
        assert set(json.loads(last)) == {"news", "chat"}
    await gateway.plugin.wait_published("3", ["news", "chat"])
    async with event_source(app, headers={"last-event-id": last}) as client:
        assert json.loads((await joined(client))["data"])["recovered"] is True
        body = (await client.message())["body"].decode()
        assert [line for line in body.splitlines() if "data" in line] == ["data: 3", "data: 3"]


@pytest.mark.parametrize(
    ("payload", "seen"),
    [
        ("one\ntwo\r\nthree\rfour", "one\ntwo\nthree\nfour"),
        ("", ""),
        (": id: 1", ": id: 1"),
        (b"\xff", "\N{REPLACEMENT CHARACTER}"),
        ("\u2028caf\u00e9", "\u2028caf\u00e9"),
    ],
)
async def test_any_payload_is_data(gateway: Gateway, payload: str | bytes, seen: str) -> None:
    async with event_source(gateway.event_stream_endpoint()) as client:
        await joined(client)
        await gateway.plugin.wait_published(payload, "news")
        body = (await client.message())["body"].decode()
        lines = body.removesuffix("\n\n").split("\n")[1:]
        assert "\n".join(line.removeprefix("data: ") for line in lines) == seen


async def test_a_gap_is_an_event() -> None:
    backend = FaultyBackend()
    plugin = ChannelsPlugin(backend, channels=["news"])
    async with (
        Gateway(plugin, encoding=Raw("binary")) as gateway,
        event_source(gateway.event_stream_endpoint()) as client,
    ):
        await client.message()
        assert "id" not in await client.block()
        backend.cut()
        gap = await client.block()
        assert gap["event"] == "gap"
        assert json.loads(gap["data"]) == {"type": "gap", "channel": "news", "reason": "lost"}


async def test_the_envelope_is_the_data(plugin: ChannelsPlugin) -> None:
    async with (
        Gateway(plugin, encoding=Envelope()) as gateway,
        event_source(gateway.event_stream_endpoint()) as client,
    ):
        await joined(client)
        await plugin.wait_published("x", "news")
        assert json.loads((await client.block())["data"])["channel"] == "news"


async def test_silence_has_heartbeats(plugin: ChannelsPlugin) -> None:
    async with (
        Gateway(plugin, heartbeat=0.02) as gateway,
        event_source(gateway.event_stream_endpoint()) as client,
    ):
        await joined(client)
        for _ in range(3):
            assert (await client.message())["body"] == b":\n\n"


async def test_a_client_that_takes_nothing_is_cut(plugin: ChannelsPlugin) -> None:
    async with (
        Gateway(plugin, heartbeat=0.02) as gateway,
        event_source(gateway.event_stream_endpoint()) as client,
    ):
        await joined(client)
        client.taking.clear()
        await client.ended()
        assert not gateway.connection_count
        assert not plugin.subscriber_count("news")


async def test_stopping_ends_the_stream(plugin: ChannelsPlugin) -> None:
    async with (
        Gateway(plugin) as gateway,
        event_source(gateway.event_stream_endpoint()) as client,
    ):
        await joined(client)
        await plugin.stop()
        last = await client.message()
        assert last["body"].startswith(b"retry: ")
        assert not last["more_body"]
        await client.ended()


async def test_a_cancelled_handler_ends_the_stream(gateway: Gateway) -> None:
    scope = make_scope("http", "news", None, {}) | {"method": "GET"}
    client = FakeClient(gateway.event_stream_endpoint(), scope)
    await joined(client)
    client.task.cancel()
    assert (await client.message())["body"].startswith(b"retry: ")
    with pytest.raises(asyncio.CancelledError):
        await client.task
    assert not gateway.connection_count
