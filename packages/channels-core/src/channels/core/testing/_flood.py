"""A publisher at full speed, for tests."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

from channels.core import ChannelsBackend
from channels.core.testing._checks import publish


class Flood:
    """What a flooding publisher has sent: the numbers from 0 on, in batches.

    Attributes:
        sent: How many events the broker has taken.
    """

    def __init__(self, backend: ChannelsBackend, channel: str, batch: int) -> None:
        self.sent = 0
        self._backend = backend
        self._channel = channel
        self._batch = batch
        self._stopping = False

    def payloads(self, start: int = 0) -> list[bytes]:
        """Return what was published, from number ``start`` on."""
        return [b"%d" % number for number in range(start, self.sent)]

    def stop(self) -> None:
        """Publish the batch under way and no other."""
        self._stopping = True

    async def run(self) -> None:
        """Publish until :meth:`stop`."""
        while not self._stopping:
            batch = [b"%d" % number for number in range(self.sent, self.sent + self._batch)]
            await publish(self._backend, self._channel, *batch)
            self.sent += self._batch
            await asyncio.sleep(0)


@asynccontextmanager
async def flood(
    backend: ChannelsBackend, channel: str, *, batch: int = 10
) -> AsyncGenerator[Flood]:
    """Publish to ``channel`` without a pause for as long as the context is open."""
    flooding = Flood(backend, channel, batch)
    task = asyncio.create_task(flooding.run(), name="flood")
    try:
        yield flooding
    finally:
        flooding.stop()
        await task
