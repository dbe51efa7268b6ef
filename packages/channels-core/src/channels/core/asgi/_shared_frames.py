"""From a subscriber to one connection of a server that shares frames among its connections.

See the ASGI extension ``channels.websocket.frames`` in the documentation.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, Protocol, cast

from channels.core._event import Event
from channels.core._subscriber import Subscriber
from channels.core.asgi._connection import Scope
from channels.core.asgi._messages import Messenger
from channels.core.asgi._outlet import Outlet, Owner

EXTENSION: Final = "channels.websocket.frames"
"""Its name in ``scope["extensions"]``."""

VERSION: Final = 1
"""The version that is used."""

Frames = Any
"""One or more messages as the server has them; opaque."""


class Source(Protocol):
    """What connections are fed from; see the extension."""

    given: object
    frames: Frames

    def translate(self, given: Any) -> Frames | None:
        """Return the frames for what is given, and note both; or None."""
        ...


class FrameConnection(Protocol):
    """What the extension offers for a connection."""

    on_ready: Callable[[], object] | None
    on_refuse: Callable[[], object] | None
    on_regroup: Callable[[], object] | None

    @property
    def encode(self) -> Callable[[str | bytes], Frames]: ...

    @property
    def join(self) -> Callable[[Sequence[Frames]], Frames]: ...

    @property
    def buffered(self) -> int: ...

    def write(self, frames: Frames) -> bool: ...

    def sink(
        self, source: Source, otherwise: Callable[[Any], bool] | None = None
    ) -> Callable[[Any], bool]: ...

    def abort(self) -> None: ...


def offered_frames(scope: Scope) -> FrameConnection | None:
    """Return what the server offers for a connection, if it offers it."""
    extensions: Mapping[str, Mapping[str, object]] = scope.get("extensions") or {}
    offer = extensions.get(EXTENSION)
    if offer is None or offer.get("version") != VERSION:
        return None
    return cast("FrameConnection", offer["connection"])


class SharedMessages:
    """What all connections of a server are fed from.

    Args:
        messenger: Makes frames of events.
        join: Joins frames.

    Attributes:
        given: The run of events that was translated last.
        frames: What became of it.
    """

    __slots__ = ("_join", "_messenger", "frames", "given")

    def __init__(
        self, messenger: Messenger[Frames], join: Callable[[Sequence[Frames]], Frames]
    ) -> None:
        self._messenger = messenger
        self._join = join
        self.given: object = None
        self.frames: Frames = None

    def translate(self, given: Sequence[Event]) -> Frames | None:
        """Return the frames for a run; None where it is not all that a client is sent."""
        ready, closing = self._messenger(given)
        if closing is not None or not ready:
            return None
        self.frames = self._join(ready)
        self.given = given
        return self.frames

    def write(self, given: Sequence[Event], connection: FrameConnection) -> Exception | None:
        """Write what can be sent of a run that has no translation, and return why it ends there."""
        ready, closing = self._messenger(given)
        if ready:
            connection.write(self._join(ready))
        return closing


class _Nothing:
    given: object = None
    frames: Frames = None

    def translate(self, given: object) -> None:
        return None


_NOTHING: Final = _Nothing()


class SharingOutlet(Outlet):
    """Writes in the tick in which the events come, without a task; the server never waits.

    Called with a run of events that has no translation, it writes what can be sent of it.

    Args:
        subscriber: Whose events.
        connection: Where to.
        messages: What it is fed from.
        owner: See :class:`Outlet`.
    """

    __slots__ = ("_connection", "_is_over", "_messages", "_seen")

    def __init__(
        self,
        subscriber: Subscriber,
        connection: FrameConnection,
        messages: SharedMessages,
        owner: Owner,
    ) -> None:
        super().__init__(subscriber, owner)
        self._connection = connection
        self._messages = messages
        self._is_over = False
        self._seen = 0

    def start(self) -> None:
        go_on = self._go_on  # one object: there are as many as connections
        self._connection.on_ready = go_on
        self._connection.on_refuse = self._subscriber.busy
        self._connection.on_regroup = self._subscriber.regroup
        self._subscriber.attach(self._connection.sink(self._messages, self), go_on)

    def is_stuck(self) -> bool:
        # It refuses only what is beyond its limit, and then writes nothing until that has gone.
        waiting = self._connection.buffered if self._subscriber.qsize else 0
        stuck = 0 < waiting == self._seen
        self._seen = waiting
        return stuck

    def abort(self) -> None:
        self._leave()
        self._connection.abort()

    async def stop(self) -> None:
        self._leave()

    def __call__(self, events: Sequence[Event]) -> bool:
        closing = self._messages.write(events, self._connection)
        if closing is not None:
            self._finish(closing)
        return True

    def _go_on(self) -> None:
        """Write what waits, as the connection takes it again or nothing more will come."""
        self._subscriber.ready()
        if self._subscriber.end_reason is not None and not self._subscriber.qsize:
            self._finish(None)

    def _finish(self, error: Exception | None) -> None:
        if not self._is_over:
            self._leave()
            self._owner.delivered(error)

    def _leave(self) -> None:
        self._is_over = True
        connection = self._connection
        connection.on_ready = connection.on_refuse = connection.on_regroup = None
        self._connection.sink(_NOTHING)
        self._subscriber.busy()
