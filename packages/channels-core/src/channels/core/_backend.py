"""The backend contract: what connects the plugin to a broker.

A third-party author implements :class:`ChannelsBackend` and a :class:`Listener`, passes the
suites of ``channels.core.testing``, registers an entry point, and is done.

Backends raise, with the driver's error translated to ours and chained. They never retry,
sleep, or log and go on: the supervisor reconnects, the publisher sends again. Every call
comes back within a bound that the backend states.
"""

from __future__ import annotations

import asyncio
import inspect
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from types import TracebackType
from typing import NamedTuple, Protocol, Self, get_type_hints
from urllib.parse import unquote_plus

import msgspec

from channels.core._errors import (
    BackendException,
    ConfigurationError,
    HistoryNotSupported,
)
from channels.core._event import Event, Position

DEFAULT_MAX_PAYLOAD = 1024 * 1024


class Message(NamedTuple):
    """An encoded event on its way to the broker."""

    channel: str
    data: bytes


class Lost(NamedTuple):
    """Says that some channels of a live listener must be subscribed again."""

    channels: tuple[str, ...]


class HistoryRequest(NamedTuple):
    """What to read of one channel's record.

    ``limit`` keeps only the newest so many of what ``since`` leaves; None: all of it, 0: only
    the top. ``since`` asks for what came after it; ``BEGINNING`` stands before the first
    event of a channel that had no record yet.
    """

    channel: str
    limit: int | None = None
    since: Position | None = None


class History(NamedTuple):
    """What a channel's record held at one moment.

    Attributes:
        events: Oldest first.
        position: The top: the newest event's position, in the same moment. None where
            there is no record.
        complete: Whether ``events`` is everything after the ``since`` asked for. False if
            that is of an epoch the record does not descend from, lies before the oldest event
            kept or beyond the top, or if ``limit`` cut something off. True without ``since``.
            When False, ``events`` is what the record still holds, as far as it may be new.
    """

    events: Sequence[Event]
    position: Position | None
    complete: bool = True


Outcome = Position | None | BackendException
"""What became of one message: its position (None where there are none), or why it failed."""


class Listener(Protocol):
    """One receiving connection. All state of the connection is in it and dies with it.

    :meth:`subscribe` and :meth:`unsubscribe` run while another task iterates, never two of
    them at a time.
    """

    async def subscribe(self, channels: Sequence[str]) -> Mapping[str, Position | None]:
        """Subscribe, wait until the broker confirmed, then read the channels' tops.

        Whatever is published to a channel after its top was read arrives in the iteration.
        Thousands of channels cost few round trips.

        Returns:
            Each channel's top; None where it has no record or the backend keeps none.

        Raises:
            BackendUnavailable: The connection is gone.
            BackendException: Something else; the caller then tries one by one.
        """
        ...

    async def unsubscribe(self, channels: Sequence[str]) -> None:
        """Stop receiving. Events already under way may still arrive.

        Raises:
            BackendUnavailable: The connection is gone.
        """
        ...

    def __aiter__(self) -> AsyncIterator[Sequence[Event | Lost]]:
        """Yield what arrived together, each channel's events in the broker's order.

        Does not end by itself: raises ``BackendUnavailable`` when the connection is gone,
        which a half-open one is found to be within the bound that the backend states.
        """
        ...


class ChannelsBackend(ABC):
    """The publishing side of a broker, and the maker of listeners.

    An async context manager that counts its entries: it may be entered by several plugins,
    and again on another event loop after the last one left. Entering does not need the broker.

    All behave the same: any bytes, empty ones too, any size up to ``max_payload``, any channel
    name that the plugin lets through (UTF-8, up to 200 bytes).
    """

    keeps_history: bool = False
    """Whether events have positions and :meth:`get_history` works."""

    max_payload: int = DEFAULT_MAX_PAYLOAD
    """The largest event in bytes. Default 1 MiB."""

    _entered = 0
    _turn: tuple[asyncio.AbstractEventLoop, asyncio.Lock] | None = None

    async def open(self) -> None:
        """Get ready on the running loop; called by the first entry."""

    async def close(self) -> None:
        """Release everything, in bounded time, also with a dead broker; called by the last exit."""

    async def __aenter__(self) -> Self:
        async with self._one_at_a_time():
            if self._entered == 0:
                await self.open()
            self._entered += 1
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        async with self._one_at_a_time():
            self._entered -= 1
            if self._entered == 0:
                await self.close()

    def _one_at_a_time(self) -> asyncio.Lock:
        """Return what keeps a second entry waiting while the first one opens, on this loop."""
        loop = asyncio.get_running_loop()
        if self._turn is None or self._turn[0] is not loop:
            self._turn = loop, asyncio.Lock()
        return self._turn[1]

    @abstractmethod
    async def publish(self, messages: Sequence[Message]) -> Sequence[Outcome]:
        """Publish in order, in as few round trips as can be.

        Returns:
            One outcome per message, in order. ``BackendUnavailable`` there: surely not sent, nor
            what follows to the same channel, so that sending them again keeps the order;
            ``PublishUnconfirmed``: sent, but the reply was lost.

        Raises:
            BackendException: Surely nothing of ``messages`` was sent.
            NotRunningError: The backend is not entered.
        """

    @abstractmethod
    def listen(self) -> AbstractAsyncContextManager[Listener]:
        """Connect once, without a retry; leaving closes the connection.

        Raises:
            BackendUnavailable: On entering: the broker cannot be reached.
            BackendRefused: On entering: it answered no, and will again.
        """

    async def get_history(self, requests: Sequence[HistoryRequest]) -> Sequence[History]:
        """Read many channels' records in few round trips, where they are written.

        Returns:
            One history per request, in order.

        Raises:
            HistoryNotSupported: The backend keeps none.
            BackendUnavailable: The broker cannot be reached.
        """
        raise HistoryNotSupported(f"{type(self).__name__} keeps no history")

    @classmethod
    def from_url(cls, url: str) -> Self:
        """Build from a URL. Query parameters that name keyword arguments of ours are options.

        All else in the URL stays as it is, for the driver.

        Raises:
            ConfigurationError: An option's value is not of its type, or there are two of it.
        """
        address, _, query = url.partition("?")
        hints = get_type_hints(cls.__init__)
        names = inspect.signature(cls).parameters.keys()
        options: dict[str, object] = {}
        rest: list[str] = []
        for part in query.split("&") if query else ():
            name, _, value = (unquote_plus(text) for text in part.partition("="))
            if name not in names:
                rest.append(part)
                continue
            if name in options:
                raise ConfigurationError(
                    f"option {name} of {url.partition('://')[0]}:// is given twice in the URL"
                )
            try:
                options[name] = msgspec.convert(value, hints.get(name, str), strict=False)
            except (msgspec.ValidationError, TypeError) as exc:
                scheme = url.partition("://")[0]  # the rest may hold a password
                raise ConfigurationError(f"option {name}={value!r} of {scheme}://: {exc}") from exc
        return cls._from_url("?".join([address, "&".join(rest)] if rest else [address]), options)

    @classmethod
    def _from_url(cls, url: str, options: Mapping[str, object]) -> Self:
        """Build from what :meth:`from_url` parsed; the default passes ``url`` first."""
        make: type = cls
        backend: Self = make(url, **options)
        return backend
