from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest

from channels.core import ChannelsPlugin, Event, HistoryNotSupported, NotRunningError
from channels.core.asgi import CloseCode, Connection, Encoding, Envelope, Gateway, Limits, Raw
from channels.core.testing import FaultyBackend

from . import fake
from .fake import FakeClient, websocket


@pytest.fixture(autouse=True, params=[False, True], ids=["sent", "shared"])
def shares_frames(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fake, "shares_frames", request.param)


@pytest.fixture
async def plugin() -> ChannelsPlugin:
    return ChannelsPlugin("memory://?history=100", channels=["news", "chat"], max_backlog=2)


@pytest.fixture
async def gateway(plugin: ChannelsPlugin) -> AsyncIterator[Gateway]:
    async with Gateway(plugin, encoding="envelope") as gateway:
        yield gateway


def is_empty(gateway: Gateway) -> bool:
    return not gateway.connection_count and not gateway.plugin.subscriber_count("news")


# -- events ----------------------------------------------------------------------------------


async def test_a_client_gets_payloads_as_they_are(plugin: ChannelsPlugin) -> None:
    async with Gateway(plugin) as gateway:
        async with websocket(gateway.websocket_endpoint()) as client:
            await client.accepted()
            plugin.publish({"a": 1}, "news")
            assert await client.data() == '{"a":1}'
            plugin.publish(b"\xff", "news")
            assert await client.data() == b"\xff"
        assert is_empty(gateway)


async def test_binary_mode(plugin: ChannelsPlugin) -> None:
    async with (
        Gateway(plugin, encoding=Raw("binary")) as gateway,
        websocket(gateway.websocket_endpoint()) as client,
    ):
        await client.accepted()
        plugin.publish("text", "news")
        assert await client.data() == b"text"


async def test_the_envelope_says_where_an_event_is_from(gateway: Gateway) -> None:
    async with websocket(gateway.websocket_endpoint(["news", "chat"])) as client:
        await client.accepted()
        joined = await client.record()
        assert joined["type"] == "joined"
        assert set(joined["channels"]) == {"news", "chat"}
        assert joined["recovered"] is None
        for payload, seen in (
            ({"a": [1]}, {"a": [1]}),
            ("plain", "plain"),
            ("123", "123"),
            ("{broken", "{broken"),
            ("[NaN]", "[NaN]"),
        ):
            [(_, identity)] = (await gateway.plugin.wait_published(payload, "chat")).items()
            record = {"type": "event", "channel": "chat", "id": identity, "data": seen}
            assert await client.record() == record
        await gateway.plugin.wait_published(b"\xff\x00", "news")
        record = await client.record()
        assert (record["data"], record["encoding"]) == ("/wA=", "base64")


async def test_history_comes_first(gateway: Gateway) -> None:
    for number in range(5):
        await gateway.plugin.wait_published(str(number), "news")
    async with websocket(gateway.websocket_endpoint(history=3)) as client:
        await client.accepted()
        await client.record()
        await gateway.plugin.wait_published("5", "news")
        assert [(await client.record())["data"] for _ in range(4)] == ["2", "3", "4", "5"]


async def test_a_client_resumes_where_it_was(gateway: Gateway) -> None:
    app = gateway.websocket_endpoint(history=1)
    async with websocket(app) as client:
        await client.accepted()
        since = (await client.record())["channels"]["news"]
    for number in range(5):
        await gateway.plugin.wait_published(str(number), "news")
    async with websocket(app, since=since) as client:
        await client.accepted()
        joined = await client.record()
        assert (joined["recovered"], joined["unrecovered"]) == (True, [])
        assert joined["channels"]["news"] == since
        records = [await client.record() for _ in range(5)]
        assert [record["data"] for record in records] == ["0", "1", "2", "3", "4"]
    async with websocket(app, since=records[2]["id"]) as client:
        await client.accepted()
        await client.record()
        assert [(await client.record())["data"] for _ in range(2)] == ["3", "4"]


