"""A backend that fails on command."""

from __future__ import annotations

import asyncio
from collections import Counter, deque
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Generator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from typing import Any, Literal

from channels.core import (
    BackendRefused,
    BackendUnavailable,
    ChannelsBackend,
    Event,
    History,
    HistoryRequest,
    Listener,
    Lost,
    MemoryChannelsBackend,
    Message,
    Outcome,
    Position,
    PublishUnconfirmed,
)
from channels.core._tasks import begin
from channels.core.testing._wrapper import BackendWrapper

Operation = Literal["connect", "publish", "subscribe", "unsubscribe", "history"]
PublishFault = Literal["unsent", "raises", "unconfirmed", "vanishes"]


class FaultyBackend(BackendWrapper):
    """Wraps a backend and fails as networks and brokers do, on command.

    Who uses the inner backend directly is not disturbed, and can publish what is missed here.
    Belongs to one event loop. ::

        backend = FaultyBackend(MemoryChannelsBackend(history=100))
        async with ChannelsPlugin(backend, channels=["news"]) as plugin:
            with backend.outage():
                plugin.publish("waits in the queue", "news")

    Args:
        inner: The backend that works. Default: a new memory backend without history.

    Attributes:
        refused: Channels that the broker lets nobody publish or subscribe to
            (``BackendRefused``).
        swallow: Asked for every event that arrives; True loses it. Default None: nothing is lost.
        delays: Seconds that an operation takes longer: ``backend.delays["publish"] = 0.1``.
        calls: How often each operation was called.
    """

    def __init__(self, inner: ChannelsBackend | None = None) -> None:
        super().__init__(MemoryChannelsBackend() if inner is None else inner)
        self.refused: set[str] = set()
        self.swallow: Callable[[Event], bool] | None = None
        self.delays: dict[Operation, float] = {}
        self.calls: Counter[Operation] = Counter()
        self._publish_faults: deque[PublishFault] = deque()
        self._history_faults = 0
        self._down: Exception | None = None
        self._stalled: dict[Operation, asyncio.Event] = {}
        self._open: set[_FaultyListener] = set()

    @property
    def connections(self) -> int:
        """How many listeners are open."""
        return len(self._open)

    @property
    def is_down(self) -> bool:
        """Whether an :meth:`outage` is on."""
        return self._down is not None

    # -- commands --------------------------------------------------------------------------

    def fail_publish(self, *faults: PublishFault) -> None:
        """Let the next calls of ``publish()`` fail, each in the way given.

        Args:
            faults: ``"unsent"``: each outcome is ``BackendUnavailable``; ``"raises"``: the call
                raises it; ``"unconfirmed"``: all is published, but the reply is lost;
                ``"vanishes"``: nothing is published, and the reply is lost.
        """
        self._publish_faults += faults

    def fail_history(self, times: int = 1) -> None:
        """Let the next calls of ``get_history()`` raise ``BackendUnavailable``."""
        self._history_faults += times

    def cut(self) -> None:
        """Cut every open connection; connecting again works at once."""
        for listener in list(self._open):
            listener.cut(BackendUnavailable("the connection was cut"))

    def lose(self, *channels: str) -> None:
        """Let the broker drop these subscriptions of open connections, and say so."""
        for listener in self._open:
            listener.lose(channels)

    @contextmanager
    def outage(self, error: Exception | None = None) -> Generator[None]:
        """Make the broker unreachable while the context is open, and cut the connections.

        Args:
            error: What every operation raises meanwhile. Default: ``BackendUnavailable``.
        """
        self._down = error or BackendUnavailable("the broker is down")
        self.cut()
        try:
            yield
        finally:
            self._down = None

    @contextmanager
    def stall(self, *operations: Operation) -> Generator[None]:
        """Let operations hang while the context is open, those that begin meanwhile."""
        released = asyncio.Event()
        self._stalled.update(dict.fromkeys(operations, released))
        try:
            yield
        finally:
            for operation in operations:
                del self._stalled[operation]
            released.set()

    # -- the contract ----------------------------------------------------------------------

    async def publish(self, messages: Sequence[Message]) -> Sequence[Outcome]:
        await self.pass_through("publish")
        fault = self._publish_faults.popleft() if self._publish_faults else None
        if fault == "raises":
            raise BackendUnavailable("nothing was sent, on command")
        if fault == "unsent":
            return [BackendUnavailable("not sent, on command") for _ in messages]
        if fault != "vanishes":
            outcomes = await self._publish_allowed(messages)
            if fault is None:
                return outcomes
        return [PublishUnconfirmed("the reply was lost, on command") for _ in messages]

    async def _publish_allowed(self, messages: Sequence[Message]) -> Sequence[Outcome]:
        allowed = [message for message in messages if message.channel not in self.refused]
        outcomes = iter(await self.inner.publish(allowed))
        return [
            BackendRefused(f"publishing to {message.channel!r} is refused, on command")
            if message.channel in self.refused
            else next(outcomes)
            for message in messages
        ]

    @asynccontextmanager
    async def listen(self) -> AsyncGenerator[Listener]:
        await self.pass_through("connect")
        async with self.inner.listen() as inner:
            listener = _FaultyListener(self, inner)
            self._open.add(listener)
            try:
                yield listener
            finally:
                self._open.discard(listener)
                await listener.close()

    async def get_history(self, requests: Sequence[HistoryRequest]) -> Sequence[History]:
        await self.pass_through("history")
        if self._history_faults:
            self._history_faults -= 1
            raise BackendUnavailable("history was not read, on command")
        return await self.inner.get_history(requests)

    async def pass_through(self, operation: Operation) -> None:
        """Count the operation, and let it wait or fail as commanded."""
        self.calls[operation] += 1
        if operation in self.delays:
            await asyncio.sleep(self.delays[operation])
        if operation in self._stalled:
            await self._stalled[operation].wait()
        if self._down is not None:
            raise self._down


