"""One browser tab in one room."""

import asyncio
import secrets
import time
from collections.abc import Callable, Coroutine

import msgspec
from litestar import WebSocket

from channels.core import ChannelsException, ChannelsPlugin, Gap, Subscriber
from examples.chat.frames import (
    Backlog,
    Delivery,
    Drop,
    Flood,
    FromBrowser,
    Join,
    Joined,
    Missing,
    People,
    Refused,
    Said,
    Say,
    ToBrowser,
)
from examples.chat.presence import Presence

ROOMS = ("lobby", "kitchen", "workshop", "garden")
HISTORY = 50
"""How many messages somebody sees who comes into a room."""

SLOW = 0.1
"""Seconds that a slow client takes for each event."""
SLOW_BACKLOG = 40
BACKLOG = 10_000
FLOOD = 200
"""How many events a flood has."""
FLOOD_PAUSE = 0.01

BACKLOG_FULL = 4008
GOING_AWAY = 1001

_encode = msgspec.json.Encoder().encode
_decode: Callable[[str], FromBrowser] = msgspec.json.Decoder(FromBrowser).decode


def flood_channel(room: str) -> str:
    """Name the channel of a room's floods, which would push its messages out of the history."""
    return f"{room}/flood"


class Conversation:
    """Everything between joining a room and leaving it."""

    def __init__(
        self, socket: WebSocket, channels: ChannelsPlugin, presence: Presence, room: str
    ) -> None:
        self.socket = socket
        self.channels = channels
        self.presence = presence
        self.room = room
        self.handed = 0
        self.replayed = 0
        self.flood: asyncio.Task[None] | None = None

    async def run(self) -> None:
        """Talk until the browser leaves or the stream ends.

        Raises:
            WebSocketDisconnect: The browser has left.
            ChannelsException: It cannot join.
            msgspec.ValidationError: It sends what it should not.
        """
        async with asyncio.timeout(10):
            join = await self.receive()
        if not isinstance(join, Join):
            raise msgspec.ValidationError("the first frame must be a join")
        self.who = join.who
        self.is_slow = join.slow is not None
        self.subscriber = Subscriber(
            SLOW_BACKLOG if self.is_slow else BACKLOG, join.slow or "disconnect"
        )
        self.subscriber.configure(tells_gaps=True, on_drop=None)
        try:
            await self.subscribe(join.since)
            await self.talk()
        finally:
            await self.channels.unsubscribe(self.subscriber)

    async def subscribe(self, since: dict[str, str]) -> None:
        """Join the room's channels, each from where the browser stopped or with some history."""
        keeps_history = self.channels.backend.keeps_history
        # What was said is replayed before the floods: who joins last is replayed first.
        for channel, history in ((flood_channel(self.room), None), (self.room, HISTORY)):
            await self.channels.subscribe(
                channel,
                history=history if keeps_history else None,
                since=since.get(channel) if keeps_history else None,
                subscriber=self.subscriber,
            )
        self.replayed = self.subscriber.qsize
        joined = Joined(
            room=self.room,
            keeps_history=keeps_history,
            recovered=self.subscriber.recovered,
            replayed=self.replayed,
            positions=dict(self.subscriber.positions),
        )
        await self.send(joined)

    async def talk(self) -> None:
        """Send and receive until one of them ends."""
        with self.presence.enter(self.room, self.who) as moved:
            work = [self.listen(), self.deliver(), self.tell_people(moved)]
            if self.is_slow:
                work.append(self.tell_backlog())
            try:
                await until_one_ends(*work)
            finally:
                if self.flood is not None:
                    self.flood.cancel()

    async def listen(self) -> None:
        """Publish what the browser says."""
        while True:
            match await self.receive():
                case Say(text):
                    await self.say(text)
                case Flood() if self.flood is None or self.flood.done():
                    self.flood = asyncio.create_task(self.pour())

    async def say(self, text: str) -> None:
        try:
            await self.channels.wait_published(Said(self.who, text, time.time()), self.room)
        except ChannelsException as exc:
            await self.send(Refused(text, str(exc)))

    async def pour(self) -> None:
        """Publish more events than a slow client can take."""
        flood = secrets.token_hex(4)
        for number in range(FLOOD):
            drop = Drop(self.who, flood, number, FLOOD)
            self.channels.publish(drop, flood_channel(self.room))
            await asyncio.sleep(FLOOD_PAUSE)

    async def deliver(self) -> None:
        """Send the events; a slow client takes its time for each."""
        async for event in self.subscriber.iter_events():
            if isinstance(event, Gap):
                await self.send(Missing(event.channel, event.dropped))
                continue
            await self.send(Delivery(event.channel, event.id, msgspec.Raw(event)))
            self.handed += 1
            if self.is_slow:
                await asyncio.sleep(SLOW)
        is_full = self.subscriber.end_reason == "backlog full"
        await self.socket.close(BACKLOG_FULL if is_full else GOING_AWAY, self.subscriber.end_reason)

    async def tell_people(self, moved: asyncio.Event) -> None:
        """Tell who is in the room, whenever somebody comes or goes."""
        while await moved.wait():
            moved.clear()
            counts = {room: len(self.presence.people(room)) for room in ROOMS}
            await self.send(People(self.presence.people(self.room), counts))

    async def tell_backlog(self) -> None:
        """Tell how the backlog of a slow client fills and drains."""
        told = None
        while True:
            subscriber = self.subscriber
            now = Backlog(
                waiting=subscriber.qsize,
                limit=SLOW_BACKLOG,
                dropped=subscriber.dropped,
                handed=self.handed,
                replays=self.handed < self.replayed,
            )
            if now != told:
                await self.send(now)
                told = now
            await asyncio.sleep(SLOW)

    async def receive(self) -> FromBrowser:
        return _decode(await self.socket.receive_text())

    async def send(self, frame: ToBrowser) -> None:
        await self.socket.send_text(_encode(frame))


async def until_one_ends(*work: Coroutine[object, object, None]) -> None:
    """Run all of it, cancel the rest when one has ended, and raise what that one raised."""
    tasks = [asyncio.create_task(each) for each in work]
    try:
        ended, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    for task in ended:
        task.result()
