"""Who is in which room, in all the processes that share a broker."""

import asyncio
import secrets
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager, suppress

import msgspec

from channels.core import ChannelsException, ChannelsPlugin, Event
from examples.chat.frames import Person, Roster

CHANNEL = "presence"
BEAT = 5.0
"""Seconds after which a process tells again who is there; thrice that long, and it is forgotten."""

_decode = msgspec.json.Decoder(Roster).decode


class Presence:
    """Knows who is in the rooms.

    Each process publishes who is in its own rooms, when that changes and from time to time, and
    all of them listen to each other.
    """

    def __init__(self, channels: ChannelsPlugin) -> None:
        self._channels = channels
        self._own = Roster(secrets.token_hex(8), {})
        self._rosters: dict[str, tuple[float, Roster]] = {}
        self._watchers: set[asyncio.Event] = set()

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Listen to the other processes while the context is open."""
        async with self._channels.start_subscription(CHANNEL) as subscriber:
            subscriber.attach(self._hear)
            beating = asyncio.create_task(self._beat())
            try:
                yield
            finally:
                beating.cancel()
                await asyncio.wait([beating])

    @contextmanager
    def enter(self, room: str, person: Person) -> Iterator[asyncio.Event]:
        """Be in a room while the context is open; the event is set whenever somebody moves."""
        moved = asyncio.Event()
        moved.set()
        self._watchers.add(moved)
        here = self._own.rooms.setdefault(room, [])
        here.append(person)
        self._tell()
        try:
            yield moved
        finally:
            here.remove(person)
            self._watchers.discard(moved)
            self._tell()

    def people(self, room: str) -> list[Person]:
        """Return who is in a room, each tab once."""
        there = (roster.rooms.get(room, ()) for _, roster in self._rosters.values())
        return sorted({person for people in there for person in people})

    def _hear(self, events: Sequence[Event]) -> bool:
        for event in events:
            roster = _decode(event)
            self._rosters[roster.process] = (time.monotonic(), roster)
        self._wake()
        return True

    async def _beat(self) -> None:
        while True:
            self._tell()
            await asyncio.sleep(BEAT)
            self._forget_the_silent()

    def _forget_the_silent(self) -> None:
        oldest = time.monotonic() - 3 * BEAT
        silent = [process for process, (heard, _) in self._rosters.items() if heard < oldest]
        for process in silent:
            del self._rosters[process]
        if silent:
            self._wake()

    def _tell(self) -> None:
        with suppress(ChannelsException):  # the next beat tells it
            self._channels.publish(self._own, CHANNEL)

    def _wake(self) -> None:
        for moved in self._watchers:
            moved.set()
