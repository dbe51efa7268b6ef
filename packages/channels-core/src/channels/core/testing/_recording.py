"""A backend for an application's own tests."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from channels.core import (
    BackendException,
    ChannelsBackend,
    MemoryChannelsBackend,
    Message,
    Outcome,
)
from channels.core.testing._wrapper import BackendWrapper


class RecordingBackend(BackendWrapper):
    """Remembers what was published, for tests of what publishes.

    ::

        backend = RecordingBackend()
        async with ChannelsPlugin(backend, channels=["orders"]) as channels:
            await place_order(channels)
            assert await backend.wait_for("orders") == [b'{"placed":1}']

    Args:
        inner: The backend that does the work. Default: a new
            :class:`~channels.core.MemoryChannelsBackend` without history.

    Attributes:
        published: Every message that the inner backend took, in order: ``(channel, data)``.
    """

    def __init__(self, inner: ChannelsBackend | None = None) -> None:
        super().__init__(MemoryChannelsBackend() if inner is None else inner)
        self.published: list[Message] = []
        self._waiting: dict[asyncio.Event, asyncio.AbstractEventLoop] = {}

    async def publish(self, messages: Sequence[Message]) -> Sequence[Outcome]:
        outcomes = await super().publish(messages)
        self.published += [
            message
            for message, outcome in zip(messages, outcomes, strict=True)
            if not isinstance(outcome, BackendException)
        ]
        for woken, loop in list(self._waiting.items()):
            loop.call_soon_threadsafe(woken.set)
        return outcomes

    def payloads(self, channel: str) -> list[bytes]:
        """Return what was published to ``channel`` so far, oldest first."""
        return [data for name, data in list(self.published) if name == channel]

    async def wait_for(self, channel: str, count: int = 1, *, timeout: float = 5.0) -> list[bytes]:
        """Wait until ``channel`` was published to, and return all of its payloads.

        May be awaited on another event loop than the one that publishes.

        Args:
            channel: Its name.
            count: How many events to wait for, those already published included. Default 1.
            timeout: Seconds to wait at most. Default 5.

        Raises:
            AssertionError: They were not published in time; says what was.
        """
        woken = asyncio.Event()
        self._waiting[woken] = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(timeout):
                while len(payloads := self.payloads(channel)) < count:
                    await woken.wait()
                    woken.clear()
                return payloads
        except TimeoutError:
            others = sorted({message.channel for message in self.published} - {channel})
            raise AssertionError(
                f"{count} events of channel {channel!r} were expected within {timeout:g} s, "
                f"{len(self.payloads(channel))} were published"
                + (f"; other channels that were published to: {others[:10]}" if others else "")
            ) from None
        finally:
            del self._waiting[woken]

    def clear(self) -> None:
        """Forget what was published so far."""
        self.published.clear()
