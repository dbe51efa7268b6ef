"""Channels over a broker; the kind is the scheme and query of a backend's URL."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from benchmarks.subjects.broker import Client
from channels.core import ChannelsPlugin, Subscriber


@asynccontextmanager
async def opened(url: str, kind: str) -> AsyncIterator[Client]:
    scheme, _, query = kind.partition("?")
    address = f"{scheme}://{url.partition('://')[2]}"
    async with ChannelsPlugin(
        f"{address}?{query}" if query else address,
        arbitrary_channels_allowed=True,
        require_broker=True,
    ) as plugin:
        yield Client(plugin.wait_published, plugin.subscribe, Subscriber.iter_events)
