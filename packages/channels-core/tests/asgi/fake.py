"""A client, and the server between it and an application, without a network."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode

from channels.core.asgi import ASGIApp

shares_frames = False
"""Whether the server offers ``channels.websocket.frames``."""


@dataclass(frozen=True)
class FakeGroup:
    """The connections of one source."""

    source: Any

    def prepare(self, given: Any) -> list[str | bytes] | None:
        if self.source.given is not given:
            return self.source.translate(given)  # type: ignore[no-any-return]
        return self.source.frames  # type: ignore[no-any-return]

    def write(self, connection: FakeConnection, frames: list[str | bytes]) -> int:
        connection.write(frames)
        return len(frames)


class FakeConnection:
    """The server's side of the extension; it buffers one write for a client that takes nothing."""

    def __init__(self, client: FakeClient) -> None:
        self._client = client
        self._source: Any = None
        self._otherwise: Callable[[Any], bool] | None = None
        self._held: list[str | bytes] = []
        self.is_open = False
        self.on_ready: Callable[[], object] | None = None
        self.on_refuse: Callable[[], object] | None = None
        self.on_regroup: Callable[[], object] | None = None

    @staticmethod
    def encode(data: str | bytes) -> list[str | bytes]:
        return [data]

    @staticmethod
    def join(run: Sequence[list[str | bytes]]) -> list[str | bytes]:
        return [data for frames in run for data in frames]

    @property
    def buffered(self) -> int:
        return len(self._held)

    def write(self, frames: list[str | bytes]) -> bool:
        if not self.is_open or self._held:
            return False
        self._held += frames
        if self._client.taking.is_set():
            self.flush()
        else:
            self._refuse()
        return True

    def _refuse(self) -> None:
        if self.on_refuse is not None:
            self.on_refuse()

    def sink(self, source: Any, otherwise: Callable[[Any], bool] | None = None) -> FakeConnection:
        self._source, self._otherwise = source, otherwise
        return self

    @property
    def shared_group(self) -> FakeGroup | None:
        refuses = not self.is_open or self._held or self.on_refuse is None
        return None if refuses else FakeGroup(self._source)

    @property
    def shared_writer(self) -> FakeConnection:
        return self

    def __call__(self, given: Any) -> bool:
        if not self.is_open or self._held:
            return False
        frames = FakeGroup(self._source).prepare(given)
        if frames is None:
            return self._otherwise is not None and self._otherwise(given)
        return self.write(frames)

    def flush(self) -> None:
        held, self._held = self._held, []
        for data in held:
            kind = "text" if isinstance(data, str) else "bytes"
            self._client.show({"type": "websocket.send", kind: data})

    def drained(self) -> None:
        if self._held:
            self.flush()
            if self.on_ready is not None:
                self.on_ready()

    def close(self) -> None:
        self.is_open = False
        self._refuse()

    def abort(self) -> None:
        self.close()
        self._held = []
        self._client.leave()


class Taking(asyncio.Event):
    """Whether the client takes what is sent."""

    connection: FakeConnection | None = None

    def set(self) -> None:
        super().set()
        if self.connection is not None:
            self.connection.drained()


