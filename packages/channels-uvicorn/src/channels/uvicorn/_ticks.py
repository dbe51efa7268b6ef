"""The turns of an event loop, in which writes to one connection are joined."""

from __future__ import annotations

import asyncio
import logging
from typing import Protocol
from weakref import WeakKeyDictionary, WeakValueDictionary

from channels.uvicorn._group import Group, Source

logger = logging.getLogger("channels")


class Holder(Protocol):
    """Holds what it was given in a turn of the loop after the first write."""

    def flush(self) -> None:
        """Write it."""
        ...


class Ticks:
    """Tells whether it is still the same turn of a loop, with one handle per turn for everybody.

    Attributes:
        current: Stands for the turn in which somebody writes; None before the first one does.
    """

    __slots__ = ("_groups", "_holders", "current")

    def __init__(self) -> None:
        self.current: object | None = None
        self._groups: WeakValueDictionary[tuple[int, int], Group] = WeakValueDictionary()
        self._holders: list[Holder] = []

    @staticmethod
    def of(loop: asyncio.AbstractEventLoop) -> Ticks:
        """Return the loop's."""
        return _ticks.setdefault(loop, Ticks())

    @property
    def is_holding(self) -> bool:
        """Whether somebody may hold something."""
        return bool(self._holders)

    def group(self, source: Source, window_bits: int) -> Group:
        """Return the group of those who are fed from ``source`` in that form."""
        key = id(source), window_bits  # which nobody else has while the group keeps the source
        group = self._groups.get(key)
        if group is None:
            group = self._groups[key] = Group(source, window_bits, self)
        return group

    def begin(self) -> object:
        """Begin a turn, which ends before the loop waits for anything."""
        self.current = turn = object()
        asyncio.get_running_loop().call_soon(self._end)
        return turn

    def add(self, holder: Holder) -> None:
        """Have ``holder`` flushed when the turn ends."""
        self._holders.append(holder)

    def _end(self) -> None:
        self.current = None
        holders, self._holders = self._holders, []
        for holder in holders:
            try:
                holder.flush()
            except Exception:
                logger.exception("a connection cannot be written to")


_ticks: WeakKeyDictionary[asyncio.AbstractEventLoop, Ticks] = WeakKeyDictionary()
