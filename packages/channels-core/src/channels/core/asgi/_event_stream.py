"""One client's stream of server-sent events."""

from __future__ import annotations

import asyncio
import json
import logging
import random
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from channels.core._event import Event
from channels.core._subscriber import Subscriber
from channels.core.asgi._codes import CROWDED, DRAINING, Refusal
from channels.core.asgi._connection import Connection, Receive, Scope, Send, header, query, respond
from channels.core.asgi._connections import Client
from channels.core.asgi._encoding import Joined
from channels.core.asgi._lines import joined_lines, retry_line
from channels.core.asgi._messages import Messages, Prototype, body_message
from channels.core.asgi._outlet import SendingOutlet

if TYPE_CHECKING:
    from channels.core.asgi._context import Context

logger = logging.getLogger("channels")

CLOSE_TIMEOUT = 2.0
"""Seconds to send what is queued, and to end the response, when a stream ends."""

_HEADERS = [
    (b"content-type", b"text/event-stream; charset=utf-8"),
    (b"cache-control", b"no-cache, no-store"),
    (b"x-accel-buffering", b"no"),
]


_HEARTBEAT = b":\n\n"


class EventStream:
    """An ASGI application that answers one request with a channel's events, for ``EventSource``.

    Made by :meth:`Gateway.event_stream`. A handler of Litestar returns it; elsewhere it is called
    with ``scope``, ``receive`` and ``send``.

    Each event is a message with the payload as ``data`` and its id as ``id``, from which the
    browser resumes by itself (``Last-Event-ID``). An event of type ``joined`` comes first, and one
    of type ``gap`` wherever events are missing; both have a JSON object as data. While nothing
    happens a comment is sent as a heartbeat.

    Args:
        context: What it shares with the gateway's other connections.
        connection: What ``authorize`` is asked with. None: the one that it is called with.
        channels: Their names.
        history: How many of the newest events come first for a client that does not resume.
    """

    def __init__(
        self,
        context: Context,
        connection: object | None,
        channels: Sequence[str],
        history: int,
    ) -> None:
        self._context = context
        self._connection = connection
        self._names = channels
        self._history = history

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Answer the request."""
        connection = self._connection or Connection(scope, receive, send)
        client = _StreamClient(self._context, len(self._names) > 1, receive, send)
        refusal = self._context.connections.enter(client)
        try:
            if refusal is None:
                refusal = await self._join(client, connection, scope)
            if refusal is not None:
                await self._refuse(refusal, scope, send)
            elif scope.get("method") == "HEAD":
                await send({"type": "http.response.start", "status": 200, "headers": _HEADERS})
                await send({"type": "http.response.body"})
            else:
                await client.serve()
        finally:
            self._context.connections.leave(client)
            if client.subscriber is not None:
                await self._context.plugin.unsubscribe(client.subscriber)

    async def _join(
        self, client: _StreamClient, connection: object, scope: Scope
    ) -> Refusal | None:
        since = header(scope, "last-event-id") or query(scope, "since")
        joined = await self._context.admission.join(connection, self._names, self._history, since)
        if isinstance(joined, Refusal):
            return joined
        client.subscriber, client.joined = joined
        return DRAINING if self._context.connections.draining else None

    async def _refuse(self, refusal: Refusal, scope: Scope, send: Send) -> None:
        retry = self._context.retry
        if refusal in (DRAINING, CROWDED) and "text/event-stream" in (
            header(scope, "accept") or ""
        ):
            # An EventSource gives up for ever at any status but 200, and tries again after this.
            await send({"type": "http.response.start", "status": 200, "headers": _HEADERS})
            body = retry_line(retry + random.uniform(0, 2 * retry))
            await send({"type": "http.response.body", "body": body, "more_body": False})
            return
        wait = [(b"retry-after", b"%d" % max(1, round(retry)))] if refusal.status == 503 else []
        await respond(scope, send, refusal.status, refusal.reason, wait)


class _StreamClient(Client):
    """The client of one stream, from its response's first byte to the last."""

    def __init__(self, context: Context, has_many: bool, receive: Receive, send: Send) -> None:
        self.subscriber: Subscriber | None = None
        self.joined = Joined({})
        self._context = context
        self._receive = receive
        self._send = send
        self._ids: dict[str, str | None] | None = {} if has_many else None
        self._retry = context.retry
        self._loop = asyncio.get_running_loop()
        self._outlet: SendingOutlet | None = None
        self._all_sent: asyncio.Future[None] = self._loop.create_future()
        self._waiting: asyncio.Timeout | None = None
        self._ending: asyncio.Timeout | None = None
        self._is_gone = False
        self._beaten = 0

    async def serve(self) -> None:
        assert self.subscriber is not None
        await self._send({"type": "http.response.start", "status": 200, "headers": _HEADERS})
        await self._send(body_message(self._first()))
        translate = self._context.bodies if self._ids is None else self._body_with_ids
        outlet = self._outlet = SendingOutlet(self.subscriber, self._send, translate, self)
        outlet.start()
        try:
            await self._wait_until_gone()
        except asyncio.CancelledError:
            # The server ends without having waited for the end of the response.
            await self.dismiss(0.0)
            raise
        finally:
            await self._finish(outlet)

    async def _wait_until_gone(self) -> None:
        try:
            # The delivery lets this end, when it does, by setting the time out to now.
            async with asyncio.timeout(0 if self._all_sent.done() else None) as self._waiting:
                while (await self._receive())["type"] != "http.disconnect":
                    pass
                self._is_gone = True
                self._waiting = None
        except TimeoutError:
            pass
        finally:
            self._waiting = None

    # -- what the gateway does -------------------------------------------------------------

    def tick(self) -> None:
        outlet = self._outlet
        if outlet is None:
            return
        if outlet.is_stuck():
            logger.info("a client took nothing for a while; its event stream is cut")
            self.abort()
        elif outlet.is_idle and outlet.written == self._beaten:
            outlet.note(body_message(_HEARTBEAT))
        self._beaten = outlet.written

    async def dismiss(self, spread: float) -> None:
        self._retry += random.uniform(0, max(self._retry, spread))
        if self.subscriber is not None:
            await self._context.plugin.unsubscribe(self.subscriber)

    def abort(self) -> None:
        self._is_gone = True
        if self._outlet is not None:
            self._outlet.abort()
        self._interrupt()
        if self._ending is not None:
            self._ending.reschedule(self._loop.time())

    # -- delivery --------------------------------------------------------------------------

    def delivered(self, error: BaseException | None) -> None:
        if error is not None:
            self._lose(error)
        if not self._all_sent.done():
            self._all_sent.set_result(None)
        self._interrupt()

    async def _finish(self, outlet: SendingOutlet) -> None:
        try:
            async with asyncio.timeout(CLOSE_TIMEOUT) as self._ending:
                if not self._is_gone:
                    await self._all_sent
                if not self._is_gone:
                    end = {"body": retry_line(self._retry), "more_body": False}
                    await self._send({"type": "http.response.body", **end})
        except Exception as exc:
            self._lose(exc)
        finally:
            self._ending = None
        await outlet.stop()

    def _lose(self, error: BaseException) -> None:
        logger.debug("an event stream's client is gone", exc_info=error)
        self._is_gone = True

    def _interrupt(self) -> None:
        """Let the handler stop waiting for the client."""
        waiting, self._waiting = self._waiting, None
        if waiting is not None:
            waiting.reschedule(self._loop.time())

    def _first(self) -> bytes:
        ids = self.joined.channels
        if self._ids is not None:
            self._ids = dict(ids)
            identity: str | None = json.dumps(self._ids)
        else:
            identity = next(iter(ids.values()))
        return retry_line(self._retry) + joined_lines(self.joined, identity)

    def _body_with_ids(self, events: Sequence[Event]) -> Messages[Prototype]:
        blocks = zip(events, self._context.blocks(events), strict=True)
        return Messages([body_message(b"".join([self._with_ids(*each) for each in blocks]))], None)

    def _with_ids(self, event: Event, block: bytes) -> bytes:
        """Let the id stand for the place in all channels, as there are several."""
        assert self._ids is not None
        if event.id is None:
            return block
        self._ids[event.channel] = event.id
        return b"id: %b\n" % json.dumps(self._ids).encode() + block.partition(b"\n")[2]