class _FaultyListener:
    """A listener whose connection can be cut."""

    def __init__(self, backend: FaultyBackend, inner: Listener) -> None:
        self._backend = backend
        self._inner = inner
        self._arriving = aiter(inner)
        self._next: asyncio.Task[Sequence[Event | Lost]] | None = None
        self._subscribed: set[str] = set()
        self._dropped: set[str] = set()
        self._lost: list[Lost] = []
        self._error: Exception | None = None
        self._command: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def cut(self, error: Exception) -> None:
        self._error = error
        self._tell()

    def lose(self, channels: Sequence[str]) -> None:
        if mine := tuple(channel for channel in channels if channel in self._subscribed):
            self._subscribed.difference_update(mine)
            self._dropped.update(mine)
            self._lost.append(Lost(mine))
            self._tell()

    async def close(self) -> None:
        if self._next is not None:
            await _end(self._next)

    async def subscribe(self, channels: Sequence[str]) -> Mapping[str, Position | None]:
        await self._pass_through("subscribe")
        for channel in channels:
            if channel in self._backend.refused:
                raise BackendRefused(f"subscribing to {channel!r} is refused, on command")
        self._dropped.difference_update(channels)
        tops = await self._inner.subscribe(channels)
        self._subscribed.update(channels)
        return tops

    async def unsubscribe(self, channels: Sequence[str]) -> None:
        await self._pass_through("unsubscribe")
        self._subscribed.difference_update(channels)
        await self._inner.unsubscribe(channels)

    async def __aiter__(self) -> AsyncIterator[Sequence[Event | Lost]]:
        while True:
            if self._next is None:
                self._next = asyncio.create_task(self._receive(), name="faulty-listener")
            if not self._lost:
                await self._first_of(self._next)
            if self._lost:
                lost, self._lost = self._lost, []
                yield lost
            elif self._next.done():
                arrived, self._next = self._next.result(), None
                if kept := [item for item in arrived if self._is_kept(item)]:
                    yield kept

    async def _receive(self) -> Sequence[Event | Lost]:
        return await anext(self._arriving)

    def _is_kept(self, item: Event | Lost) -> bool:
        if isinstance(item, Lost):
            return True
        swallow = self._backend.swallow
        return item.channel not in self._dropped and not (swallow is not None and swallow(item))

    async def _pass_through(self, operation: Operation) -> None:
        passing = begin(self._backend.pass_through(operation), "faulty-operation")
        try:
            while not passing.done():
                await self._first_of(passing)
        finally:
            await _end(passing)
        passing.result()

    async def _first_of(self, task: asyncio.Task[Any]) -> None:
        """Wait for ``task`` or a command; raise if the connection is cut."""
        if self._error is None:
            await asyncio.wait({task, self._command}, return_when=asyncio.FIRST_COMPLETED)
        if self._error is not None:
            raise self._error

    def _tell(self) -> None:
        told, self._command = self._command, asyncio.get_running_loop().create_future()
        told.set_result(None)


async def _end(task: asyncio.Task[Any]) -> None:
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