async def test_several_channels_resume_each_at_its_own_place(gateway: Gateway) -> None:
    ids = [await gateway.plugin.wait_published(str(n), ["news", "chat"]) for n in range(3)]
    since = json.dumps({"news": ids[0]["news"], "chat": ids[1]["chat"]})
    async with websocket(gateway.websocket_endpoint(["news", "chat"]), since=since) as client:
        await client.accepted()
        assert (await client.record())["recovered"] is True
        seen = [await client.record() for _ in range(3)]
        assert [(r["channel"], r["data"]) for r in seen] == [
            ("news", "1"),
            ("news", "2"),
            ("chat", "2"),
        ]


async def test_a_client_is_told_that_it_could_not_resume() -> None:
    plugin = ChannelsPlugin("memory://?history=2", channels=["news"])
    async with Gateway(plugin, encoding="envelope") as gateway:
        ids = [await plugin.wait_published(str(n), "news") for n in range(5)]
        async with websocket(gateway.websocket_endpoint(), since=ids[0]["news"]) as client:
            await client.accepted()
            joined = await client.record()
            assert (joined["recovered"], joined["unrecovered"]) == (False, ["news"])
            assert await client.record() == {"type": "gap", "channel": "news", "reason": "lost"}
            assert [(await client.record())["data"] for _ in range(2)] == ["3", "4"]


async def test_without_history_no_client_can_resume() -> None:
    plugin = ChannelsPlugin("memory://", channels=["news"])
    async with (
        Gateway(plugin, encoding="envelope") as gateway,
        websocket(gateway.websocket_endpoint(), since="abc-1") as client,
    ):
        await client.accepted()
        assert await client.record() == {
            "type": "joined",
            "channels": {"news": None},
            "recovered": False,
            "unrecovered": ["news"],
        }
        with pytest.raises(HistoryNotSupported):
            gateway.websocket_endpoint(history=3)


# -- gaps ------------------------------------------------------------------------------------


async def test_a_gap_is_a_record_of_the_envelope() -> None:
    backend = FaultyBackend()
    plugin = ChannelsPlugin(backend, channels=["news"])
    async with (
        Gateway(plugin, encoding="envelope") as gateway,
        websocket(gateway.websocket_endpoint()) as client,
    ):
        await client.accepted()
        await client.record()
        backend.cut()
        assert await client.record() == {"type": "gap", "channel": "news", "reason": "lost"}


async def test_a_gap_closes_a_raw_socket() -> None:
    backend = FaultyBackend()
    plugin = ChannelsPlugin(backend, channels=["news"])
    async with Gateway(plugin) as gateway, websocket(gateway.websocket_endpoint()) as client:
        await client.accepted()
        backend.cut()
        assert await client.closed() == CloseCode.GAP
        assert is_empty(gateway)


# -- clients that are too slow -----------------------------------------------------------------


async def fill(plugin: ChannelsPlugin, client: FakeClient, count: int) -> None:
    """Publish while the client takes nothing."""
    client.taking.clear()
    for number in range(count):
        await plugin.wait_published(str(number), "news")
        await asyncio.sleep(0)
        await asyncio.sleep(0)


@pytest.mark.parametrize(
    ("strategy", "expected"),
    [("backoff", ["0", "1", "2", "dropped"]), ("dropleft", ["0", "dropped", "8", "9"])],
)
async def test_what_a_slow_client_misses_is_told(strategy: Any, expected: list[str]) -> None:
    plugin = ChannelsPlugin(
        "memory://", channels=["news"], max_backlog=2, backlog_strategy=strategy
    )
    async with (
        Gateway(plugin, encoding="envelope") as gateway,
        websocket(gateway.websocket_endpoint()) as client,
    ):
        await client.accepted()
        await client.record()
        await fill(plugin, client, 10)
        client.taking.set()
        records = [await client.record() for _ in expected]
        assert [record.get("data", record.get("reason")) for record in records] == expected


async def test_a_raw_client_is_not_closed_for_what_was_dropped() -> None:
    plugin = ChannelsPlugin("memory://", channels=["news"], max_backlog=2)
    async with Gateway(plugin) as gateway, websocket(gateway.websocket_endpoint()) as client:
        await client.accepted()
        await fill(plugin, client, 10)
        client.taking.set()
        assert [await client.data() for _ in range(3)] == ["0", "1", "2"]
        plugin.publish("later", "news")
        assert await client.data() == "later"


