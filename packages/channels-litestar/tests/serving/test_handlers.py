from __future__ import annotations

import json
from typing import Any

import httpx
import pytest
from litestar import Litestar, Request, WebSocket
from litestar.connection import ASGIConnection
from litestar.exceptions import PermissionDeniedException, WebSocketDisconnect
from litestar.handlers import BaseRouteHandler
from litestar.middleware import DefineMiddleware
from litestar.testing import TestClient
from litestar.types import ASGIApp, Receive, Scope, Send

from channels.core import ConfigurationError
from channels.core.asgi import CloseCode
from channels.litestar import ChannelsException, ChannelsPlugin, Subscriber

from .server import serving


def make_app(plugin: ChannelsPlugin) -> Litestar:
    return Litestar(plugins=[plugin], logging_config=None, openapi_config=None)


def paths(plugin: ChannelsPlugin) -> list[str]:
    return sorted(route.path for route in make_app(plugin).routes)


# -- routes ------------------------------------------------------------------------------------


def test_a_handler_for_each_channel() -> None:
    plugin = ChannelsPlugin(
        "memory://",
        channels=["foo", "a/b", "caf\u00e9 1"],
        create_ws_route_handlers=True,
        create_sse_route_handlers=True,
        ws_handler_base_path="/ws/",
        sse_handler_base_path="ws",
    )
    assert paths(plugin) == sorted(["/ws/foo", "/ws/a/b", "/ws/caf\u00e9 1"] * 2)


def test_one_handler_for_all_channels() -> None:
    plugin = ChannelsPlugin(
        "memory://", arbitrary_channels_allowed=True, create_ws_route_handlers=True
    )
    assert paths(plugin) == ["/{channel_name:str}"]


def test_no_handlers_unless_asked_for() -> None:
    assert paths(ChannelsPlugin("memory://", channels=["foo"])) == []


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"create_ws_route_handlers": True}, "create_ws_route_handlers"),
        ({"create_sse_route_handlers": True}, "create_sse_route_handlers"),
        (
            {"channels": ["a"], "create_ws_route_handlers": True, "ws_handler_send_history": 5},
            "ws_handler_send_history",
        ),
        (
            {"channels": ["a"], "create_sse_route_handlers": True, "sse_handler_send_history": -2},
            "sse_handler_send_history",
        ),
        ({"channels": ["{a}"], "create_ws_route_handlers": True}, "{a}"),
        ({"channels": ["/"], "create_ws_route_handlers": True}, "'/'"),
        ({"channels": ["a", "/a"], "create_ws_route_handlers": True}, "same path"),
        ({"ws_send_mode": "json"}, "ws_send_mode"),
        ({"encoding": "json"}, "encoding"),
    ],
)
def test_options_that_make_no_sense(options: dict[str, Any], named: str) -> None:
    with pytest.raises(ConfigurationError, match=named.replace("{", r"\{")):
        ChannelsPlugin("memory://", **options)


def test_what_the_package_has() -> None:
    assert issubclass(ConfigurationError, ChannelsException)
    assert Subscriber(max_backlog=1).max_backlog == 1


# -- clients -----------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["text", "binary"])
def test_history_then_live_in_each_mode(mode: Any) -> None:
    plugin = ChannelsPlugin(
        "memory://?history=10",
        channels=["foo"],
        create_ws_route_handlers=True,
        ws_handler_send_history=2,
        ws_send_mode=mode,
    )
    with TestClient(make_app(plugin)) as client, client.portal() as portal:
        for number in range(3):
            portal.call(plugin.wait_published, number, "foo")
        with client.websocket_connect("/foo") as socket:
            assert [socket.receive(timeout=3) for _ in range(2)] == [
                {"type": "websocket.send", "text" if mode == "text" else "bytes": data}
                for data in (("1", "2") if mode == "text" else (b"1", b"2"))
            ]
            plugin.publish({"n": 3}, "foo")
            assert socket.receive_json(mode, timeout=3) == {"n": 3}


