"""The route handlers that the plugin generates."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple

from litestar import Request, WebSocket, get, websocket
from litestar.connection import ASGIConnection
from litestar.handlers import BaseRouteHandler
from litestar.types import ASGIApp

from channels.core import ConfigurationError
from channels.core.asgi import Gateway

PATH_PARAMETER = "channel_name"
"""What a handler for all channels takes from the path."""


class Routes(NamedTuple):
    """Where generated handlers are.

    Attributes:
        base_path: What all paths begin with.
        channels: Which have a handler each; None: one for all, with the name in the path.
        history: How many of the newest events a client is sent first.
        options: What Litestar is told about each handler.
    """

    base_path: str
    channels: Iterable[str] | None
    history: int
    options: Mapping[str, Any]

    def paths(self) -> Iterator[tuple[str, str | None]]:
        """Give each path, and the channel that is served there.

        Raises:
            ConfigurationError: A declared channel cannot be part of a path, or two would share one.
        """
        base = self.base_path.rstrip("/") + "/"
        if self.channels is None:
            yield f"{base}{{{PATH_PARAMETER}:str}}", None
            return
        taken: dict[str, str] = {}
        for name in sorted(self.channels):
            path = "/".join(piece for piece in name.split("/") if piece)
            if not path or "{" in name or "}" in name:
                raise ConfigurationError(
                    f"channel {name!r} cannot be part of a path; write a handler of your own "
                    f"for it, with gateway.serve_websocket()"
                )
            if path in taken:
                raise ConfigurationError(
                    f"channels {taken[path]!r} and {name!r} would have the same path {base + path}"
                )
            taken[path] = name
            yield base + path, name


def websocket_handlers(
    gateway: Gateway, routes: Routes, *, publish: bool
) -> Iterator[BaseRouteHandler]:
    """Make the handlers that serve WebSockets."""

    def make(path: str, channel: str | None) -> BaseRouteHandler:
        async def serve(socket: WebSocket[Any, Any, Any]) -> None:
            name = _name(socket, channel)
            await gateway.serve_websocket(socket, name, history=routes.history, publish=publish)

        return websocket(path, **routes.options)(serve)

    return (make(path, channel) for path, channel in routes.paths())


def event_stream_handlers(gateway: Gateway, routes: Routes) -> Iterator[BaseRouteHandler]:
    """Make the handlers that answer with server-sent events."""

    def make(path: str, channel: str | None) -> BaseRouteHandler:
        async def stream(request: Request[Any, Any, Any]) -> ASGIApp:
            name = _name(request, channel)
            return gateway.event_stream(name, history=routes.history, connection=request)

        return get(path, include_in_schema=False, **routes.options)(stream)

    return (make(path, channel) for path, channel in routes.paths())


def _name(connection: ASGIConnection[Any, Any, Any, Any], channel: str | None) -> str:
    return str(connection.path_params[PATH_PARAMETER]) if channel is None else channel
