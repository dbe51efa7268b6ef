"""The listener: subscriptions, spread over the feeds of a deployment, to one iteration."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence

from channels.core import BackendException, BackendUnavailable, Event, Lost, Position
from channels.redis._feed import Feed
from channels.redis._keys import slot, tag
from channels.redis._servers import Servers

_HIGH_WATER = 20_000
_MOVES = 3


class Subscription:
    """What the listener knows of one channel."""

    __slots__ = ("channel", "feed", "position", "seen", "topic")

    def __init__(self, channel: str, topic: bytes) -> None:
        self.channel = channel
        self.topic = topic
        self.feed: Feed | None = None
        self.position: Position | None = None
        """The last that arrived, or the top at subscribing."""
        self.seen: bytes | None = None
        """The record's state when nothing was missing last."""

    @property
    def tag(self) -> bytes:
        return tag(self.channel)


Tops = Callable[[Sequence[Subscription]], Awaitable[Sequence[Position | None]]]
"""Read the tops of some subscriptions' records."""

Read = Callable[[Subscription, bytes], Event | None]
"""Make an event of a message; None for a frame that we do not understand."""


class RedisListener:
    """One feed per master, all of which end together.

    The subscription of a topic is in ``_subscriptions`` from before the server is told, and out
    of it before the server is told to stop; what arrives for another topic is ignored.
    """

    def __init__(
        self,
        servers: Servers,
        heartbeat: float,
        topic: Callable[[str], bytes],
        read: Read,
        tops: Tops | None = None,
    ) -> None:
        self._servers = servers
        self._heartbeat = heartbeat
        self._topic = topic
        self._read = read
        self._tops = tops
        self._prefix = b"s" if servers.sharded else b""
        self._feeds: dict[str, Feed] = {}
        self._subscriptions: dict[bytes, Subscription] = {}
        self._arrived: list[Event | Lost] = []
        self._moved: list[str] = []
        self._waiter: asyncio.Future[None] | None = None
        self._failure: BackendException | None = None
        self._closing = False

    async def open(self) -> None:
        """Connect to where a listener of no channels would be.

        Raises:
            BackendException: The server cannot be reached, or refused.
        """
        for address in list(await self._servers.locate([b""]))[:1]:
            await self._feed(address)

    async def close(self) -> None:
        """Close the connections."""
        self._closing = True
        await asyncio.gather(*(feed.close() for feed in self._feeds.values()))

    @property
    def subscriptions(self) -> Sequence[Subscription]:
        """Those that the server confirmed."""
        return [each for each in self._subscriptions.values() if each.feed is not None]

    async def subscribe(self, channels: Sequence[str]) -> Mapping[str, Position | None]:
        wanted: list[Subscription] = []
        for channel in channels:
            topic = self._topic(channel)
            subscription = self._subscriptions.get(topic)
            if subscription is None:
                subscription = self._subscriptions[topic] = Subscription(channel, topic)
            subscription.feed = None
            wanted.append(subscription)
        try:
            await self._join(wanted)
            tops = await self._tops(wanted) if self._tops else [None] * len(wanted)
        except BackendUnavailable:
            raise  # the connection is given up, and all that it has with it
        except BackendException:
            await self.unsubscribe(channels)
            raise
        return dict(zip(channels, tops, strict=True))

    async def unsubscribe(self, channels: Sequence[str]) -> None:
        leaving: dict[Feed, list[Subscription]] = {}
        for channel in channels:
            subscription = self._subscriptions.pop(self._topic(channel), None)
            if subscription is not None and subscription.feed is not None:
                leaving.setdefault(subscription.feed, []).append(subscription)
        for feed, subscriptions in leaving.items():
            await feed.unsubscribe(self._prefix + b"unsubscribe", self._groups(subscriptions))

    async def catch_up(self) -> None:
        """Wait until what was published before has arrived.

        Raises:
            BackendUnavailable: A connection is gone.
        """
        for feed in list(self._feeds.values()):
            await feed.catch_up()

    def lose(self, channels: Sequence[str]) -> None:
        """Have channels subscribed again, as events of theirs are missing."""
        if channels:
            self._moved.extend(channels)
            self.heard()

    def fail(self, failure: BackendException) -> None:
        """End the iteration."""
        if self._failure is None:
            self._failure = failure
            self._wake()

    async def __aiter__(self) -> AsyncIterator[Sequence[Event | Lost]]:
        loop = asyncio.get_running_loop()
        while True:
            while not self._arrived:
                if self._failure is not None:
                    raise self._failure
                self._waiter = loop.create_future()
                try:
                    await self._waiter
                finally:
                    self._waiter = None
            arrived, self._arrived = self._arrived, []
            for feed in self._feeds.values():
                feed.resume()
            yield arrived

    # What a feed tells.

    def message(self, topic: bytes, data: bytes) -> None:
        subscription = self._subscriptions.get(topic)
        if subscription is not None:
            event = self._read(subscription, data)
            if event is not None:
                self._arrived.append(event)

    def joined(self, topic: bytes, feed: Feed) -> None:
        subscription = self._subscriptions.get(topic)
        if subscription is not None:
            subscription.feed = feed

    def moved(self, topic: bytes, feed: Feed) -> None:
        self._servers.stale()
        subscription = self._subscriptions.get(topic)
        if subscription is not None and subscription.feed is feed:
            subscription.feed = None
            self._moved.append(subscription.channel)

    def heard(self) -> None:
        if self._moved:
            self._arrived.append(Lost(tuple(self._moved)))
            self._moved.clear()
        if self._arrived:
            if len(self._arrived) > _HIGH_WATER:
                for feed in self._feeds.values():
                    feed.pause()
            self._wake()

    def ended(self, reason: str) -> None:
        if not self._closing:
            self._servers.stale()
        self.fail(BackendUnavailable(reason))

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    async def _join(self, wanted: Sequence[Subscription]) -> None:
        refused: BackendException | None = None
        for attempt in range(1, _MOVES + 1):
            tags = [each.tag if self._servers.sharded else b"" for each in wanted]
            places = await self._servers.locate(tags)
            for address, group in places.items():
                feed = await self._feed(address)
                try:
                    await feed.subscribe(
                        self._prefix + b"subscribe", self._groups([wanted[at] for at in group])
                    )
                except BackendUnavailable as exc:
                    if not str(exc).startswith("MOVED"):
                        raise
                    self._servers.stale()
                    refused = exc
                except BackendException as exc:
                    refused = exc
            wanted = [each for each in wanted if each.feed is None]
            if not wanted:
                return
            if not isinstance(refused, BackendUnavailable) or attempt == _MOVES:
                break
        raise refused or BackendUnavailable("the server did not confirm every subscription")

    async def _feed(self, address: str) -> Feed:
        feed = self._feeds.get(address)
        if feed is None:
            feed = self._feeds[address] = await self._servers.connect(
                address,
                lambda server: Feed(server, self, self._heartbeat, sharded=self._servers.sharded),
            )
        return feed

    def _groups(self, subscriptions: Sequence[Subscription]) -> Sequence[Sequence[bytes]]:
        if not self._prefix:
            return [[each.topic for each in subscriptions]]
        slots: dict[int, list[bytes]] = {}
        for each in subscriptions:
            slots.setdefault(slot(each.tag), []).append(each.topic)
        return list(slots.values())
