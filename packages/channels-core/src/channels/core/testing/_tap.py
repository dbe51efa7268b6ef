"""A consumer of one listener, for tests."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from types import TracebackType
from typing import Self, cast

from channels.core import Event, Listener, Lost, Position


class Tap:
    """Iterate a listener in a task of its own and keep what comes.

    Args:
        listener: A listener that nothing else iterates.
        patience: Seconds that :meth:`until` and :meth:`subscribe` wait at most.

    Attributes:
        events: All that came, in order.
        lost: The channels of every :class:`~channels.core.Lost` that came.
        error: What the iteration ended with, or None while it goes on.
    """

    def __init__(self, listener: Listener, *, patience: float) -> None:
        self.listener = listener
        self.events: list[Event] = []
        self.lost: list[str] = []
        self.error: BaseException | None = None
        self._patience = patience
        self._news = asyncio.Event()
        self._pump: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        self.start()
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.stop()
        if exc is None and isinstance(self.error, AssertionError):
            raise self.error

    def start(self) -> None:
        """Iterate, for the first time or again."""
        self._pump = asyncio.create_task(self._iterate(), name="iteration of the listener")

    async def stop(self) -> None:
        """Cancel the iteration, as the plugin does when it stops."""
        if self._pump is None:
            return
        pump, self._pump = self._pump, None
        pump.cancel()
        _, pending = await asyncio.wait([pump], timeout=self._patience)
        assert not pending, (
            f"the iteration of the listener goes on {self._patience:g} s after it was cancelled: "
            f"it must let CancelledError through"
        )

    async def subscribe(self, *channels: str) -> Mapping[str, Position | None]:
        """Subscribe while the iteration runs; there must be a top for each channel."""
        try:
            async with asyncio.timeout(self._patience):
                tops = await self.listener.subscribe(channels)
        except TimeoutError as exc:
            raise AssertionError(
                f"subscribe() of {len(channels)} channels did not return within "
                f"{self._patience:g} s, while another task iterates the listener"
            ) from exc
        assert set(tops) == set(channels), (
            f"subscribe() must return a top (or None) for each channel: "
            f"without one: {sorted(set(channels) - set(tops))[:5]}, "
            f"not asked for: {sorted(set(tops) - set(channels))[:5]}"
        )
        return tops

    async def unsubscribe(self, *channels: str) -> None:
        """Unsubscribe while the iteration runs."""
        try:
            async with asyncio.timeout(self._patience):
                await self.listener.unsubscribe(channels)
        except TimeoutError as exc:
            raise AssertionError(
                f"unsubscribe() of {len(channels)} channels did not return within "
                f"{self._patience:g} s, while another task iterates the listener"
            ) from exc

    def of(self, channel: str) -> list[Event]:
        """Return what came on ``channel``."""
        return [event for event in self.events if event.channel == channel]

    async def until(self, reached: Callable[[], object], what: str) -> None:
        """Wait until ``reached()`` is true, which is asked whenever something came."""
        try:
            async with asyncio.timeout(self._patience):
                while not reached():
                    assert self.error is None, (
                        f"the listener's iteration ended with {self.error!r} before {what}, "
                        f"though nobody broke the connection"
                    )
                    self._news.clear()
                    await self._news.wait()
        except TimeoutError:
            raise AssertionError(
                f"waited {self._patience:g} s in vain for {what}; {self._summary()}"
            ) from None

    async def until_event(self, channel: str, data: bytes) -> None:
        """Wait for an event of ``channel`` with this payload."""
        await self.until(
            lambda: any(event == data and event.channel == channel for event in self.events),
            f"the event {data!r:.60} of channel {channel!r}",
        )

    def beyond(self, top: Position | None) -> list[Event]:
        """Return what came with a later position than ``top``; all of it where that is None."""
        return [
            event
            for event in self.events
            if top is None or (event.position is not None and event.position > top)
        ]

    async def until_count(self, count: int, channel: str | None = None) -> None:
        """Wait for so many events, of one channel or in all."""
        await self.until(
            lambda: len(self.events if channel is None else self.of(channel)) >= count,
            f"{count} events" + ("" if channel is None else f" of channel {channel!r}"),
        )

    async def until_ended(self) -> BaseException:
        """Wait until the iteration ends, and return the error it ended with."""
        try:
            async with asyncio.timeout(self._patience):
                while self.error is None:
                    self._news.clear()
                    await self._news.wait()
        except TimeoutError:
            raise AssertionError(
                f"the connection is gone, but the listener's iteration did not raise "
                f"BackendUnavailable within {self._patience:g} s"
            ) from None
        return self.error

    async def _iterate(self) -> None:
        try:
            async for batch in self.listener:
                self._take(batch)
                self._news.set()
            raise AssertionError(
                "the listener's iteration came to an end by itself; it must go on, or raise "
                "BackendUnavailable when the connection is gone"
            )
        except Exception as exc:
            self.error = exc
            self._news.set()

    def _take(self, batch: object) -> None:
        assert isinstance(batch, Sequence) and not isinstance(batch, bytes), (
            f"the listener yields lists of what arrived together, not {batch!r:.80}"
        )
        assert batch, "the listener yielded an empty batch; wait until there is something"
        for item in cast(Sequence[object], batch):
            if isinstance(item, Lost):
                self.lost += item.channels
            else:
                assert isinstance(item, Event), f"the listener yielded {item!r:.80}, no Event"
                self.events.append(item)

    def _summary(self) -> str:
        last = f", the last was {self.events[-1]!r:.120}" if self.events else ""
        lost = f", and Lost for {self.lost[:5]}" if self.lost else ""
        return f"{len(self.events)} events came{last}{lost}"
