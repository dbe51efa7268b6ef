"""Waiting until an event has come through."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable

from channels.core import ChannelsPlugin


async def publish_and_wait(
    plugin: ChannelsPlugin, data: object, channels: str | Iterable[str], *, timeout: float = 5.0
) -> None:
    """Publish, and wait until the event has reached every subscriber that ``plugin`` has.

    Reached means: it is in the subscriber's backlog, or its sink has been called. What a worker
    makes of it is done when ``run_in_background`` has been left.

    Args:
        plugin: A running one.
        data: As for ``publish()``.
        channels: One name or several.
        timeout: Seconds to wait at most. Default 5.

    Raises:
        AssertionError: It did not come through in time.
        ChannelsException: As ``wait_published()``.
    """
    names = {channels} if isinstance(channels, str) else set(channels)
    payload = plugin.encode(data)
    # Who joins last is served last.
    async with plugin.start_subscription(names) as probe:
        await plugin.wait_published(payload, names)
        missing = set(names)
        try:
            async with asyncio.timeout(timeout):
                async for event in probe.iter_events():
                    if event == payload:
                        missing.discard(event.channel)
                    if not missing:
                        return
        except TimeoutError:
            pass
    raise AssertionError(
        f"an event of {sorted(missing)} was published and did not come through in {timeout:g} s"
    )
