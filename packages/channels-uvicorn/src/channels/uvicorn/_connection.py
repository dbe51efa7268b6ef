"""What an application gets of the extension: one connection that takes shared frames."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from typing import Any, Final

from channels.uvicorn._frames import MIN_WINDOW_BITS, UNCOMPRESSED, Frames, encode, join
from channels.uvicorn._group import Group, Source
from channels.uvicorn._ticks import Ticks

DEFAULT_LIMIT = 65536
"""Bytes that may wait in a connection's write buffer before it refuses more."""

AWAY = 100
"""Writes until it is looked again whether a connection may be of a group."""

_CLOSE_LAST: Final = {
    ("asyncio.selector_events", "_SelectorSocketTransport"),
    ("uvloop.loop", "TCPTransport"),
    ("uvloop.loop", "UnixTransport"),
}
"""Transports that keep their socket open until ``connection_lost`` has returned."""


class _Nothing:
    given: object = None
    frames = Frames()

    def translate(self, given: object) -> None:
        return None


_NOTHING: Final = _Nothing()


class FrameConnection:
    """One WebSocket connection, to which messages are written that others get too.

    It refuses before the WebSocket is accepted, while the write buffer is over its limit, and for
    good from the moment in which it is closed by either side.

    It is also the sink that :meth:`sink` returns.

    Invariants:
        * The first write in a turn of the loop goes to the transport at once; what follows in
          the same turn is held and written as one when the turn ends.
        * Nothing else reaches the transport while something is held: it is flushed before.
        * It is of a group only while its transport has sent all that was given to it.

    Attributes:
        shared_writer: Where those write who serve it as one of its group: its socket's descriptor.
        on_ready: Called when it takes messages again, or for the first time. Default None.
        on_refuse: Called when it takes no more for now, or for good. Default None.
        on_regroup: Called when it takes messages as before, but is of another group, or of none.
            Default None.
    """

    __slots__ = (
        "__weakref__",
        "_away",
        "_group",
        "_held",
        "_held_size",
        "_is_lost",
        "_is_open",
        "_is_paused",
        "_last",
        "_limit",
        "_otherwise",
        "_refuses",
        "_transport",
        "on_ready",
        "on_refuse",
        "on_regroup",
        "shared_writer",
    )

    def __init__(self, transport: asyncio.Transport, loop: asyncio.AbstractEventLoop) -> None:
        self.shared_writer = _descriptor(transport)
        self._transport = transport
        self._away = 0  # writes until it is of a group again
        self._group = Ticks.of(loop).group(_NOTHING, UNCOMPRESSED)
        self._last: object | None = None
        self._held: list[bytes] | None = None
        self._held_size = 0
        self._limit = DEFAULT_LIMIT
        self._is_open = False
        self._is_lost = False
        self._is_paused = False
        self._refuses = True
        self._otherwise: Callable[[Any], bool] | None = None
        self.on_ready: Callable[[], object] | None = None
        self.on_refuse: Callable[[], object] | None = None
        self.on_regroup: Callable[[], object] | None = None

    # -- what the application does ---------------------------------------------------------

    encode = staticmethod(encode)
    join = staticmethod(join)

    def write(self, frames: Frames) -> bool:
        """Send messages after all that was sent before; never waits.

        Returns:
            Whether they were taken: all of them or none.
        """
        if self._refuses:
            return False
        self._write(frames)
        return True

    def sink(
        self, source: Source, otherwise: Callable[[Any], bool] | None = None
    ) -> FrameConnection:
        """Return what writes what ``source`` makes of something; see :meth:`__call__`.

        Args:
            source: Shared by all connections that get the same.
            otherwise: Called with what the source makes no frames of; its answer is the sink's.
                Default None: that is not taken.
        """
        if self.on_refuse is not None and not self._refuses:
            self.on_refuse()  # whoever served it as one of its group no longer may
        self._group = self._group.ticks.group(source, self._group.window_bits)
        self._otherwise = otherwise
        return self

    def __call__(self, given: Any) -> bool:
        """Send what the source makes of ``given``; does the same as :meth:`write` with it."""
        if self._refuses:
            return False
        frames = self._group.translate(given)
        if frames is None:
            return self._otherwise is not None and self._otherwise(given)
        self._write(frames)
        return True

    @property
    def shared_group(self) -> Group | None:
        """Those it can be served with at once; None: it wants to be called.

        As long as it calls neither ``on_refuse`` nor ``on_regroup``, whoever serves the group may
        have it write what it has prepared to ``shared_writer``, instead of calling this sink.
        """
        if self._refuses or self._away or self.shared_writer is None:
            return None
        return None if self.on_refuse is None or self.on_regroup is None else self._group

    def finish(self, prepared: bytes, written: int) -> None:
        """Send what the socket did not take of what was prepared for the group."""
        self._transport.write(memoryview(prepared)[written:])
        self.check()

    @property
    def buffered(self) -> int:
        """Bytes that were taken and that the operating system has not got yet."""
        return self._transport.get_write_buffer_size() + self._held_size

    def set_limit(self, limit: int) -> None:
        """Refuse messages while more than ``limit`` bytes are buffered, until a quarter is left.

        Args:
            limit: In bytes, 0 or more. What is taken may go beyond it by one write.
        """
        self._transport.set_write_buffer_limits(high=limit)
        self._limit = limit

    def abort(self) -> None:
        """Cut the connection at once; what is buffered is lost."""
        self.shut()
        self._drop()
        if not self._is_lost:  # asyncio's cannot be aborted any more, where it had to send the rest
            self._transport.abort()

    # -- what the protocol does ------------------------------------------------------------

    def open(self, window_bits: int) -> None:
        """Take messages from now on, compressed for ``window_bits`` unless UNCOMPRESSED."""
        usable = window_bits if window_bits >= MIN_WINDOW_BITS else UNCOMPRESSED
        self._group = self._group.ticks.group(self._group.source, usable)
        self._is_open = True
        self._transport.set_write_buffer_limits(high=self._limit)
        if not self._is_paused:
            self._take()

    def pause(self) -> None:
        """Refuse messages: the write buffer is over its limit."""
        self._is_paused = True
        self._refuse()

    def resume(self) -> None:
        """Take messages again: the write buffer is low."""
        self._is_paused = False
        if self._is_open:
            self._take()

    def flush(self) -> None:
        """Write what is held."""
        if self._held is not None:
            wire = b"".join(self._held)
            self._drop()
            self._transport.write(wire)
            self.check()

    def check(self) -> None:
        """See whether the transport has sent all; called whenever something was written to it.

        If not, the connection is of no group for a while: what is written to the socket itself
        would overtake the rest. Meanwhile nothing is looked at: where much waits it takes its time.
        """
        if self.shared_writer is None:
            return
        was_away = self._away
        if was_away > 1:
            self._away -= 1
            return
        self._away = AWAY if self._transport.get_write_buffer_size() else 0
        if bool(self._away) != bool(was_away):
            self._regroup()

    def shut(self) -> None:
        """Take nothing any more: the connection is being closed."""
        self._is_open = False
        self._refuse()
        self.on_ready = self.on_refuse = self.on_regroup = self._otherwise = None
        self._group = self._group.ticks.group(_NOTHING, UNCOMPRESSED)

    def lose(self) -> None:
        """Let go of everything: the connection is gone."""
        self.shut()
        self._drop()
        self._is_lost = True
        self.shared_writer = None

    # -- inside ----------------------------------------------------------------------------

    def _take(self) -> None:
        self._refuses = False
        if self.on_ready is not None:
            self.on_ready()

    def _refuse(self) -> None:
        if not self._refuses:
            self._refuses = True
            if self.on_refuse is not None:
                self.on_refuse()

    def _regroup(self) -> None:
        """Have whoever serves it ask for its group again."""
        if not self._refuses and self.on_regroup is not None:
            self.on_regroup()

    def _write(self, frames: Frames) -> None:
        group = self._group
        turn = group.ticks.current or group.ticks.begin()
        if self._last is turn:
            self._hold(frames[group.window_bits])
        else:
            self._last = turn
            self._transport.write(frames[group.window_bits])
            self.check()

    def _hold(self, wire: bytes) -> None:
        if self._held is None:
            self._held = []
            self._group.ticks.add(self)
        self._held.append(wire)
        self._held_size += len(wire)
        if self._held_size > self._limit:
            self.flush()

    def _drop(self) -> None:
        self._held = None
        self._held_size = 0


def _descriptor(transport: asyncio.Transport) -> int | None:
    """Return where the transport's socket can be written to past it, if it can be.

    Neither TLS nor a transport that may have closed the socket, whose number another one then has.
    """
    kind = type(transport)
    if os.name != "posix" or (kind.__module__, kind.__name__) not in _CLOSE_LAST:
        return None
    descriptor: int = transport.get_extra_info("socket").fileno()
    return descriptor