def test_any_channel_by_its_path() -> None:
    plugin = ChannelsPlugin(
        "memory://",
        arbitrary_channels_allowed=True,
        create_ws_route_handlers=True,
        ws_handler_base_path="/ws",
        ws_handler_publish=True,
        encoding="envelope",
    )
    with (
        TestClient(make_app(plugin)) as client,
        client.websocket_connect("/ws/room:1") as socket,
    ):
        assert socket.receive_json(timeout=3)["channels"] == {"room:1": None}
        socket.send_text("hello")
        record = {"type": "event", "channel": "room:1", "id": None, "data": "hello"}
        assert socket.receive_json(timeout=3) == record


def test_everybody_may_is_said(caplog: pytest.LogCaptureFixture) -> None:
    options: dict[str, Any] = {
        "arbitrary_channels_allowed": True,
        "create_ws_route_handlers": True,
    }
    for closed, warns in (({}, True), ({"authorize": lambda *_: True}, False)):
        caplog.clear()
        with TestClient(make_app(ChannelsPlugin("memory://", **options, **closed))):
            assert ("anybody can subscribe" in caplog.text) is warns


def test_authorize_sees_litestars_connection() -> None:
    seen: list[object] = []

    async def authorize(connection: ASGIConnection, channel: str, action: str) -> bool:
        seen.append(connection)
        return connection.query_params.get("token") == "good"

    plugin = ChannelsPlugin(
        "memory://",
        channels=["foo"],
        create_ws_route_handlers=True,
        create_sse_route_handlers=True,
        authorize=authorize,
    )
    with TestClient(make_app(plugin)) as client:
        with client.websocket_connect("/foo?token=good"):
            pass
        with (
            pytest.raises(WebSocketDisconnect) as refused,
            client.websocket_connect("/foo?token=bad"),
        ):
            pass
        assert refused.value.code == CloseCode.FORBIDDEN
        response = client.get("/sse/foo")
        assert (response.status_code, response.json()["detail"]) == (403, "not allowed")
    assert [type(connection) for connection in seen] == [WebSocket, WebSocket, Request]


class Marking:
    """A middleware that leaves a mark in the scope."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        scope["state"]["marked"] = True
        await self.app(scope, receive, send)


async def test_what_litestar_offers_for_handlers_is_passed_on() -> None:
    guarded: list[tuple[Any, Any]] = []

    def guard(connection: ASGIConnection, handler: BaseRouteHandler) -> None:
        guarded.append((connection.scope["state"].get("marked"), handler.opt["level"]))
        if "key" not in connection.query_params:
            raise PermissionDeniedException

    plugin = ChannelsPlugin(
        "memory://",
        channels=["foo"],
        create_ws_route_handlers=True,
        create_sse_route_handlers=True,
        guards=[guard],
        middleware=[DefineMiddleware(Marking)],
        opt={"level": 7},
    )
    async with (
        serving(make_app(plugin)) as server,
        httpx.AsyncClient(base_url=f"http://127.0.0.1:{server.port}", trust_env=False) as client,
    ):
        assert (await client.get("/sse/foo")).status_code == 403
        async with client.stream("GET", "/sse/foo?key=1") as response:
            assert response.status_code == 200
            assert response.headers["content-type"].startswith("text/event-stream")
            lines = response.aiter_lines()
            seen = [await anext(lines) for _ in range(5)]
            assert "event: joined" in seen
            plugin.publish({"a": 1}, "foo")
            while (line := await anext(lines)) != 'data: {"a":1}':
                assert json.dumps(line)
    assert guarded == [(True, 7)] * 2
    assert plugin.gateway.connection_count == 0


async def test_draining_is_a_call_of_its_own() -> None:
    plugin = ChannelsPlugin("memory://", channels=["foo"], create_sse_route_handlers=True)
    assert await plugin.drain() == 0
    async with (
        serving(make_app(plugin)) as server,
        httpx.AsyncClient(base_url=f"http://127.0.0.1:{server.port}", trust_env=False) as client,
    ):
        async with client.stream("GET", "/sse/foo") as response:
            await plugin.drain(2)
            assert "retry: " in (await response.aread()).decode()
        assert (await client.get("/sse/foo")).status_code == 503
