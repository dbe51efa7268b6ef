"""A plugin's subscribers, watched by tests."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager

from channels.core import (
    BackendException,
    ChannelsBackend,
    ChannelsPlugin,
    Event,
    Gap,
    Subscriber,
)


class Watch:
    """One subscriber, and everything that it was given.

    Attributes:
        subscriber: Whom it watches.
        events: The events, in order.
        gaps: The channels for which a gap stood in the stream, in order.
    """

    def __init__(self, subscriber: Subscriber) -> None:
        self.subscriber = subscriber
        self.events: list[Event] = []
        self.gaps: list[str] = []
        subscriber.attach(self._take)

    def _take(self, events: Sequence[Event]) -> bool:
        for event in events:
            if isinstance(event, Gap):
                self.gaps.append(event.channel)
            else:
                self.events.append(event)
        return True

    def of(self, channel: str) -> list[Event]:
        """Return the events of ``channel``."""
        return [event for event in self.events if event.channel == channel]


class WatchedPlugin(ChannelsPlugin):
    """A plugin that any channel can be used of, and that notes what it is told.

    Attributes:
        told: How often ``on_gap`` was called for each channel.
        given_up: The payloads of queued events that were given up, each with its error.
    """

    def __init__(
        self,
        backend: ChannelsBackend,
        *,
        connect_timeout: float = 5.0,
        subscribe_timeout: float = 10.0,
        shutdown_timeout: float = 5.0,
    ) -> None:
        super().__init__(
            backend,
            arbitrary_channels_allowed=True,
            connect_timeout=connect_timeout,
            subscribe_timeout=subscribe_timeout,
            shutdown_timeout=shutdown_timeout,
            on_gap=self._count_gap,
            on_publish_error=self._note_error,
        )
        self.told: Counter[str] = Counter()
        self.given_up: dict[bytes, BackendException] = {}

    def _count_gap(self, channel: str) -> None:
        self.told[channel] += 1

    def _note_error(self, channel: str, data: bytes, error: BackendException) -> None:
        self.given_up[data] = error

    @asynccontextmanager
    async def watch(
        self,
        *channels: str,
        history: int | None = None,
        since: str | Mapping[str, str | None] | None = None,
    ) -> AsyncGenerator[Watch]:
        """Subscribe to ``channels`` while the context is open."""
        async with self.start_subscription(channels, history, since, gaps=True) as subscriber:
            yield Watch(subscriber)


async def eventually(
    reached: Callable[[], object], what: Callable[[], str], *, seconds: float
) -> None:
    """Wait until ``reached()`` is true; ``what()`` says what is missing if it is not in time."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + seconds
    while not reached():
        assert loop.time() < deadline, f"waited {seconds:g} s in vain: {what()}"
        await asyncio.sleep(0.01)
