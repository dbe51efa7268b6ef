"""The plugin for Litestar."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from litestar.di import NamedDependency, Provide
from litestar.plugins import InitPlugin
from litestar.serialization import default_serializer

from channels import core
from channels.core import (
    BackendException,
    BacklogStrategy,
    ChannelsBackend,
    Encoder,
    Event,
    Subscriber,
)

if TYPE_CHECKING:
    from litestar import Litestar
    from litestar.config.app import AppConfig
    from litestar.types import TypeEncodersMap


class ChannelsPlugin(core.ChannelsPlugin, InitPlugin):
    """The plugin of ``channels.core``, served by a Litestar application.

    Starts and stops with the application, and is injected into handlers as ``channels``.
    ``channels: ChannelsPlugin`` resolves under ``from __future__ import annotations`` also where
    the import stands under ``TYPE_CHECKING``.

    Args:
        backend: An instance, or a URL such as ``redis://localhost/0``.
        channels: The channels that may be used.
        arbitrary_channels_allowed: Let any valid name be used. Default False.
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
        on_drop: Called with a subscriber and the event that its full backlog dropped.
        on_publish_error: Called when a queued event is given up.

    Raises:
        ConfigurationError: An option is wrong; the message names it.
    """

    def __init__(
        self,
        backend: ChannelsBackend | str,
        *,
        channels: Iterable[str] | None = None,
        arbitrary_channels_allowed: bool = False,
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
        self._dependency_key = dependency_key
        self._own_encoders = dict(type_encoders or {})
        self._encode = Encoder(self._own_encoders, default_serializer)

    def encode(self, data: object) -> bytes:
        """Return the payload that ``data`` is published as, as the application would write it.

        Raises:
            EncodeError: It cannot be encoded.
        """
        return self._encode(data)

    def on_app_init(self, app_config: AppConfig) -> AppConfig:
        """Register the dependency and the lifespan; Litestar calls it."""
        app_config.dependencies[self._dependency_key] = Provide(self._provide, sync_to_thread=False)
        app_config.signature_namespace["ChannelsPlugin"] = NamedDependency[ChannelsPlugin]
        app_config.lifespan.append(self._run_with)
        return app_config

    def _provide(self) -> ChannelsPlugin:
        return self

    @asynccontextmanager
    async def _run_with(self, app: Litestar) -> AsyncIterator[None]:
        # Other plugins may have given the application encoders after ours was asked.
        self._encode = Encoder(
            {**(app.type_encoders or {}), **self._own_encoders}, default_serializer
        )
        async with self:
            yield
