"""Connections that are sent the very same bytes."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, Protocol

from channels.uvicorn._frames import Frames

if TYPE_CHECKING:
    from channels.uvicorn._ticks import Ticks


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


class Group:
    """The connections of a loop that are fed from one source, in one form.

    What is prepared is written to the sockets themselves: it goes past transports, whose objects
    are spread over the memory of a server, and takes a tenth of the time less.

    Args:
        source: What they are fed from.
        window_bits: What they need messages compressed for, or UNCOMPRESSED.
        ticks: The loop's.
    """

    __slots__ = ("__weakref__", "_last", "source", "ticks", "window_bits")

    def __init__(self, source: Source, window_bits: int, ticks: Ticks) -> None:
        self.source = source
        self.window_bits = window_bits
        self.ticks = ticks
        self._last: object | None = None

    write = staticmethod(os.write)

    def translate(self, given: Any) -> Frames | None:
        """Return what the source makes of ``given``."""
        source = self.source
        return source.frames if source.given is given else source.translate(given)

    def prepare(self, given: Any) -> bytes | None:
        """Return what may be written to members past their sinks until this turn ends.

        Whatever is not written of it, its connection has to :meth:`~FrameConnection.finish`.

        Returns:
            None where the sinks have to be called: the source makes no frames of it, something is
            held that must not be overtaken, or something was prepared in this turn already, behind
            which it should be held.
        """
        frames = self.translate(given)
        if frames is None or self.ticks.is_holding:
            return None
        turn = self.ticks.current or self.ticks.begin()
        if self._last is turn:
            return None
        self._last = turn
        return frames[self.window_bits]
