"""Who gets in, and to which channels."""

from __future__ import annotations

import inspect
import logging
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from typing import Any, Literal
from urllib.parse import urlsplit

import msgspec

from channels.core._errors import (
    BackendException,
    ConfigurationError,
    InvalidChannelNameError,
    InvalidPositionError,
    NotRunningError,
    UnknownChannelError,
)
from channels.core._event import Position
from channels.core._names import check_name
from channels.core._occasionally import Occasionally
from channels.core._plugin import ChannelsPlugin
from channels.core._subscriber import Subscriber
from channels.core.asgi._codes import (
    BAD_ORIGIN,
    BAD_SINCE,
    FORBIDDEN,
    NO_BROKER,
    UNKNOWN_CHANNEL,
    Refusal,
)
from channels.core.asgi._connection import Scope, header
from channels.core.asgi._encoding import Joined
from channels.core.asgi._limits import Limits
from channels.core.options import check_type

logger = logging.getLogger("channels")

Action = Literal["subscribe", "publish"]
Authorize = Callable[[Any, str, Action], bool | Awaitable[bool]]
"""Asked with the connection, the channel and the action; only True lets it happen."""

_DEFAULT_PORTS = {"http": 80, "ws": 80, "https": 443, "wss": 443}


class Admission:
    """Decides, before anything is accepted, whether a client gets what it asks for.

    Args:
        plugin: Whose channels.
        authorize: Asked for each channel. Default None: everybody may.
        allowed_origins: Besides the host itself; ``"*"``: all.
        limits: Which names are looked up at all.

    Raises:
        ConfigurationError: One of ``allowed_origins`` is no origin.
    """

    def __init__(
        self,
        plugin: ChannelsPlugin,
        authorize: Authorize | None,
        allowed_origins: str | Iterable[str],
        limits: Limits,
    ) -> None:
        check_type(Iterable, "origins, or '*' for any", allowed_origins=allowed_origins)
        self._plugin = plugin
        self._authorize = authorize
        self._limits = limits
        origins = [allowed_origins] if isinstance(allowed_origins, str) else list(allowed_origins)
        self._any_origin = "*" in origins
        self._origins = {
            _normalized(origin) if isinstance(origin, str) else None
            for origin in origins
            if origin != "*"
        }
        if None in self._origins:
            raise ConfigurationError(
                f"allowed_origins={origins!r}: an origin is a scheme and a host, "
                f"as in 'https://app.example.org', or '*' for any"
            )
        self._origin_log = Occasionally(logger)

    def refuses_origin(self, scope: Scope) -> Refusal | None:
        """Refuse a page of another host, which browsers let open sockets with our cookies."""
        origin = header(scope, "origin")
        if origin is None or self._any_origin:
            return None
        host = header(scope, "host") or ""
        found = _normalized(origin)
        if found is not None and (
            found in self._origins or found == _normalized(f"{urlsplit(origin).scheme}://{host}")
        ):
            return None
        self._origin_log.warning(
            "%d WebSockets refused because of their origin, the last from %.200r to host %.200r: "
            "name the origin in allowed_origins=[...], or have the proxy pass on the Host header",
            origin,
            host,
        )
        return BAD_ORIGIN

    async def join(
        self, connection: object, names: Sequence[str], history: int, since: str | None
    ) -> tuple[Subscriber, Joined] | Refusal:
        """Subscribe a client to channels that exist and that it may have."""
        refusal = await self._refuses(connection, names)
        return await self._subscribe(names, history, since) if refusal is None else refusal

    async def _refuses(self, connection: object, names: Sequence[str]) -> Refusal | None:
        if not names:
            return UNKNOWN_CHANNEL
        for name in names:
            if not self._exists(name):
                return UNKNOWN_CHANNEL
        for name in names:
            if not await self.allows(connection, name, "subscribe"):
                return FORBIDDEN
        return None

    def _exists(self, name: str) -> bool:
        if name in self._plugin.channels:
            return True
        if not self._plugin.arbitrary_channels_allowed or not self._limits.allows_name(name):
            return False
        try:
            check_name(name)
        except InvalidChannelNameError:
            return False
        return True

    async def allows(self, connection: object, channel: str, action: Action) -> bool:
        """Ask ``authorize``; an answer other than True, and an exception, is a no."""
        if self._authorize is None:
            return True
        try:
            answer = self._authorize(connection, channel, action)
            if inspect.isawaitable(answer):
                answer = await answer
        except Exception:
            logger.exception("authorize failed for channel %r; the client is refused", channel)
            return False
        return answer is True

    async def _subscribe(
        self, names: Sequence[str], history: int, since: str | None
    ) -> tuple[Subscriber, Joined] | Refusal:
        try:
            wanted = parse_since(since, names)
        except InvalidPositionError:
            return BAD_SINCE
        lost = frozenset(wanted)
        if self._plugin.backend.keeps_history:
            lost = frozenset[str]()
        try:
            subscriber = await self._plugin.subscribe(
                names,
                history or None,
                None if lost else wanted,
                gaps=True,
                max_backlog_bytes=self._limits.max_backlog_bytes,
            )
        except (UnknownChannelError, InvalidChannelNameError):
            return UNKNOWN_CHANNEL
        except (BackendException, NotRunningError) as exc:
            logger.warning("a client is refused: %s", exc)
            return NO_BROKER
        positions = subscriber.positions
        return subscriber, Joined(
            {name: positions.get(name) for name in names},
            False if lost else subscriber.recovered,
            lost | subscriber.unrecovered,
        )


def parse_since(text: str | None, names: Sequence[str]) -> Mapping[str, str]:
    """Read the id that a client resumes after: one, or a JSON object of channels and ids.

    Raises:
        InvalidPositionError: It is neither.
    """
    if not text:
        return {}
    ids: Mapping[str, str | None]
    if text.startswith("{"):
        try:
            ids = msgspec.json.decode(text, type=dict[str, str | None])
        except msgspec.MsgspecError:
            raise InvalidPositionError(text) from None
    elif len(names) == 1:
        ids = {names[0]: text}
    else:
        raise InvalidPositionError(text)
    known = {name: one for name, one in ids.items() if one is not None}
    if not known.keys() <= set(names):
        raise InvalidPositionError(text)
    for one in known.values():
        Position.parse(one)
    return known


def _normalized(origin: str) -> tuple[str, str, int] | None:
    """Return scheme, host and port of an origin; None if it is none (``null`` is none)."""
    try:
        parts = urlsplit(origin)
        port = parts.port or _DEFAULT_PORTS.get(parts.scheme, 0)
    except ValueError:
        return None
    if not parts.scheme or not parts.hostname or parts.path.strip("/"):
        return None
    return parts.scheme, parts.hostname, port