class FakeClient:
    """What a client sees of an ASGI application.

    Attributes:
        taking: Cleared, the client takes nothing: what the application sends does not return.
    """

    def __init__(self, app: ASGIApp, scope: dict[str, Any]) -> None:
        self.scope = scope
        self.taking = Taking()
        self.taking.set()
        self.connection = FakeConnection(self)
        if scope["type"] == "websocket" and shares_frames:
            self.taking.connection = self.connection
            offer = {"version": 1, "connection": self.connection}
            scope.setdefault("extensions", {})["channels.websocket.frames"] = offer
        self._in: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        self._out: asyncio.Queue[Any] = asyncio.Queue()
        self.task = asyncio.ensure_future(app(scope, self._in.get, self._send))

    async def _send(self, message: Any) -> None:
        await self.taking.wait()
        self.show(message)
        if message["type"] == "websocket.accept":
            self.connection.is_open = True
        if message["type"] == "websocket.close":
            self.connection.close()
            self.leave()

    def show(self, message: Any) -> None:
        self._out.put_nowait(message)

    def put(self, kind: str, **content: object) -> None:
        self._in.put_nowait({"type": kind, **content})

    def say(self, data: str | bytes) -> None:
        self.put("websocket.receive", **{"text" if isinstance(data, str) else "bytes": data})

    def leave(self) -> None:
        kind = "http.disconnect" if self.scope["type"] == "http" else "websocket.disconnect"
        self.put(kind, code=1005)

    async def message(self) -> dict[str, Any]:
        """Return the next message from the application."""
        async with asyncio.timeout(3):
            message: dict[str, Any] = await self._out.get()
            return message

    @property
    def has_nothing(self) -> bool:
        return self._out.empty()

    async def accepted(self) -> None:
        assert (await self.message())["type"] == "websocket.accept"

    async def data(self) -> str | bytes:
        """Return the payload of the next WebSocket message."""
        message = await self.message()
        assert message["type"] == "websocket.send", message
        data: str | bytes = message["text"] if "text" in message else message["bytes"]
        return data

    async def record(self) -> dict[str, Any]:
        """Return the next message of the envelope."""
        record: dict[str, Any] = json.loads(await self.data())
        return record

    async def closed(self) -> int:
        """Return the close code that comes next, and wait until the application has ended."""
        message = await self.message()
        assert message["type"] == "websocket.close", message
        code: int = message["code"]
        await self.ended()
        return code

    async def refused(self) -> tuple[int, bytes]:
        """Return status and body of the answer to a handshake or a request."""
        start = await self.message()
        assert start["type"].endswith("http.response.start"), start
        body = await self.message()
        await self.ended()
        return start["status"], body["body"]

    async def block(self) -> dict[str, str]:
        """Return the fields of the next part of an event stream."""
        body = (await self.message())["body"].decode()
        fields: dict[str, str] = {}
        for line in body.splitlines():
            name, _, value = line.partition(": ")
            fields[name] = f"{fields[name]}\n{value}" if name in fields else value
        return fields

    async def ended(self) -> None:
        async with asyncio.timeout(3):
            await self.task


@asynccontextmanager
async def websocket(
    app: ASGIApp,
    channel: str = "news",
    *,
    headers: Mapping[str, str] | None = None,
    can_deny: bool = True,
    **query: str,
) -> AsyncIterator[FakeClient]:
    """Open a WebSocket; leaves at the end if it has not."""
    extensions = {"websocket.http.response": {}} if can_deny else {}
    scope = make_scope("websocket", channel, headers, query) | {"extensions": extensions}
    client = FakeClient(app, scope)
    client.put("websocket.connect")
    async with leaving(client):
        yield client


@asynccontextmanager
async def event_source(
    app: ASGIApp,
    channel: str = "news",
    *,
    headers: Mapping[str, str] | None = None,
    method: str = "GET",
    **query: str,
) -> AsyncIterator[FakeClient]:
    """Send a request; leaves at the end if it has not."""
    client = FakeClient(app, make_scope("http", channel, headers, query) | {"method": method})
    client.put("http.request", body=b"", more_body=False)
    async with leaving(client):
        yield client


@asynccontextmanager
async def leaving(client: FakeClient) -> AsyncIterator[None]:
    try:
        yield
    finally:
        client.leave()
        client.taking.set()
        await client.ended()


def make_scope(
    kind: str, channel: str, headers: Mapping[str, str] | None, query: Mapping[str, str]
) -> dict[str, Any]:
    given = {"host": "app.example.org", **(headers or {})}
    return {
        "type": kind,
        "path": f"/{channel}",
        "path_params": {"channel": channel},
        "query_string": urlencode(query).encode(),
        "headers": [(name.encode(), value.encode()) for name, value in given.items()],
    }
