"""What an application gets of the extension: one connection that takes shared frames."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, Final, Protocol

from channels.uvicorn._frames import MIN_WINDOW_BITS, UNCOMPRESSED, Frames, encode, join
from channels.uvicorn._ticks import Ticks

DEFAULT_LIMIT = 65536
"""Bytes that may wait in a connection's write buffer before it refuses more."""


Sink = Callable[[Any], bool]


class Source(Protocol):
    """What many connections are fed from: it turns what they are given into frames, once.

    Attributes:
        given: What was translated last. The very same object is not translated again.
        frames: What became of it.
    """

    given: object
    frames: Frames

    def translate(self, given: Any) -> Frames | None:
        """Translate, and note it in the attributes; or return None and leave them."""
        ...


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

    Invariants:
        * The first write in a turn of the loop goes to the transport at once; what follows in
          the same turn is held and written as one when the turn ends.
        * Nothing else reaches the transport while something is held: it is flushed before.

    Attributes:
        on_ready: Called when it takes messages again, or for the first time. Default None.
    """

    __slots__ = (
        "__weakref__",
        "_held",
        "_held_size",
        "_is_open",
        "_is_paused",
        "_last",
        "_limit",
        "_otherwise",
        "_refuses",
        "_source",
        "_ticks",
        "_transport",
        "_window_bits",
        "on_ready",
    )

    def __init__(self, transport: asyncio.Transport, loop: asyncio.AbstractEventLoop) -> None:
        self._transport = transport
        self._ticks = Ticks.of(loop)
        self._last: object | None = None
        self._held: list[bytes] | None = None
        self._held_size = 0
        self._limit = DEFAULT_LIMIT
        self._window_bits = UNCOMPRESSED
        self._is_open = False
        self._is_paused = False
        self._refuses = True
        self._source: Source = _NOTHING
        self._otherwise: Callable[[Any], bool] | None = None
        self.on_ready: Callable[[], object] | None = None

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
        turn = self._ticks.current or self._ticks.begin()
        if self._last is turn:
            self._hold(frames[self._window_bits])
        else:
            self._last = turn
            self._transport.write(frames[self._window_bits])
        return True

    def sink(self, source: Source, otherwise: Callable[[Any], bool] | None = None) -> Sink:
        """Return the function that writes what ``source`` makes of something; see :meth:`write`.

        It does the same as calling :meth:`write` with the source's frames, and is the
        fastest way: per delivery it touches nothing but this connection and the source.

        Args:
            source: Shared by all connections that get the same.
            otherwise: Called with what the source makes no frames of; its answer is the sink's.
                Default None: that is not taken.
        """
        self._source = source
        self._otherwise = otherwise
        return self._feed

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
        self._transport.abort()

    def _feed(self, given: object) -> bool:
        # Once per delivery: write() and the look at the source, in one function.
        if self._refuses:
            return False
        source = self._source
        frames = source.frames if source.given is given else source.translate(given)
        if frames is None:
            return self._otherwise is not None and self._otherwise(given)
        turn = self._ticks.current or self._ticks.begin()
        if self._last is turn:
            self._hold(frames[self._window_bits])
        else:
            self._last = turn
            self._transport.write(frames[self._window_bits])
        return True

    # -- what the protocol does ------------------------------------------------------------

    def open(self, window_bits: int) -> None:
        """Take messages from now on, compressed for ``window_bits`` unless UNCOMPRESSED."""
        self._window_bits = window_bits if window_bits >= MIN_WINDOW_BITS else UNCOMPRESSED
        self._is_open = True
        self._transport.set_write_buffer_limits(high=self._limit)
        if not self._is_paused:
            self._take()

    def pause(self) -> None:
        """Refuse messages: the write buffer is over its limit."""
        self._is_paused = self._refuses = True

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

    def shut(self) -> None:
        """Take nothing any more: the connection is being closed."""
        self._is_open = False
        self._refuses = True
        self.on_ready = self._otherwise = None
        self._source = _NOTHING

    def lose(self) -> None:
        """Let go of everything: the connection is gone."""
        self.shut()
        self._drop()

    # -- inside ----------------------------------------------------------------------------

    def _take(self) -> None:
        self._refuses = False
        if self.on_ready is not None:
            self.on_ready()

    def _hold(self, wire: bytes) -> None:
        if self._held is None:
            self._held = []
            self._ticks.add(self)
        self._held.append(wire)
        self._held_size += len(wire)
        if self._held_size > self._limit:
            self.flush()

    def _drop(self) -> None:
        self._held = None
        self._held_size = 0
