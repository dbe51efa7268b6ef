"""How a suite gets the backend that it tries."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any, ClassVar

from channels.core import Event, Listener, Lost, Message, Outcome, Position
from channels.core.postgres import PostgresChannelsBackend


class Maker:
    """What a driver's package tells the suites; a class of its own, mixed in."""

    def make(self, dsn: str | None = None, **options: Any) -> PostgresChannelsBackend:
        """Build a backend, not entered."""
        raise NotImplementedError

    def pool(self, dsn: str, size: int) -> AbstractAsyncContextManager[Any]:
        """Open a pool of the driver's with up to ``size`` connections."""
        raise NotImplementedError

    def connection(self, dsn: str) -> AbstractAsyncContextManager[Any]:
        """Open a connection of the driver's, as an application would."""
        raise NotImplementedError

    async def execute(self, connection: Any, statement: str) -> None:
        """Run a statement without parameters on such a connection."""
        raise NotImplementedError

    sqlalchemy_url: ClassVar[str]
    """The scheme of SQLAlchemy's asyncio engine for the driver."""


class Tap:
    """Collect what a listener receives."""

    def __init__(self, listener: Listener) -> None:
        self.listener = listener
        self.events: list[Event] = []
        self.lost: list[str] = []
        self.failure: BaseException | None = None
        self._task = asyncio.create_task(self._collect())

    async def _collect(self) -> None:
        try:
            async for batch in self.listener:
                for item in batch:
                    if isinstance(item, Lost):
                        self.lost += item.channels
                    else:
                        self.events.append(item)
        except Exception as exc:
            self.failure = exc

    async def until(self, done: Callable[[], object], what: str, seconds: float = 8.0) -> None:
        """Wait for a condition."""
        await until(
            done, lambda: f"{what}; {len(self.events)} events, failure {self.failure!r}", seconds
        )

    async def count(self, n: int) -> list[Event]:
        """Wait for so many events and return them."""
        await self.until(lambda: len(self.events) >= n, f"{n} events")
        return self.events

    async def failed(self, seconds: float = 8.0) -> BaseException:
        """Wait for the iteration to raise; return what it raised."""
        await self.until(lambda: self.failure, "the failure", seconds)
        assert self.failure is not None
        return self.failure

    async def close(self) -> None:
        """Stop."""
        self._task.cancel()
        await asyncio.wait([self._task])


async def until(
    done: Callable[[], object], what: str | Callable[[], str], seconds: float = 8.0
) -> None:
    """Wait until ``done()`` is true."""
    deadline = time.monotonic() + seconds
    while not done():
        if time.monotonic() > deadline:
            raise AssertionError(
                f"not within {seconds} s: {what if isinstance(what, str) else what()}"
            )
        await asyncio.sleep(0.005)


@asynccontextmanager
async def tapped(backend: PostgresChannelsBackend, *channels: str) -> AsyncIterator[Tap]:
    """Listen and collect."""
    async with backend.listen() as listener:
        tap = Tap(listener)
        try:
            await listener.subscribe(channels)
            yield tap
        finally:
            await tap.close()


async def send(
    backend: PostgresChannelsBackend, channel: str, *payloads: bytes
) -> Sequence[Outcome]:
    """Publish to one channel and expect success."""
    outcomes = await backend.publish([Message(channel, data) for data in payloads])
    for outcome in outcomes:
        if isinstance(outcome, Exception):
            raise outcome
    return outcomes


def position(outcome: Outcome) -> Position:
    """Return an outcome that must be a position."""
    assert isinstance(outcome, Position), outcome
    return outcome