async def test_a_slow_client_is_disconnected_and_loses_nothing() -> None:
    plugin = ChannelsPlugin(
        "memory://?history=20", channels=["news"], max_backlog=2, backlog_strategy="disconnect"
    )
    seen: list[dict[str, Any]] = []
    async with Gateway(plugin, encoding="envelope") as gateway:
        app = gateway.websocket_endpoint()
        async with websocket(app) as client:
            await client.accepted()
            await client.record()
            await fill(plugin, client, 10)
            client.taking.set()
            seen += [await client.record() for _ in range(3)]
            # Whatever comes last before the code says that there is a gap.
            while (message := await client.message())["type"] == "websocket.send":
                assert json.loads(message["text"])["type"] == "gap"
            assert message["code"] == CloseCode.TOO_SLOW
        assert is_empty(gateway)
        async with websocket(app, since=seen[-1]["id"]) as client:
            await client.accepted()
            assert (await client.record())["recovered"] is True
            seen += [await client.record() for _ in range(7)]
    assert [record["data"] for record in seen] == [str(n) for n in range(10)]


async def test_the_backlog_is_limited_in_bytes_too() -> None:
    plugin = ChannelsPlugin("memory://", channels=["news"])
    async with (
        Gateway(plugin, limits=Limits(max_backlog_bytes=100)) as gateway,
        websocket(gateway.websocket_endpoint()) as client,
    ):
        await client.accepted()
        client.taking.clear()
        for _ in range(10):
            await plugin.wait_published(b"x" * 40, "news")
            await asyncio.sleep(0)
        client.taking.set()
        plugin.publish("end", "news")
        seen = [await client.data()]
        while seen[-1] != "end":
            seen.append(await client.data())
        assert len(seen) == 4


async def test_a_client_that_takes_nothing_is_cut(plugin: ChannelsPlugin) -> None:
    async with (
        Gateway(plugin, heartbeat=0.05) as gateway,
        websocket(gateway.websocket_endpoint()) as client,
    ):
        await client.accepted()
        await fill(plugin, client, 2)
        await client.ended()
        assert is_empty(gateway)


# -- what a client sends -----------------------------------------------------------------------


async def test_a_message_that_is_too_big_closes(gateway: Gateway) -> None:
    for message in ("x" * 65_537, "\u20ac" * 30_000, b"x" * 65_537):
        async with websocket(gateway.websocket_endpoint()) as client:
            await client.accepted()
            await client.record()
            client.say(message)
            assert await client.closed() == CloseCode.TOO_BIG
    assert is_empty(gateway)


async def test_a_flood_closes_and_a_burst_does_not(plugin: ChannelsPlugin) -> None:
    limits = Limits(max_messages_per_second=1, message_burst=3)
    async with Gateway(plugin, limits=limits) as gateway:
        async with websocket(gateway.websocket_endpoint(publish=True)) as client:
            await client.accepted()
            for _ in range(3):
                client.say("hello")
                assert await client.data() == "hello"
            client.say("hello")
            assert await client.closed() == CloseCode.TOO_FAST
        assert is_empty(gateway)


async def test_what_clients_send_is_ignored_unless_asked_for(gateway: Gateway) -> None:
    async with websocket(gateway.websocket_endpoint()) as client:
        await client.accepted()
        await client.record()
        client.say("hello")
        await gateway.plugin.wait_published("mine", "news")
        assert (await client.record())["data"] == "mine"


async def test_publishing_is_authorized(plugin: ChannelsPlugin) -> None:
    async def authorize(connection: Connection, channel: str, action: str) -> bool:
        return action == "subscribe" or connection.query("token") == "good"

    async with Gateway(plugin, authorize=authorize) as gateway:
        app = gateway.websocket_endpoint(publish=True)
        async with websocket(app, token="good") as good, websocket(app, token="bad") as bad:
            await good.accepted()
            await bad.accepted()
            good.say("hello")
            assert await good.data() == await bad.data() == "hello"
            bad.say("evil")
            assert await bad.closed() == CloseCode.FORBIDDEN


# -- ends --------------------------------------------------------------------------------------


