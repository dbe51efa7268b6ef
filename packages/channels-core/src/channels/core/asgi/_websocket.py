"""One client's WebSocket."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Self

from channels.core._subscriber import Subscriber
from channels.core.asgi._codes import DRAINING, CloseCode, Closing, Refusal
from channels.core.asgi._connection import (
    Message,
    Scope,
    Send,
    WebSocketConnection,
    query,
    respond,
)
from channels.core.asgi._connections import Client
from channels.core.asgi._encoding import Joined
from channels.core.asgi._limits import Allowance
from channels.core.asgi._messages import websocket_message
from channels.core.asgi._outlet import Outlet, SendingOutlet
from channels.core.asgi._pump import cut
from channels.core.asgi._shared_frames import SharingOutlet, offered_frames

if TYPE_CHECKING:
    from channels.core.asgi._admission import Action
    from channels.core.asgi._context import Context

logger = logging.getLogger("channels")

CLOSE_TIMEOUT = 2.0
"""Seconds to send what is queued, and to close, when a session ends."""

_END_CODES = {
    "backlog full": (CloseCode.TOO_SLOW, "backlog full"),
    "stopped": (CloseCode.RESTART, "service restart"),
    "failed": (CloseCode.INTERNAL_ERROR, "internal error"),
    "unsubscribed": (CloseCode.NORMAL, ""),
}


class WebSocketSession(Client):
    """An accepted WebSocket whose client is subscribed, and is being sent events.

    Made by :meth:`Gateway.open_websocket`. Enter it, and iterate over what the client
    sends for as long as it shall live, also where nothing is expected of it: a client that leaves
    is noticed by receiving. Leaving the context unsubscribes, sends what is queued, and closes.

    Messages from the client are limited in size and rate; one that goes beyond ends the iteration.

    Attributes:
        connection: What it was opened with.
        subscriber: Its subscription.
    """

    __slots__ = (
        "_all_sent",
        "_allowance",
        "_closing",
        "_connections",
        "_context",
        "_goodbye",
        "_is_gone",
        "_is_over",
        "_is_receiving",
        "_joined",
        "_loop",
        "_outlet",
        "_received",
        "_waiting",
        "_was_closed",
        "connection",
        "subscriber",
    )

    def __init__(self, context: Context, connection: WebSocketConnection) -> None:
        self.connection = connection
        self.subscriber = Subscriber()
        self._context = context
        self._connections = context.connections
        self._outlet: Outlet | None = None
        self._all_sent: asyncio.Future[None] | None = None
        self._goodbye: asyncio.Task[None] | None = None
        self._loop = asyncio.get_running_loop()
        self._allowance: Allowance | None = None
        self._is_receiving = False
        self._received: asyncio.Future[None] | None = None
        self._waiting: asyncio.Timeout | None = None
        self._closing: tuple[int, str] | None = None
        self._is_gone = False
        self._is_over = False
        self._was_closed = False
        self._joined: Joined | None = None

    @property
    def channels(self) -> frozenset[str]:
        """The channels that the client is subscribed to."""
        return self.subscriber.channels

    # -- what the handler does -------------------------------------------------------------

    async def may(self, action: Action, channel: str) -> bool:
        """Ask ``authorize`` whether the client may do something."""
        return await self._context.admission.allows(self.connection, channel, action)

    async def send(self, data: str | bytes) -> None:
        """Send a message to this client alone; does nothing once it is gone."""
        if self._is_gone or self._is_over:
            return
        try:
            await self.connection.send(websocket_message(data))
        except Exception as exc:
            self._lose(exc)

    async def close(self, code: int = CloseCode.NORMAL, reason: str = "") -> None:
        """End the session: what is queued is sent, then the socket is closed with ``code``."""
        if self._closing is None:
            self._closing = (code, reason)
        await self._context.plugin.unsubscribe(self.subscriber)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        try:
            if isinstance(exc, asyncio.CancelledError):
                # The server ends without having closed its sockets.
                await self.dismiss(0.0)
            elif exc is not None:
                # What the client is told now is the framework's to decide.
                self._is_gone = True
            await self.close()
            await self._finish()
            if exc is None and self._was_closed and not self._is_gone:
                await self._hear_goodbye()
        finally:
            if self._goodbye is not None:
                self._goodbye.cancel()
            self._connections.leave(self)

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> str | bytes:
        # All that an idle client keeps of a coroutine: what can be done later is done elsewhere.
        if self._is_over:
            raise StopAsyncIteration
        self._is_receiving = True
        try:
            # The delivery lets this end, when it does, by setting the time out to now.
            async with asyncio.timeout(None) as self._waiting:
                message = await self.connection.receive()
                self._waiting = None
        except TimeoutError:
            self._is_over = True
            raise StopAsyncIteration from None
        except Exception as exc:
            self._lose(exc)
            raise StopAsyncIteration from None
        finally:
            self._waiting = None
            self._is_receiving = False
            if self._received is not None:
                self._received.set_result(None)
                self._received = None
        if message["type"] == "websocket.disconnect":
            self._lose(None)
            raise StopAsyncIteration
        return await self._checked(message)

    async def _checked(self, message: Message) -> str | bytes:
        """Return what a message says; end the session if it is too large, or one too many."""
        text: str | None = message.get("text")
        data: str | bytes = (message.get("bytes") or b"") if text is None else text
        limits = self._context.limits
        if _size(data, limits.max_message_bytes) > limits.max_message_bytes:
            await self.close(CloseCode.TOO_BIG, f"over {limits.max_message_bytes} bytes")
            raise StopAsyncIteration
        now = self._loop.time()
        if self._allowance is None:
            self._allowance = Allowance(limits, now)
        if not self._allowance.spend(now):
            await self.close(CloseCode.TOO_FAST, "too many messages")
            raise StopAsyncIteration
        return data

    # -- what the gateway does -------------------------------------------------------------

    async def open(self, names: Sequence[str], history: int, accept: Message) -> bool:
        """Subscribe, accept and begin to deliver; or refuse. Says whether the client is in."""
        is_in = False
        try:
            if (await self.connection.receive())["type"] != "websocket.connect":
                return False
            refusal = (
                self._context.admission.refuses_origin(self.connection.scope)
                or self._connections.enter(self)
                or await self._join(names, history)
            )
            try:
                if refusal is None:
                    await self._begin(accept)
                    is_in = True
                else:
                    await _refuse(refusal, self.connection.scope, self.connection.send)
            except Exception as exc:
                self._lose(exc)
        finally:
            if not is_in:
                await self._context.plugin.unsubscribe(self.subscriber)
                self._connections.leave(self)
        return is_in

    async def _join(self, names: Sequence[str], history: int) -> Refusal | None:
        since = query(self.connection.scope, "since")
        joined = await self._context.admission.join(self.connection, names, history, since)
        if isinstance(joined, Refusal):
            return joined
        self.subscriber, self._joined = joined
        return DRAINING if self._connections.draining else None

    async def _begin(self, accept: Message) -> None:
        await self.connection.send(accept)
        assert self._joined is not None
        first = self._context.encoding.joined(self._joined)
        self._joined = None  # an idle client keeps nothing that it does not need
        if first is not None:
            await self.connection.send(websocket_message(first))
        server = offered_frames(self.connection.scope)
        if server is None:
            self._context.note_unshared()
            send, messages = self.connection.send, self._context.messages
            self._outlet = SendingOutlet(self.subscriber, send, messages, self)
        else:
            shared = self._context.shared(server)
            self._outlet = SharingOutlet(self.subscriber, server, shared, self)
        self._outlet.start()

    def tick(self) -> None:
        if self._outlet is not None and self._outlet.is_stuck():
            logger.info("a client took nothing for a while; its WebSocket is cut")
            self.abort()

    async def dismiss(self, spread: float) -> None:
        await self.close(CloseCode.RESTART, "service restart")

    def abort(self) -> None:
        self._is_gone = True
        if self._outlet is not None:
            self._outlet.abort()
        if self._goodbye is not None:
            self._goodbye.cancel()
        self._interrupt()

    # -- delivery --------------------------------------------------------------------------

    def delivered(self, error: BaseException | None) -> None:
        """Close, as all is sent, or nothing more can be."""
        if error is not None and not isinstance(error, Closing):
            self._lose(error)
        if self._is_gone:
            self._interrupt()
        else:
            end = _END_CODES[self.subscriber.end_reason or "stopped"]
            code, reason = error.args if error is not None else self._closing or end
            goodbye = self._say_goodbye(code, reason)
            self._goodbye = self._loop.create_task(goodbye, name="channels-goodbye")
        if self._all_sent is not None and not self._all_sent.done():
            self._all_sent.set_result(None)

    async def _say_goodbye(self, code: int, reason: str) -> None:
        try:
            async with asyncio.timeout(CLOSE_TIMEOUT):
                await self._stop_receiving()
                await self.connection.send(
                    {"type": "websocket.close", "code": code, "reason": reason}
                )
            self._was_closed = True
        except Exception as exc:
            self._lose(exc)
        finally:
            self._interrupt()

    async def _finish(self) -> None:
        outlet = self._outlet
        if outlet is None:
            return
        if not self._is_gone:
            try:
                async with asyncio.timeout(CLOSE_TIMEOUT):
                    if self._goodbye is None:
                        self._all_sent = self._loop.create_future()
                        await self._all_sent
                    if self._goodbye is not None:
                        await asyncio.wait([self._goodbye])
            except TimeoutError:
                logger.info("a client did not take what was sent; its WebSocket is cut")
            if not self._was_closed:
                outlet.abort()
        await outlet.stop()
        if self._goodbye is not None:
            await cut(self._goodbye)

    async def _hear_goodbye(self) -> None:
        """Wait until the client has answered the close: a server that ends may not have sent it."""
        try:
            async with asyncio.timeout(CLOSE_TIMEOUT):
                while (await self.connection.receive())["type"] != "websocket.disconnect":
                    pass
        except Exception as exc:
            logger.debug("a client did not answer its close", exc_info=exc)

    def _lose(self, error: BaseException | None) -> None:
        if error is not None:
            logger.debug("a client is gone", exc_info=error)
        self._is_gone = self._is_over = True

    async def _stop_receiving(self) -> None:
        """Let nothing be received while the close is sent: granian would wait for it."""
        self._interrupt()
        if self._is_receiving:
            self._received = self._loop.create_future()
            await asyncio.wait([self._received])

    def _interrupt(self) -> None:
        """Let the handler stop waiting for the client."""
        self._is_over = True
        waiting, self._waiting = self._waiting, None
        if waiting is not None:
            waiting.reschedule(self._loop.time())


async def _refuse(refusal: Refusal, scope: Scope, send: Send) -> None:
    if "websocket.http.response" in (scope.get("extensions") or {}):
        wait = [(b"retry-after", b"5")] if refusal.status == 503 else []
        await respond(scope, send, refusal.status, refusal.reason, wait)
    else:
        # A server turns this into a 403: it cannot say more before the handshake.
        code, reason = refusal.code, refusal.reason
        await send({"type": "websocket.close", "code": code, "reason": reason})


def _size(data: str | bytes, limit: int) -> int:
    if isinstance(data, str) and len(data) <= limit < 4 * len(data):
        return len(data.encode(errors="surrogatepass"))
    return len(data)
