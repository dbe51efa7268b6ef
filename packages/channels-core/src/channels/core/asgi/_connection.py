"""What a server gives an application: a scope, a function to receive, a function to send."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Iterable, Mapping, MutableMapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol
from urllib.parse import unquote_plus

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Headers = Iterable[tuple[bytes, bytes]]
ASGIApp = Callable[[Scope, Receive, Send], Awaitable[None]]


class WebSocketConnection(Protocol):
    """A WebSocket that is not accepted yet: the ``WebSocket`` of Litestar or Starlette is one.

    ``authorize`` gets the very object that was passed in, so that it can look at what the
    framework's middleware left there, as in ``connection.user``.
    """

    @property
    def scope(self) -> Any:
        """The scope as ASGI defines it."""
        ...

    @property
    def receive(self) -> Callable[[], Awaitable[Any]]:
        """Wait for the next message from the client."""
        ...

    @property
    def send(self) -> Callable[[Any], Awaitable[None]]:
        """Send a message to the client."""
        ...


@dataclass(frozen=True, slots=True, eq=False)
class Connection:
    """A connection where no framework brings its own class.

    Args:
        scope: The scope as ASGI defines it.
        receive: Waits for the next message from the client.
        send: Sends a message to it.
    """

    scope: Scope
    receive: Receive
    send: Send

    @property
    def path_params(self) -> Mapping[str, Any]:
        """What the router took out of the path."""
        params: Mapping[str, Any] = self.scope.get("path_params") or {}
        return params

    def header(self, name: str) -> str | None:
        """Return the first header of that name; None if there is none."""
        return header(self.scope, name)

    def query(self, name: str) -> str | None:
        """Return the first query parameter of that name; None if there is none."""
        return query(self.scope, name)


def header(scope: Scope, name: str) -> str | None:
    """Return the first header of that name; None if there is none."""
    wanted = name.lower().encode("latin-1")
    for key, value in scope.get("headers") or ():
        if key.lower() == wanted:
            return bytes(value).decode("latin-1")
    return None


def query(scope: Scope, name: str) -> str | None:
    """Return the first query parameter of that name; None if there is none."""
    text = bytes(scope.get("query_string") or b"").decode("latin-1")
    for field in text.split("&"):
        key, _, value = field.partition("=")
        if unquote_plus(key) == name:
            return unquote_plus(value)
    return None


async def respond(
    scope: Scope, send: Send, status: int, detail: str, headers: Sequence[tuple[bytes, bytes]] = ()
) -> None:
    """Answer a request, or a WebSocket handshake, with a status and a JSON body."""
    kind = "websocket.http.response" if scope["type"] == "websocket" else "http.response"
    body = json.dumps({"status_code": status, "detail": detail}).encode()
    fields = [
        (b"content-type", b"application/json"),
        (b"content-length", str(len(body)).encode()),
        *headers,
    ]
    await send({"type": f"{kind}.start", "status": status, "headers": fields})
    await send({"type": f"{kind}.body", "body": body, "more_body": False})