async def test_a_failing_encoding_closes_its_clients(plugin: ChannelsPlugin) -> None:
    class Broken(Envelope):
        def event(self, event: Event) -> str | bytes:
            raise LookupError(event)

    async with (
        Gateway(plugin, encoding=Broken()) as gateway,
        websocket(gateway.websocket_endpoint()) as client,
    ):
        await client.accepted()
        await client.record()
        plugin.publish("x", "news")
        assert await client.closed() == CloseCode.INTERNAL_ERROR
        assert is_empty(gateway)


async def test_an_event_is_encoded_once_for_all(plugin: ChannelsPlugin) -> None:
    class Counting(Raw, Encoding):
        count = 0

        def event(self, event: Event) -> str | bytes:
            self.count += 1
            return super().event(event)

    encoding = Counting()
    async with Gateway(plugin, encoding=encoding) as gateway:
        app = gateway.websocket_endpoint()
        async with websocket(app) as first, websocket(app) as second, websocket(app) as lagging:
            clients = (first, second, lagging)
            for client in clients:
                await client.accepted()
            lagging.taking.clear()
            for text in ("one", "two"):
                plugin.publish(text, "news")
                assert await first.data() == await second.data() == text
            lagging.taking.set()
            assert [await lagging.data(), await lagging.data()] == ["one", "two"]
    assert encoding.count == 2


async def test_stopping_the_plugin_says_restart(plugin: ChannelsPlugin) -> None:
    async with Gateway(plugin) as gateway, websocket(gateway.websocket_endpoint()) as client:
        await client.accepted()
        await plugin.stop()
        assert await client.closed() == CloseCode.RESTART


async def test_a_handler_of_ones_own(plugin: ChannelsPlugin) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        session = await gateway.open_websocket(
            Connection(scope, receive, send),
            ["news", "chat"],
            subprotocol="v1",
            headers=[(b"x-a", b"b")],
        )
        assert session is not None
        async with session:
            assert session.channels == {"news", "chat"}
            await session.send("welcome")
            async for message in session:
                if message == "bye":
                    await session.close(4999, "as you like")
                elif message == "leave":
                    break
                elif message == "fail":
                    raise LookupError
                else:
                    plugin.publish(message, "chat")

    async with Gateway(plugin) as gateway:
        async with websocket(app) as client:
            accept = await client.message()
            assert (accept["subprotocol"], accept["headers"]) == ("v1", [(b"x-a", b"b")])
            assert await client.data() == "welcome"
            client.say("hello")
            assert await client.data() == "hello"
            client.say("bye")
            assert await client.closed() == 4999
        async with websocket(app) as client:
            await client.accepted()
            client.say("leave")
            assert await client.data() == "welcome"
            assert await client.closed() == CloseCode.NORMAL
        with pytest.raises(LookupError):
            async with websocket(app) as client:
                await client.accepted()
                client.say("fail")
                await client.ended()
        assert is_empty(gateway)
        assert not plugin.subscriber_count("chat")


async def test_a_cancelled_handler_says_restart_and_leaves_nothing(gateway: Gateway) -> None:
    client = FakeClient(gateway.websocket_endpoint("news"), {"type": "websocket", "headers": []})
    client.put("websocket.connect")
    await client.accepted()
    await client.record()
    client.task.cancel()
    assert (await client.message())["code"] == CloseCode.RESTART
    with pytest.raises(asyncio.CancelledError):
        await client.task
    assert is_empty(gateway)


async def test_a_client_that_leaves_during_the_handshake(gateway: Gateway) -> None:
    client = FakeClient(gateway.websocket_endpoint("news"), {"type": "websocket", "headers": []})
    client.leave()
    await client.ended()
    assert client.has_nothing

    async def gone(message: object) -> None:
        raise OSError("gone")

    async def connect() -> dict[str, str]:
        return {"type": "websocket.connect"}

    await gateway.websocket_endpoint("news")({"type": "websocket"}, connect, gone)
    assert is_empty(gateway)


async def test_before_and_after_there_is_nothing(plugin: ChannelsPlugin) -> None:
    gateway = Gateway(plugin)
    for _ in range(2):
        async with websocket(gateway.websocket_endpoint()) as client:
            with pytest.raises(NotRunningError):
                await client.ended()
            client.task = asyncio.ensure_future(asyncio.sleep(0))
        async with gateway:
            with pytest.raises(NotRunningError):
                async with gateway:
                    pass
