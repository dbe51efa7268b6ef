"""The plugin: publishing and subscribing, without a web framework."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from types import TracebackType
from typing import Final, Self

from channels.core._backend import ChannelsBackend, HistoryRequest, Message
from channels.core._backlog import BacklogStrategy, check_backlog
from channels.core._encode import Encoder, TypeEncoders
from channels.core._errors import (
    BackendException,
    BackendUnavailable,
    ConfigurationError,
    HistoryNotSupported,
    InvalidPositionError,
    NotRunningError,
    PayloadTooLarge,
    SubscriberStateError,
    UnknownChannelError,
)
from channels.core._event import Event, Position
from channels.core._join import Joining, put_history
from channels.core._link import Link, LinkOptions
from channels.core._lookup import as_backend
from channels.core._names import check_name, expand
from channels.core._occasionally import Occasionally
from channels.core._subscriber import Subscriber
from channels.core.options import check_callable, check_count, check_flag, check_seconds, check_type

logger = logging.getLogger("channels")

_NO_HISTORY: Final[Mapping[str, HistoryRequest]] = {}


class ChannelsPlugin:
    """Publish events to channels, and subscribe to them.

    Made anywhere, also at import; used between start and stop, most easily as
    ``async with plugin:``. Can be started again, on another event loop too. Everything but
    :meth:`publish` belongs to the loop that it was started on.

    Args:
        backend: Connects to the broker: an instance, or a URL such as
            ``redis://localhost/0`` (see :func:`load_backend`).
        channels: The channels that may be used.
        arbitrary_channels_allowed: Let any valid name be used; a channel then
            exists from the first subscription. Default False.
        max_backlog: How many events may wait for each subscriber. Default None: no limit.
        backlog_strategy: ``"backoff"``, ``"dropleft"`` or ``"disconnect"``, see
            :class:`Subscriber`. Default ``"backoff"``.
        subscriber_class: A subclass of :class:`Subscriber` with the same signature.
        type_encoders: Functions that turn instances of a type into something JSON knows.
        max_pending: How many events ``publish()`` queues at most. Default 10,000.
        retry_unconfirmed: Let the queue of ``publish()`` send again what may already have been
            published, so that an event may come twice rather than not at all. Default False.
        connect_timeout: Seconds that starting waits for the broker, and each attempt
            to connect takes. Default 5.
        subscribe_timeout: Seconds that a subscription waits for the broker. Default 10.
        shutdown_timeout: Seconds that stopping takes at most to publish what is queued and to
            close. Default 5.
        require_broker: Fail to start where the broker is not reached within
            ``connect_timeout``, instead of trying on in the background. Default False.
        on_gap: Called with a channel's name whenever events of it are lost for good.
        on_drop: Called with a subscriber and an event that it dropped, because its backlog is
            full or its class's ``put_nowait`` failed.
        on_publish_error: Called with the channel, the payload and the error when a queued
            event is given up.

    Raises:
        ConfigurationError: An option is wrong; the message names it.
    """

    def __init__(
        self,
        backend: ChannelsBackend | str,
        *,
        channels: Iterable[str] | None = None,
        arbitrary_channels_allowed: bool = False,
        max_backlog: int | None = None,
        backlog_strategy: BacklogStrategy = "backoff",
        subscriber_class: type[Subscriber] = Subscriber,
        type_encoders: TypeEncoders | None = None,
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
        check_backlog(max_backlog, backlog_strategy)
        check_count(1, max_pending=max_pending)
        check_seconds(
            connect_timeout=connect_timeout,
            subscribe_timeout=subscribe_timeout,
            shutdown_timeout=shutdown_timeout,
        )
        check_flag(
            arbitrary_channels_allowed=arbitrary_channels_allowed,
            retry_unconfirmed=retry_unconfirmed,
            require_broker=require_broker,
        )
        check_callable(on_gap=on_gap, on_drop=on_drop, on_publish_error=on_publish_error)
        if not (isinstance(subscriber_class, type) and issubclass(subscriber_class, Subscriber)):
            raise ConfigurationError(
                f"subscriber_class={subscriber_class!r} is no Subscriber class"
            )
        self._backend = as_backend(backend)
        self._channels = frozenset(check_name(name) for name in expand(channels or ()))
        self._arbitrary = arbitrary_channels_allowed
        self._max_backlog = max_backlog
        self._backlog_strategy: BacklogStrategy = backlog_strategy
        self._subscriber_class = subscriber_class
        self._encoder = Encoder(type_encoders)
        self._subscribe_timeout = subscribe_timeout
        self._on_gap = on_gap
        self._on_drop = on_drop
        self._on_publish_error = on_publish_error
        self._drop_log = Occasionally(logger)
        self._failed_log = Occasionally(logger)
        self._tell_drop = self._note_drop  # one object for all subscribers
        self._options = LinkOptions(
            connect_timeout=connect_timeout,
            subscribe_timeout=subscribe_timeout,
            shutdown_timeout=shutdown_timeout,
            require_broker=require_broker,
            max_pending=max_pending,
            retry_unconfirmed=retry_unconfirmed,
            on_gap=self._note_gap,
            on_publish_error=self._note_publish_error,
        )
        self._link: Link | None = None
        self._starting = False

    @property
    def backend(self) -> ChannelsBackend:
        """What connects to the broker."""
        return self._backend

    @property
    def channels(self) -> frozenset[str]:
        """The channels that were declared."""
        return self._channels

    @property
    def arbitrary_channels_allowed(self) -> bool:
        """Whether any valid name may be used."""
        return self._arbitrary

    # -- start and stop --------------------------------------------------------------------

    async def start(self) -> None:
        """Connect to the broker. ``async with plugin:`` does it.

        Waits up to ``connect_timeout``, then goes on without a connection, logs an error and
        tries again in the background.

        Raises:
            BackendRefused: The broker answered no: a password, a database, a version.
            BackendUnavailable: It was not reached in time, and ``require_broker`` is set.
            NotRunningError: The plugin runs already.
        """
        if self._link is not None or self._starting:
            raise NotRunningError("the plugin is running already; stop it first")
        if not self._channels and not self._arbitrary:
            logger.warning(
                "the plugin has no channels, so none can be used: pass channels=[...] "
                "or arbitrary_channels_allowed=True"
            )
        self._starting = True
        try:
            link = Link(self._backend, self._options)
            await link.open()
            self._link = link
        finally:
            self._starting = False

    async def stop(self) -> None:
        """Publish what is queued, end all subscribers, and disconnect.

        Takes ``shutdown_timeout`` seconds at most; what could not be sent by then is counted in
        the log. Does nothing where the plugin does not run.

        Raises:
            NotRunningError: :meth:`start` has not returned yet.
        """
        if self._starting:
            raise NotRunningError("the plugin is still starting: cancel start() instead")
        link, self._link = self._link, None
        if link is not None:
            await link.close()

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.stop()

    # -- publishing ------------------------------------------------------------------------

    def encode(self, data: object) -> bytes:
        """Return the payload that ``data`` is published as.

        Raises:
            EncodeError: It cannot be encoded.
        """
        return self._encoder(data)

    def publish(self, data: object, channels: str | Iterable[str]) -> None:
        """Queue ``data`` to be published to ``channels``; from any thread, without waiting.

        Returning means queued, no more: it is sent soon, after what was queued before, and again
        if it surely was not sent because the broker is away. Stopping the plugin sends
        what is queued.

        Args:
            data: Bytes as they are, text as UTF-8, anything else as JSON.
            channels: One name or several; repeats count once.

        Raises:
            UnknownChannelError: A channel may not be used; nothing was queued.
            InvalidChannelNameError: Something is no channel name; nothing was queued.
            EncodeError: ``data`` cannot be encoded.
            PayloadTooLarge: It exceeds the backend's ``max_payload``.
            PublishQueueFull: ``max_pending`` events wait already; nothing was queued.
            NotRunningError: The plugin does not run.
        """
        messages = self._messages(data, channels)
        self._route(messages).publisher.enqueue(messages)

    async def wait_published(self, data: object, channels: str | Iterable[str]) -> dict[str, str]:
        """Publish ``data`` to ``channels`` and wait until the broker has it.

        Skips the queue of :meth:`publish`, and may overtake it. Returning means accepted by the
        broker, not received by a subscriber. Concurrent calls share round trips.

        Returns:
            The new event's id for each channel; empty where the backend keeps no history.

        Raises:
            BackendUnavailable: The broker cannot be reached; it was not sent, and is not retried.
            PublishUnconfirmed: It was sent and the reply lost; it may have been published.
            ChannelsException: As :meth:`publish`. With several channels, those before the
                one that failed may have the event.
        """
        messages = self._messages(data, channels)
        link = self._route_here(messages)
        outcomes = await link.publisher.publish(messages) if messages else ()
        ids: dict[str, str] = {}
        for message, outcome in zip(messages, outcomes, strict=True):
            if isinstance(outcome, BackendException):
                raise outcome
            if outcome is not None:
                ids[message.channel] = str(outcome)
        return ids

    def _messages(self, data: object, channels: str | Iterable[str]) -> Sequence[Message]:
        names = self._names(channels)
        payload = self.encode(data)
        limit = self._backend.max_payload
        if len(payload) > limit and names:
            raise PayloadTooLarge(names[0], len(payload), limit)
        return [Message(name, payload) for name in names]

    # -- subscribing -----------------------------------------------------------------------

    async def subscribe(
        self,
        channels: str | Iterable[str],
        history: int | None = None,
        since: str | Mapping[str, str | None] | None = None,
        subscriber: Subscriber | None = None,
        *,
        gaps: bool = False,
        max_backlog_bytes: int | None = None,
    ) -> Subscriber:
        """Subscribe to ``channels``, and wait until the broker confirmed it.

        Every event that is published after the return reaches the subscriber, until it is
        unsubscribed. Prefer :meth:`start_subscription`, which does that.

        Args:
            channels: One name or several.
            history: How many of the newest events of each channel the stream begins with; -1:
                all that are kept. They do not count against the backlog. Default: none.
            since: The id of the last event that was received, to go on from there: a
                text with exactly one channel, else a mapping of channels to ids. A channel without
                an id gets ``history``. Look at ``recovered`` of the subscriber afterwards.
            subscriber: A live one that joins these channels too, made here or by yourself; of its
                drops ``on_drop`` and the log tell, unless it was configured otherwise. Default: a
                new one.
            gaps: Put a :class:`Gap` into a new subscriber's stream wherever events are missing.
            max_backlog_bytes: How many bytes may wait for a new subscriber, besides how many
                events. Default None: no limit.

        Raises:
            UnknownChannelError: A channel may not be used.
            HistoryNotSupported: ``history`` or ``since``, and the backend keeps none.
            InvalidPositionError: ``since`` is not an event's id.
            BackendUnavailable: The broker did not confirm within ``subscribe_timeout``.
            BackendException: It refused a channel.
            SubscriberStateError: ``subscriber`` has ended.

            After an error nothing is left behind: no subscription, no channel.
        """
        names = self._names(channels)
        requests = self._history_requests(names, history, since)
        link = self._route_here(names)
        if subscriber is not None:
            check_type(Subscriber, "what subscribe() returned, or None", subscriber=subscriber)
            if subscriber.end_reason is not None:
                raise SubscriberStateError(f"the subscriber has ended: {subscriber.end_reason}")
        try:
            if subscriber is None:
                subscriber = self._make_subscriber(gaps, max_backlog_bytes)
                await Joining(link.router, subscriber, names, requests, link.patience)
            else:
                subscriber.tell_drops(self._tell_drop)
                async with asyncio.timeout(self._subscribe_timeout), subscriber.turn():
                    new = subscriber.not_in(names)
                    await Joining(link.router, subscriber, new, requests, link.patience)
        except TimeoutError:
            reason = "" if link.outage is None else f": {link.outage}"
            raise BackendUnavailable(
                f"the broker did not confirm the subscription within "
                f"{self._subscribe_timeout:g} s{reason}"
            ) from link.outage
        return subscriber

    async def unsubscribe(
        self, subscriber: Subscriber, channels: str | Iterable[str] | None = None
    ) -> None:
        """Unsubscribe from ``channels``, or from all and end the stream after what is queued.

        With ``channels`` the stream goes on, and what it holds of them is dropped: nothing of them
        comes after the return. Never waits for the broker. Channels that it is not subscribed
        to are passed over.

        Args:
            subscriber: Whom.
            channels: One name or several. Default None: all.
        """
        check_type(Subscriber, "what subscribe() returned", subscriber=subscriber)
        names = subscriber.channels if channels is None else expand(channels)
        if channels is None:
            subscriber.end("unsubscribed")
        if self._link is not None:
            self._link.router.leave(subscriber, names)
        if channels is None:
            subscriber.left_all()
        else:
            subscriber.left(names)

    @asynccontextmanager
    async def start_subscription(
        self,
        channels: str | Iterable[str],
        history: int | None = None,
        since: str | Mapping[str, str | None] | None = None,
        *,
        gaps: bool = False,
    ) -> AsyncIterator[Subscriber]:
        """Subscribe while the context is open; see :meth:`subscribe`."""
        subscriber = await self.subscribe(channels, history, since, gaps=gaps)
        try:
            yield subscriber
        finally:
            await self.unsubscribe(subscriber)

    async def put_subscriber_history(
        self, subscriber: Subscriber, channels: str | Iterable[str], limit: int | None = None
    ) -> None:
        """Put what lies before a subscriber's start in ``channels`` into its stream.

        One channel and one event at a time; waits while the backlog is full. What arrives
        meanwhile comes after it. Asking for ``history`` when subscribing is simpler.

        Args:
            subscriber: Who is subscribed to them.
            channels: One name or several.
            limit: How many of the newest per channel. Default None, or -1: all that are kept.

        Raises:
            HistoryNotSupported: The backend keeps none.
            SubscriberStateError: It is not subscribed to one of ``channels``, or the history of
                one is being put already; nothing was put.
            BackendUnavailable: The broker cannot be reached within ``subscribe_timeout``.
        """
        check_type(Subscriber, "what subscribe() returned", subscriber=subscriber)
        names = self._names(channels)
        self._require_history("put_subscriber_history()")
        check_count(-1, takes="how many events, or None for all kept", or_none=True, limit=limit)
        limit = None if limit == -1 else limit
        link = self._route_here(names)
        await put_history(link.router, subscriber, names, limit, self._subscribe_timeout)

    def subscriber_count(self, channel: str) -> int:
        """Return how many subscribers of this process ``channel`` has."""
        if self._link is None:
            return 0
        found = self._link.router.channels.get(channel)
        return 0 if found is None else len(found.members) + len(found.joining)

    # -- checks ----------------------------------------------------------------------------

    def _route(self, channels: Sequence[object]) -> Link:
        """Return what carries ``channels``: one link for all of them, so far."""
        link = self._link  # read once: another thread's loop may be stopping
        if link is None:
            raise NotRunningError(
                "the plugin does not run: use it inside 'async with plugin:', "
                "or between start() and stop()"
            )
        return link

    def _route_here(self, channels: Sequence[object]) -> Link:
        link = self._route(channels)
        if link.loop is not asyncio.get_running_loop():
            raise NotRunningError(
                "the plugin was started on another event loop; only publish() can be used here"
            )
        return link

    def _names(self, channels: str | Iterable[str]) -> list[str]:
        names = expand(channels)
        for name in names:
            if name not in self._channels:
                check_name(name)
                if not self._arbitrary:
                    raise UnknownChannelError(name)
        return names

    def _require_history(self, what: str) -> None:
        if not self._backend.keeps_history:
            raise HistoryNotSupported(
                f"{what} needs a backend that keeps history; "
                f"{type(self._backend).__name__} as configured keeps none"
            )

    def _history_requests(
        self,
        names: Sequence[str],
        history: int | None,
        since: str | Mapping[str, str | None] | None,
    ) -> Mapping[str, HistoryRequest]:
        """Return what is to be read, for those of the channels of which something is."""
        if history is None and since is None:
            return _NO_HISTORY
        if history is not None:
            check_count(-1, takes="how many events, or -1 for all kept", history=history)
        if isinstance(since, str):
            if len(names) != 1:
                raise ConfigurationError(
                    f"since={since!r} with {len(names)} channels: pass a mapping of channels to ids"
                )
            since = {names[0]: since}
        positions: dict[str, Position] = {}
        if since is not None and not isinstance(since, Mapping):
            raise InvalidPositionError(since)
        for name, text in (since or {}).items():
            if name not in names:
                raise ConfigurationError(f"since names {name!r}, which is not among the channels")
            if text is not None:
                positions[name] = Position.parse(text)
        if history or positions:
            self._require_history("history" if history else "since")
        limit = None if history == -1 else history
        return {
            name: HistoryRequest(name, since=positions[name])
            if name in positions
            else HistoryRequest(name, limit)
            for name in names
            if history or name in positions
        }

    # -- what is told ----------------------------------------------------------------------

    def _make_subscriber(self, gaps: bool, max_backlog_bytes: int | None) -> Subscriber:
        subscriber = self._subscriber_class(self._max_backlog, self._backlog_strategy)
        subscriber.configure(
            tells_gaps=gaps, on_drop=self._tell_drop, max_backlog_bytes=max_backlog_bytes
        )
        return subscriber

    def _note_drop(self, subscriber: Subscriber, event: Event, error: BaseException | None) -> None:
        if error is None:
            self._drop_log.warning(
                "%d events dropped because a subscriber's backlog is full, the last of channel %r",
                event.channel,
            )
        else:
            self._failed_log.error(
                error,
                "%d events dropped because %s.put_nowait failed, the last of channel %r: %r",
                type(subscriber).__name__,
                event.channel,
                error,
            )
        if self._on_drop is not None:
            try:
                self._on_drop(subscriber, event)
            except Exception:
                logger.exception("on_drop failed")

    def _note_gap(self, channel: str) -> None:
        logger.warning("events of channel %r are missing", channel)
        if self._on_gap is not None:
            try:
                self._on_gap(channel)
            except Exception:
                logger.exception("on_gap failed")

    def _note_publish_error(self, message: Message, error: BackendException) -> None:
        if self._on_publish_error is not None:
            try:
                self._on_publish_error(message.channel, message.data, error)
            except Exception:
                logger.exception("on_publish_error failed")
