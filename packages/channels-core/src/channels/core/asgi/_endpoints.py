"""Gateways as routes of an ASGI framework."""

from __future__ import annotations

from collections.abc import Awaitable, Sequence
from typing import TYPE_CHECKING, Any

from channels.core.asgi._connection import ASGIApp, Connection, Scope, respond

if TYPE_CHECKING:
    from channels.core.asgi._gateway import Gateway


def websocket_endpoint(
    gateway: Gateway, channels: Sequence[str] | None, history: int, publish: bool
) -> ASGIApp:
    """Return an application for scopes of type ``websocket``."""

    def serve(connection: Connection, names: Sequence[str]) -> Awaitable[None]:
        return gateway.serve_websocket(connection, names, history=history, publish=publish)

    return _Endpoint("websocket", channels, serve)


def event_stream_endpoint(
    gateway: Gateway, channels: Sequence[str] | None, history: int
) -> ASGIApp:
    """Return an application for scopes of type ``http``."""

    async def serve(connection: Connection, names: Sequence[str]) -> None:
        scope, receive, send = connection.scope, connection.receive, connection.send
        if scope["method"] not in ("GET", "HEAD"):
            await respond(scope, send, 405, "method not allowed", [(b"allow", b"GET")])
            return
        stream = gateway.event_stream(names, history=history, connection=connection)
        await stream(scope, receive, send)

    return _Endpoint("http", channels, serve)


class _Endpoint:
    """An object, not a function, as Starlette takes functions for its own kind of endpoint."""

    def __init__(self, kind: str, channels: Sequence[str] | None, serve: Any) -> None:
        self._kind = kind
        self._names = channels
        self._serve = serve

    async def __call__(self, scope: Scope, receive: Any, send: Any) -> None:
        connection = Connection(scope, receive, send)
        if scope["type"] != self._kind:
            await respond(scope, send, 426 if self._kind == "websocket" else 404, "wrong protocol")
            return
        names = self._names
        if names is None:
            names = [str(connection.path_params.get("channel", ""))]
        await self._serve(connection, names)
