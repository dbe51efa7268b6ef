"""The backend that both drivers share."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Self
from weakref import WeakKeyDictionary

from channels.core._backend import (
    DEFAULT_MAX_PAYLOAD,
    ChannelsBackend,
    History,
    HistoryRequest,
    Listener,
    Message,
    Outcome,
)
from channels.core._encode import Encoder
from channels.core._errors import (
    ConfigurationError,
    HistoryNotSupported,
    NotRunningError,
    PayloadTooLarge,
)
from channels.core._event import Event
from channels.core._names import check_name, expand
from channels.core.options import check_count, check_flag, check_seconds
from channels.core.postgres._fold import Folder
from channels.core.postgres._frame import INLINE, Reference, UnknownFrameError
from channels.core.postgres._keeper import Keeper
from channels.core.postgres._lane import Lane, ask, close, within
from channels.core.postgres._listener import NotifiedListener
from channels.core.postgres._live import Live, Statement
from channels.core.postgres._poll import PollingListener
from channels.core.postgres._port import Connection, Driver, NotifyQueueFull
from channels.core.postgres._record import Record
from channels.core.postgres._schema import Schema, Server
from channels.core.postgres._session import Session
from channels.core.postgres._transaction import execute_in, execute_in_sync

logger = logging.getLogger("channels.postgres")

_PUBLISH_TO = "SELECT {schema}.publish_to(CAST($1 AS bytea[]), CAST($2 AS bytea))"


class PostgresChannelsBackend(ChannelsBackend):
    """What a backend on PostgreSQL is, whatever the driver; a driver's package derives from it.

    Holds one connection to publish on and one to read on, both opened when first needed (or
    borrowed from the application's pool), and one per listener. Each statement is bounded by
    ``timeout``: a publishing call comes back within that time for connecting, plus as much for
    each statement that is before it, plus its own.

    Args:
        driver: Where connections come from.
        history: How many events to keep per channel; 0 keeps none. All processes that share the
            tables pass the same. Default 0.
        schema: The schema of the tables. Default ``channels``.
        create_schema: Make the tables where they are missing. Default False.
        notify: Whether listeners are woken by NOTIFY; else they poll, which needs history, and
            spares publishers the server-wide lock that NOTIFY takes at commit. Default True.
        poll_interval: Seconds between two looks where ``notify`` is False. Default 0.5.
        heartbeat: Seconds between two signs of life of an idle listener, at most 60; a frozen
            connection is found within twice as long. Default 5.
        timeout: Seconds that connecting, or one statement, may take. Default 5.
        max_payload: The largest event in bytes. Default 1 MiB.

    Raises:
        ConfigurationError: A value is out of its range, or two contradict each other.
    """

    def __init__(
        self,
        driver: Driver,
        *,
        history: int = 0,
        schema: str = "channels",
        create_schema: bool = False,
        notify: bool = True,
        poll_interval: float = 0.5,
        heartbeat: float = 5.0,
        timeout: float = 5.0,
        max_payload: int = DEFAULT_MAX_PAYLOAD,
    ) -> None:
        check_count(0, takes="how many events to keep, 0 for none", history=history)
        check_flag(create_schema=create_schema, notify=notify)
        if not notify and not history:
            raise ConfigurationError("notify=False needs history: listeners look at the record")
        check_seconds(at_most=60, heartbeat=heartbeat)
        check_seconds(timeout=timeout, poll_interval=poll_interval)
        check_count(1, max_payload=max_payload)
        self.keeps_history = history > 0
        self.max_payload = max_payload
        self.unknown_frames = 0
        """How many notifications were dropped that only a newer release can read."""
        self._driver = driver
        self._history = history
        self._schema = Schema(
            schema, create=create_schema, history=self.keeps_history, notify=notify
        )
        self._record = Record(self._schema.sql, keep=history, notify=notify, seconds=timeout)
        self._live = Live(self._schema.sql, timeout)
        self._polls = None if notify else poll_interval
        self._heartbeat = heartbeat
        self._timeout = timeout
        self._encode = Encoder()
        self._server: Server | None = None
        self._met: WeakKeyDictionary[Connection, Server] = WeakKeyDictionary()
        self._session: Session | None = None

    @classmethod
    def _from_url(cls, url: str, options: Mapping[str, object]) -> Self:
        # By hand: urlunsplit would drop the slashes of a URL without a host.
        return super()._from_url("postgresql://" + url.partition("://")[2], options)

    async def open(self) -> None:
        writer = Lane(self._driver, self._prepare, self._timeout)
        reader = Lane(self._driver, self._prepare, self._timeout)
        self._session = Session(
            writer,
            reader,
            Folder(writer, self._send),
            Keeper(reader, self._record, self._history),
            self._timeout,
        )

    async def close(self) -> None:
        session, self._session = self._session, None
        if session is not None:
            await session.close()

    async def publish(self, messages: Sequence[Message]) -> Sequence[Outcome]:
        """Publish in order; concurrent calls share statements and commits.

        An event whose connection broke during the commit is ``PublishUnconfirmed``.
        """
        folder = self._running.folder
        if all(len(message.data) <= self.max_payload for message in messages):
            return await folder.publish(messages) if messages else ()
        fit = [message for message in messages if len(message.data) <= self.max_payload]
        outcomes = iter(await folder.publish(fit) if fit else ())
        return [
            next(outcomes)
            if len(message.data) <= self.max_payload
            else PayloadTooLarge(message.channel, len(message.data), self.max_payload)
            for message in messages
        ]

    @asynccontextmanager
    async def listen(self) -> AsyncIterator[Listener]:
        """Connect a listener.

        A connection that ends is noticed at once, one that freezes within twice ``heartbeat``.

        Raises:
            BackendUnavailable: The server cannot be reached, or is a standby.
            BackendRefused: Password, database, permission, version, tables; or a pooler in
                transaction mode lies between.
        """
        session = self._running
        connection = await within(self._timeout, self._driver.connect, "no connection")
        try:
            server = await self._meet(connection)
        except BaseException:
            await close(connection)
            raise
        if self._polls is not None:
            polling = PollingListener(connection, self._record, self._polls)
            try:
                yield polling
            finally:
                await polling.close()
            return
        listener = NotifiedListener(
            connection,
            server,
            resolve=self._resolve,
            tops=self._record.tops if self.keeps_history else None,
            unknown_frame=self._unknown_frame,
            heartbeat=self._heartbeat,
            seconds=self._timeout,
        )
        try:
            await listener.start(session.notify)
            yield listener
        finally:
            await listener.close()

    async def get_history(self, requests: Sequence[HistoryRequest]) -> Sequence[History]:
        if not self.keeps_history:
            raise HistoryNotSupported("this Postgres backend keeps none; pass history=N")
        async with self._running.reader.connection() as connection:
            return await self._record.read(connection, requests)

    async def publish_in(
        self, connection: object, data: object, channels: str | Iterable[str]
    ) -> None:
        """Publish as part of a transaction: when it commits, and never if it is rolled back.

        With history the events get their offsets at COMMIT, so a transaction held open holds
        nobody up. The backend need not be entered.

        Args:
            connection: Of asyncpg, a psycopg ``AsyncConnection``, or an SQLAlchemy
                ``AsyncSession`` or ``AsyncConnection``; connected to the same database.
            data: Bytes, text, or what JSON can say.
            channels: One name or several.

        Raises:
            ConfigurationError: ``connection`` is something else, or not in a transaction.
            PayloadTooLarge: ``data`` exceeds ``max_payload``. Nothing was sent.
            EncodeError: ``data`` cannot be encoded. Nothing was sent.
            InvalidChannelNameError: So is a name. Nothing was sent.
        """
        for query, args in self._statements(data, channels):
            await execute_in(connection, query, args)

    def publish_in_sync(
        self, connection: object, data: object, channels: str | Iterable[str]
    ) -> None:
        """Publish like :meth:`publish_in`, from synchronous code.

        Args:
            connection: A psycopg ``Connection``, or an SQLAlchemy ``Session`` or ``Connection``.
            data: Bytes, text, or what JSON can say.
            channels: One name or several.

        Raises:
            ConfigurationError: ``connection`` is something else, or not in a transaction.
            PayloadTooLarge: ``data`` exceeds ``max_payload``. Nothing was sent.
            EncodeError: ``data`` cannot be encoded. Nothing was sent.
            InvalidChannelNameError: So is a name. Nothing was sent.
        """
        for query, args in self._statements(data, channels):
            execute_in_sync(connection, query, args)

    def _statements(self, data: object, channels: str | Iterable[str]) -> Sequence[Statement]:
        names = [check_name(channel) for channel in expand(channels)]
        payload = self._encode(data)
        if not names:
            return ()
        if len(payload) > self.max_payload:
            raise PayloadTooLarge(names[0], len(payload), self.max_payload)
        messages = [Message(name, payload) for name in names]
        if self.keeps_history or len(payload) > INLINE:
            pass
        elif self._server is not None:
            return (self._live.statement(messages, self._server.utf8),)
        elif all(map(str.isascii, names)):  # the database's encoding is unknown and does not matter
            return (self._live.statement(messages, utf8=True),)
        return ((self._record.sql(_PUBLISH_TO), ([name.encode() for name in names], payload)),)

    @property
    def _running(self) -> Session:
        if self._session is None:
            raise NotRunningError(f"enter the {type(self).__name__} first: async with backend")
        return self._session

    async def _prepare(self, connection: Connection) -> None:
        self._server = await self._meet(connection)

    async def _meet(self, connection: Connection) -> Server:
        server = await self._schema.meet(connection, self._timeout)
        self._met[connection] = server
        # An old primary may live on and keep its connections. What is read and published there says
        # nothing of events that come from the new one, and the other way round.
        for other, its in list(self._met.items()):
            if its.started != server.started:
                other.abort()
        if server.tables:
            self._running.keeper.start()
        return server

    async def _send(self, connection: Connection, messages: Sequence[Message]) -> Sequence[Outcome]:
        try:
            return await self._send_any(connection, messages)
        except NotifyQueueFull:
            # A server that refused does not look again whether there is room, unless it is asked.
            await ask(connection, self._timeout, "SELECT pg_notification_queue_usage()")
            raise

    async def _send_any(
        self, connection: Connection, messages: Sequence[Message]
    ) -> Sequence[Outcome]:
        if self.keeps_history:
            positions = await self._record.append(connection, messages)
            self._running.keeper.appended(messages, positions)
            return positions
        assert self._server is not None  # set when the connection was prepared
        return await self._live.send(connection, messages, self._server.utf8)

    async def _resolve(self, references: Sequence[Reference]) -> Sequence[Event | None]:
        async with self._running.reader.connection() as connection:
            return await self._record.resolve(connection, references)

    def _unknown_frame(self, listened: str, exc: UnknownFrameError) -> None:
        self.unknown_frames += 1
        if self.unknown_frames == 1:
            logger.warning(
                "a notification on %r was dropped, which this release cannot read (%s); "
                "further ones are counted in unknown_frames",
                listened,
                exc,
            )
