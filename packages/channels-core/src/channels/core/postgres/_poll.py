"""Listening without NOTIFY: a look at the channels' tops, again and again."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence

from channels.core._backend import HistoryRequest, Lost
from channels.core._errors import BackendException, BackendUnavailable
from channels.core._event import BEGINNING, Event, Position
from channels.core.postgres._lane import close
from channels.core.postgres._port import Connection
from channels.core.postgres._record import Record


class PollingListener:
    """Ask the record every ``interval`` seconds; needs history, takes no lock, LISTENs to nothing.

    A dead connection is found by the next look, within the time that a statement may take.

    Args:
        connection: New; it is closed with the listener.
        record: What to ask.
        interval: Seconds between two looks.
    """

    def __init__(self, connection: Connection, record: Record, interval: float) -> None:
        self._connection = connection
        self._record = record
        self._interval = interval
        self._positions: dict[str, Position] = {}
        self._lock = asyncio.Lock()

    async def close(self) -> None:
        """End the connection, within about a second."""
        await close(self._connection)

    async def subscribe(self, channels: Sequence[str]) -> Mapping[str, Position | None]:
        async with self._lock:
            tops = await self._record.tops(self._connection, channels)
            self._positions.update((channel, top or BEGINNING) for channel, top in tops.items())
            return tops

    async def unsubscribe(self, channels: Sequence[str]) -> None:
        for channel in channels:
            self._positions.pop(channel, None)

    async def __aiter__(self) -> AsyncIterator[Sequence[Event | Lost]]:
        while True:
            try:
                async with self._lock:
                    events = await self._look() if self._positions else []
            except BackendException as exc:
                raise BackendUnavailable(str(exc)) from exc
            if events:
                yield events
            else:
                await asyncio.sleep(self._interval)

    async def _look(self) -> Sequence[Event]:
        changed = await self._record.changed(self._connection, self._positions)
        requests = [
            HistoryRequest(channel, since=self._positions[channel])
            for channel in changed
            if channel in self._positions
        ]
        histories = await self._record.read(self._connection, requests, untrimmed=True)
        events: list[Event] = []
        for request, history in zip(requests, histories, strict=True):
            if request.channel in self._positions and history.position is not None:
                self._positions[request.channel] = history.position
                events += history.events
        return events
