"""The plugin for Litestar."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from types import NoneType
from typing import TYPE_CHECKING, Any, Literal

from litestar.di import NamedDependency, Provide
from litestar.handlers import BaseRouteHandler
from litestar.plugins import InitPlugin
from litestar.serialization import default_serializer

from channels.core import (
    BackendException,
    BacklogStrategy,
    ChannelsBackend,
    ConfigurationError,
    Encoder,
    Event,
    Subscriber,
)
from channels.core import ChannelsPlugin as CorePlugin
from channels.core.asgi import Authorize, Encoding, Envelope, Gateway, Limits, Mode, Raw
from channels.core.options import check_count, check_flag, check_type
from channels.litestar._handlers import Routes, event_stream_handlers, websocket_handlers

if TYPE_CHECKING:
    from litestar import Litestar
    from litestar.config.app import AppConfig
    from litestar.types import Dependencies, Guard, Middleware, TypeEncodersMap

logger = logging.getLogger("channels")


class ChannelsPlugin(CorePlugin, InitPlugin):
    """The plugin of ``channels.core``, served by a Litestar application.

    Starts and stops with the application, and is injected into handlers as ``channels``.
    ``channels: ChannelsPlugin`` resolves under ``from __future__ import annotations`` also where
    the import stands under ``TYPE_CHECKING``. Generates route handlers for WebSockets and event
    streams on request; :attr:`gateway` has what they are made of, for handlers of one's own.

    Args:
        backend: An instance, or a URL such as ``redis://localhost/0``.
        channels: The channels that may be used.
        arbitrary_channels_allowed: Let any valid name be used. Default False.
        create_ws_route_handlers: Make a WebSocket handler for each channel, or one with the
            path parameter ``channel_name`` where arbitrary channels are allowed. Default False.
        ws_handler_send_history: How many of the newest events a client is sent first; -1: all
            that are kept. Default 0.
        ws_handler_base_path: What comes before the channel in the path. Default ``"/"``.
        ws_handler_publish: Publish what clients send, where ``authorize`` lets them. Default
            False: it is ignored.
        ws_send_mode: ``"text"`` or ``"binary"`` messages. Default ``"text"``.
        create_sse_route_handlers: Make a handler of server-sent events for each channel, or
            one for all. Default False.
        sse_handler_send_history: As for WebSockets. Default 0.
        sse_handler_base_path: What comes before the channel in the path. Default ``"/sse"``.
        guards: Of the generated handlers.
        middleware: Of the generated handlers.
        dependencies: Of the generated handlers.
        opt: Of the generated handlers.
        authorize: Called with the connection (Litestar's ``WebSocket`` or ``Request``), a channel,
            and ``"subscribe"`` or ``"publish"``, before a client is accepted; only True lets it
            in. Plain or async. Default None: everybody may.
        allowed_origins: Pages that may open WebSockets besides those of the same host, or
            ``"*"``. A client without an ``Origin`` is no page, and may.
        encoding: What clients see of events: ``"raw"``, ``"envelope"``, or an
            :class:`~channels.core.asgi.Encoding`. Default ``"raw"``.
        limits: What clients may use; see :class:`~channels.core.asgi.Limits`.
        heartbeat: Seconds between signs of life in a silent event stream. Default 15.
        retry: Seconds after which an ``EventSource`` connects again. Default 2.
        drain_timeout: Seconds that draining takes at most. Default 10.
        drain_on_signal: Drain at SIGTERM and SIGINT, before the server hears of it. Default False.
        dependency_key: The name of the parameter that the plugin is injected as; with another one
            for each, an application can have two. Default ``"channels"``.
        max_backlog: How many events may wait for each subscriber. Default None: no limit.
        backlog_strategy: ``"backoff"``, ``"dropleft"`` or ``"disconnect"``.
        subscriber_class: A subclass of :class:`Subscriber` with the same signature.
        type_encoders: Besides those of the application and Litestar's own; these come first.
        max_pending: As in the core's plugin, as are all that follow.
        retry_unconfirmed: Whether ``publish()`` sends again what is in doubt.
        connect_timeout: Seconds that starting waits for the broker. Default 5.
        subscribe_timeout: Seconds that a subscription waits for it. Default 10.
        shutdown_timeout: Seconds that stopping takes at most. Default 5.
        require_broker: Fail to start without the broker. Default False.
        on_gap: Called with a channel's name when events of it are lost.
        on_drop: Called with a subscriber and an event that it dropped, because its backlog is
            full or its class's ``put_nowait`` failed.
        on_publish_error: Called when a queued event is given up.

    Attributes:
        gateway: Lets clients in; a handler of one's own takes ``channels.gateway``.

    Raises:
        ConfigurationError: An option is wrong; the message names it.
    """

    def __init__(
        self,
        backend: ChannelsBackend | str,
        *,
        channels: Iterable[str] | None = None,
        arbitrary_channels_allowed: bool = False,
        create_ws_route_handlers: bool = False,
        ws_handler_send_history: int = 0,
        ws_handler_base_path: str = "/",
        ws_handler_publish: bool = False,
        ws_send_mode: Mode = "text",
        create_sse_route_handlers: bool = False,
        sse_handler_send_history: int = 0,
        sse_handler_base_path: str = "/sse",
        guards: Sequence[Guard] = (),
        middleware: Sequence[Middleware] = (),
        dependencies: Dependencies | None = None,
        opt: Mapping[str, Any] | None = None,
        authorize: Authorize | None = None,
        allowed_origins: str | Iterable[str] = (),
        encoding: Literal["raw", "envelope"] | Encoding = "raw",
        limits: Limits | None = None,
        heartbeat: float = 15.0,
        retry: float = 2.0,
        drain_timeout: float = 10.0,
        drain_on_signal: bool = False,
        dependency_key: str = "channels",
        max_backlog: int | None = None,
        backlog_strategy: BacklogStrategy = "backoff",
        subscriber_class: type[Subscriber] = Subscriber,
        type_encoders: TypeEncodersMap | None = None,
        max_pending: int = 10_000,
        retry_unconfirmed: bool = False,
        connect_timeout: float = 5.0,
        subscribe_timeout: float = 10.0,
        shutdown_timeout: float = 5.0,
        require_broker: bool = False,
        on_gap: Callable[[str], None] | None = None,
        on_drop: Callable[[Subscriber, Event], None] | None = None,
        on_publish_error: Callable[[str, bytes, BackendException], None] | None = None,
    ) -> None:
        check_flag(
            create_ws_route_handlers=create_ws_route_handlers,
            create_sse_route_handlers=create_sse_route_handlers,
            ws_handler_publish=ws_handler_publish,
        )
        check_count(
            -1,
            takes="how many events, or -1 for all kept",
            ws_handler_send_history=ws_handler_send_history,
            sse_handler_send_history=sse_handler_send_history,
        )
        check_type(Sequence, "a list", guards=guards, middleware=middleware)
        check_type((Mapping, NoneType), "a dictionary, or None", dependencies=dependencies, opt=opt)
        check_type(str, "the name of a parameter", dependency_key=dependency_key)
        if not dependency_key.isidentifier():
            raise ConfigurationError(
                f"dependency_key={dependency_key!r}: pass the name of a parameter"
            )
        super().__init__(
            backend,
            channels=channels,
            arbitrary_channels_allowed=arbitrary_channels_allowed,
            max_backlog=max_backlog,
            backlog_strategy=backlog_strategy,
            subscriber_class=subscriber_class,
            max_pending=max_pending,
            retry_unconfirmed=retry_unconfirmed,
            connect_timeout=connect_timeout,
            subscribe_timeout=subscribe_timeout,
            shutdown_timeout=shutdown_timeout,
            require_broker=require_broker,
            on_gap=on_gap,
            on_drop=on_drop,
            on_publish_error=on_publish_error,
        )
        self.gateway = Gateway(
            self,
            authorize=authorize,
            allowed_origins=allowed_origins,
            encoding=_in_mode(encoding, ws_send_mode),
            limits=limits,
            heartbeat=heartbeat,
            retry=retry,
            drain_timeout=drain_timeout,
            drain_on_signal=drain_on_signal,
        )
        self._handlers: list[BaseRouteHandler] = []
        served = None if arbitrary_channels_allowed else self.channels
        passed_on = {
            "guards": list(guards),
            "middleware": list(middleware),
            "dependencies": dict(dependencies or {}),
            "opt": dict(opt or {}),
        }
        if create_ws_route_handlers:
            self._check_served("ws", ws_handler_send_history)
            routes = Routes(ws_handler_base_path, served, ws_handler_send_history, passed_on)
            self._handlers += websocket_handlers(self.gateway, routes, publish=ws_handler_publish)
        if create_sse_route_handlers:
            self._check_served("sse", sse_handler_send_history)
            routes = Routes(sse_handler_base_path, served, sse_handler_send_history, passed_on)
            self._handlers += event_stream_handlers(self.gateway, routes)
        self._is_open_to_all = bool(
            self._handlers and arbitrary_channels_allowed and not guards and authorize is None
        )
        self._dependency_key = dependency_key
        self._own_encoders = dict(type_encoders or {})
        self._encode = Encoder(self._own_encoders, default_serializer)

    def _check_served(self, kind: str, history: int) -> None:
        if not self.channels and not self.arbitrary_channels_allowed:
            raise ConfigurationError(
                f"create_{kind}_route_handlers=True makes a handler for each channel, and there "
                f"are none: pass channels=[...] or arbitrary_channels_allowed=True"
            )
        if history and not self.backend.keeps_history:
            raise ConfigurationError(
                f"{kind}_handler_send_history={history} needs a backend that keeps history; "
                f"{type(self.backend).__name__} as configured keeps none"
            )

    def encode(self, data: object) -> bytes:
        """Return the payload that ``data`` is published as, as the application would write it.

        Raises:
            EncodeError: It cannot be encoded.
        """
        return self._encode(data)

    async def drain(self, deadline: float | None = None) -> int:
        """Send all clients away before the process ends; see :meth:`Gateway.drain`.

        Args:
            deadline: Seconds that it takes at most. Default None: ``drain_timeout``.

        Returns:
            How many did not leave in time and were cut.
        """
        return await self.gateway.drain(deadline)

    def on_app_init(self, app_config: AppConfig) -> AppConfig:
        """Register dependency, lifespan and handlers; Litestar calls it."""
        app_config.dependencies[self._dependency_key] = Provide(self._provide, sync_to_thread=False)
        app_config.signature_namespace["ChannelsPlugin"] = NamedDependency[ChannelsPlugin]
        # The application's own lifespan may use the plugin: it is entered later and left earlier.
        app_config.lifespan.insert(0, self._run_with)
        app_config.route_handlers.extend(self._handlers)
        return app_config

    def _provide(self) -> ChannelsPlugin:
        return self

    @asynccontextmanager
    async def _run_with(self, app: Litestar) -> AsyncIterator[None]:
        # Other plugins may have given the application encoders after ours was asked.
        encoders = {**(app.type_encoders or {}), **self._own_encoders}
        self._encode = Encoder(encoders, default_serializer)
        if self._is_open_to_all:
            logger.warning(
                "anybody can subscribe to any channel: pass authorize=... or guards=[...], "
                "or declare channels=[...] instead of arbitrary_channels_allowed"
            )
        async with self.gateway:
            yield


def _in_mode(encoding: Literal["raw", "envelope"] | Encoding, mode: Mode) -> Encoding:
    """Return the encoding, in the mode where it is one of ours."""
    if mode not in ("text", "binary"):
        raise ConfigurationError(f"ws_send_mode={mode!r}: use 'text' or 'binary'")
    if encoding == "raw":
        return Raw(mode)
    if encoding == "envelope":
        return Envelope(mode)
    if isinstance(encoding, str):
        raise ConfigurationError(f"encoding={encoding!r}: use 'raw', 'envelope' or an Encoding")
    return encoding
