"""Between a plugin and the clients of an ASGI server."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from types import TracebackType
from typing import Literal, Self

from channels.core._errors import (
    ChannelsException,
    ConfigurationError,
    HistoryNotSupported,
    NotRunningError,
    UnknownChannelError,
)
from channels.core._names import check_name, expand
from channels.core._plugin import ChannelsPlugin
from channels.core.asgi._admission import Action, Admission, Authorize
from channels.core.asgi._codes import CloseCode
from channels.core.asgi._connection import ASGIApp, Headers, WebSocketConnection
from channels.core.asgi._connections import Connections
from channels.core.asgi._context import Context
from channels.core.asgi._encoding import Encoding, Envelope, Raw
from channels.core.asgi._endpoints import event_stream_endpoint, websocket_endpoint
from channels.core.asgi._event_stream import EventStream
from channels.core.asgi._limits import Limits
from channels.core.asgi._signals import TerminationHandler
from channels.core.asgi._websocket import WebSocketSession
from channels.core.options import check_callable, check_count, check_flag, check_seconds, check_type

logger = logging.getLogger("channels")


class Gateway:
    """Lets clients in, and keeps them: WebSockets and event streams over any ASGI server.

    ::

        channels = ChannelsPlugin("redis+stream://localhost?history=100", channels=["news"])
        gateway = Gateway(channels, encoding="envelope", authorize=may)

        app = Starlette(
            routes=[WebSocketRoute("/ws/{channel}", gateway.websocket_endpoint())],
            lifespan=gateway.lifespan,
        )

    Entering it starts the plugin, and leaving it drains and stops it.

    Args:
        plugin: Whose channels.
        authorize: Called with the connection, a channel, and ``"subscribe"`` or ``"publish"``,
            before a client is accepted; only True lets it in. Plain or async. Default None:
            everybody may.
        allowed_origins: Pages that may open WebSockets, besides those of the same host: origins
            such as ``"https://app.example.org"``, or ``"*"`` for any. A client without an
            ``Origin`` is no page, and may. Of event streams CORS decides, not this.
        encoding: What clients see of events: ``"raw"`` for payloads alone, ``"envelope"`` for
            JSON records with which they can resume, or an :class:`Encoding`. Default ``"raw"``.
        limits: What clients may use. Default: see :class:`Limits`.
        heartbeat: Seconds between two signs of life in a silent event stream. A client that takes
            nothing for one to two of them is cut. Default 15.
        retry: Seconds after which an ``EventSource`` connects again. Default 2.
        drain_timeout: Seconds that draining takes at most where nothing else is said. Default 10.
        drain_on_signal: Drain at SIGTERM and SIGINT, before the server closes all connections at
            once, or waits for event streams that do not end. Default False.

    Raises:
        ConfigurationError: An option is wrong; the message names it.
    """

    def __init__(
        self,
        plugin: ChannelsPlugin,
        *,
        authorize: Authorize | None = None,
        allowed_origins: str | Iterable[str] = (),
        encoding: Literal["raw", "envelope"] | Encoding = "raw",
        limits: Limits | None = None,
        heartbeat: float = 15.0,
        retry: float = 2.0,
        drain_timeout: float = 10.0,
        drain_on_signal: bool = False,
    ) -> None:
        check_type(ChannelsPlugin, "the ChannelsPlugin whose channels they are", plugin=plugin)
        check_callable(authorize=authorize)
        check_seconds(heartbeat=heartbeat, retry=retry, drain_timeout=drain_timeout)
        check_flag(drain_on_signal=drain_on_signal)
        limits = Limits() if limits is None else limits
        check_type(Limits, "Limits(...), or None", limits=limits)
        admission = Admission(plugin, authorize, allowed_origins, limits)
        self._context = Context(plugin, admission, _chosen(encoding), limits, retry)
        self._heartbeat = heartbeat
        self._drain_timeout = drain_timeout
        self._drain_on_signal = drain_on_signal
        self._stack = AsyncExitStack()

    @property
    def plugin(self) -> ChannelsPlugin:
        """Whose channels these are."""
        return self._context.plugin

    @property
    def connection_count(self) -> int:
        """How many clients are connected."""
        return 0 if self._context.running is None else len(self._context.running)

    # -- start and stop --------------------------------------------------------------------

    async def __aenter__(self) -> Self:
        if self._context.running is not None:
            raise NotRunningError("the gateway is running already")
        async with AsyncExitStack() as stack:
            await stack.enter_async_context(self.plugin)
            signals = TerminationHandler(self.drain) if self._drain_on_signal else None
            connections = Connections(
                self._context.limits.max_connections,
                self._heartbeat,
                None if signals is None else signals.claim,
            )
            self._context.running = connections
            stack.callback(self._forget_connections)
            watch = asyncio.create_task(connections.watch(), name="channels-heartbeat")
            stack.push_async_callback(_end, watch)
            stack.push_async_callback(self.drain)
            if signals is not None:
                signals.install()
                stack.push_async_callback(signals.remove)
            self._stack = stack.pop_all()
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self._stack.aclose()

    def _forget_connections(self) -> None:
        self._context.running = None

    @asynccontextmanager
    async def lifespan(self, app: object) -> AsyncIterator[None]:
        """Run as long as ``app`` does: what Starlette and FastAPI take as ``lifespan``."""
        async with self:
            yield

    async def drain(self, deadline: float | None = None) -> int:
        """Send all clients away, in batches so that they do not come back all at once.

        From now on new ones are refused. Those who are here are sent what is queued for them; then
        WebSockets are closed with 1012, and event streams end with a ``retry:``. May be called
        again, and then waits for the first call. Leaving the gateway calls it.

        Args:
            deadline: Seconds after which those who did not leave are cut. Default None:
                ``drain_timeout``.

        Returns:
            How many were cut.
        """
        if self._context.running is None:
            return 0
        timeout = self._drain_timeout if deadline is None else deadline
        return await self._context.running.drain(timeout)

    # -- clients ---------------------------------------------------------------------------

    async def open_websocket(
        self,
        connection: WebSocketConnection,
        channels: str | Iterable[str],
        *,
        history: int = 0,
        subprotocol: str | None = None,
        headers: Headers = (),
    ) -> WebSocketSession | None:
        """Subscribe the client of a WebSocket that is not accepted yet, then accept it.

        It resumes after the query parameter ``since``: the id of an event, or a JSON object of
        channels and ids. Nothing that is published after the handshake is missed.

        ::

            session = await gateway.open_websocket(socket, "chat")
            if session is not None:
                async with session:
                    async for message in session:
                        if await session.may("publish", "chat"):
                            channels.publish(message, "chat")

        Args:
            connection: Something with ``scope``, ``receive`` and ``send``, such as the
                ``WebSocket`` of Litestar or Starlette.
            channels: One name or several, declared ones or what the client asks for.
            history: How many of the newest events of each channel come first for a client that
                does not resume; -1: all that are kept. Default 0.
            subprotocol: Which of the client's to accept. Default None.
            headers: To accept with.

        Returns:
            None where the client was refused, and has been told why.

        Raises:
            HistoryNotSupported: ``history``, and the backend keeps none.
            NotRunningError: The gateway was not entered.
        """
        self._check_history(history)
        names = expand(channels)
        session = WebSocketSession(self._context, connection)
        is_in = await session.open(
            names,
            history,
            {
                "type": "websocket.accept",
                "subprotocol": subprotocol,
                "headers": list(headers),
            },
        )
        return session if is_in else None

    async def serve_websocket(
        self,
        connection: WebSocketConnection,
        channels: str | Iterable[str],
        *,
        history: int = 0,
        publish: bool = False,
    ) -> None:
        """Serve a WebSocket from its handshake to its end; see :meth:`open_websocket`.

        Args:
            connection: Something with ``scope``, ``receive`` and ``send``.
            channels: One name or several.
            history: How many of the newest events come first. Default 0.
            publish: Publish what the client sends to the channels, where ``authorize`` lets it;
                else the session is closed with 4403. Default False: it is ignored.
        """
        session = await self.open_websocket(connection, channels, history=history)
        if session is None:
            return
        async with session:
            async for message in session:
                if publish:
                    await self._publish(session, message)

    async def _publish(self, session: WebSocketSession, message: str | bytes) -> None:
        names = sorted(session.channels)
        for name in names:
            if not await session.may("publish", name):
                await session.close(CloseCode.FORBIDDEN, "not allowed to publish")
                return
        try:
            self.plugin.publish(message, names)
        except ChannelsException as exc:
            logger.warning("a client's message was not published: %s", exc)
            await session.close(CloseCode.TRY_LATER, "not published")

    def event_stream(
        self,
        channels: str | Iterable[str],
        *,
        history: int = 0,
        connection: object | None = None,
    ) -> EventStream:
        """Return an ASGI application that answers a request with server-sent events.

        It resumes after the header ``Last-Event-ID``, or else the query parameter ``since``.

        Args:
            channels: One name or several.
            history: How many of the newest events of each channel come first for a client that
                does not resume; -1: all that are kept. Default 0.
            connection: What ``authorize`` is asked with, such as the framework's request.
                Default: a :class:`Connection`.

        Raises:
            HistoryNotSupported: ``history``, and the backend keeps none.
        """
        self._check_history(history)
        return EventStream(self._context, connection, expand(channels), history)

    def websocket_endpoint(
        self,
        channels: str | Iterable[str] | None = None,
        *,
        history: int = 0,
        publish: bool = False,
    ) -> ASGIApp:
        """Return an ASGI application that serves WebSockets; see :meth:`serve_websocket`.

        Args:
            channels: One name or several. Default None: the path parameter ``channel``.
            history: How many of the newest events come first. Default 0.
            publish: Publish what a client sends. Default False.

        Raises:
            UnknownChannelError: A channel may not be used.
            HistoryNotSupported: ``history``, and the backend keeps none.
        """
        self._check_history(history)
        check_flag(publish=publish)
        return websocket_endpoint(self, self._usable(channels), history, publish)

    def event_stream_endpoint(
        self, channels: str | Iterable[str] | None = None, *, history: int = 0
    ) -> ASGIApp:
        """Return an ASGI application that serves event streams; see :meth:`event_stream`.

        Args:
            channels: One name or several. Default None: the path parameter ``channel``.
            history: How many of the newest events come first. Default 0.

        Raises:
            UnknownChannelError: A channel may not be used.
            HistoryNotSupported: ``history``, and the backend keeps none.
        """
        self._check_history(history)
        return event_stream_endpoint(self, self._usable(channels), history)

    async def authorizes(self, connection: object, channel: str, action: Action) -> bool:
        """Ask ``authorize``; an answer other than True, and an exception, is a no."""
        return await self._context.admission.allows(connection, channel, action)

    def _usable(self, channels: str | Iterable[str] | None) -> Sequence[str] | None:
        """Return the names that an endpoint is made for; None: it is the client who names one."""
        if channels is None:
            return None
        names = expand(channels)
        if not names:
            raise ConfigurationError("channels=[]: pass a name, several, or None for the path's")
        for name in names:
            check_name(name)
            if name not in self.plugin.channels and not self.plugin.arbitrary_channels_allowed:
                raise UnknownChannelError(name)
        return names

    def _check_history(self, history: int) -> None:
        check_count(-1, takes="how many events, or -1 for all kept", history=history)
        backend = self.plugin.backend
        if history and not backend.keeps_history:
            raise HistoryNotSupported(
                f"history={history} needs a backend that keeps history; "
                f"{type(backend).__name__} as configured keeps none"
            )


async def _end(task: asyncio.Task[None]) -> None:
    task.cancel()
    await asyncio.wait([task])


def _chosen(encoding: Literal["raw", "envelope"] | Encoding) -> Encoding:
    if encoding == "raw":
        return Raw()
    if encoding == "envelope":
        return Envelope()
    if isinstance(encoding, str):
        raise ConfigurationError(f"encoding={encoding!r}: use 'raw', 'envelope' or an Encoding")
    return encoding
