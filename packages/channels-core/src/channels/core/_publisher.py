"""What waits to be sent: the queue of ``publish()``, the group commit of ``wait_published()``."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections import deque
from collections.abc import Callable, Sequence

from channels.core._backend import ChannelsBackend, Message, Outcome
from channels.core._backoff import Backoff
from channels.core._errors import (
    BackendException,
    BackendUnavailable,
    NotRunningError,
    PublishQueueFull,
    PublishUnconfirmed,
)
from channels.core._occasionally import Occasionally
from channels.core._parking import Parking
from channels.core._tasks import call, end, give_way

logger = logging.getLogger("channels")

MAX_BATCH = 500
"""Messages that are given to the backend in one call."""

MAX_BATCH_BYTES = 4 * 1024 * 1024
"""Bytes of payload in one call, unless one publish has more: backends answer within a bound."""

CROWD = 8
"""Calls at once that are worth to be sent in halves."""

_Seat = tuple[int, asyncio.Future[Sequence[Outcome]]]
"""How many messages a call brought, and what it waits for."""


class Publisher:
    """Send messages to a backend, queued from any thread or at once.

    Args:
        backend: Where to.
        max_pending: How many queued messages may wait.
        retry_unconfirmed: Whether the queue sends again what is in doubt.
        on_error: Called with each queued message that was given up, and why.
    """

    def __init__(
        self,
        backend: ChannelsBackend,
        max_pending: int,
        retry_unconfirmed: bool,
        on_error: Callable[[Message, BackendException], None],
    ) -> None:
        self._backend = backend
        self._max_pending = max_pending
        self._retry_unconfirmed = retry_unconfirmed
        self._on_error = on_error
        self._unconfirmed_log = Occasionally(logger)
        self._failed_log = Occasionally(logger)
        self._loop = asyncio.get_running_loop()
        self._thread = threading.get_ident()
        self._lock = threading.Lock()
        self._queue: deque[Message] = deque()
        self._batch: list[Message] = []
        self._wake = Parking()
        self._settled = asyncio.Event()
        self._closing = False
        self._backoff = Backoff()
        self._nudge = asyncio.Event()
        self._flying = False
        self._waiting: list[tuple[Sequence[Message], asyncio.Future[Sequence[Outcome]]]] = []
        self._flights: set[asyncio.Task[None]] = set()
        self._last = self._last_but_one = 0
        self._sender = asyncio.create_task(self._send_queued(), name="channels-publisher")

    @property
    def pending(self) -> int:
        """How many queued messages the broker does not have yet."""
        return len(self._queue) + len(self._batch)

    # -- the queue -------------------------------------------------------------------------

    def enqueue(self, messages: Sequence[Message]) -> None:
        """Queue all of ``messages`` or none, from any thread.

        Raises:
            PublishQueueFull: ``max_pending`` messages would be exceeded.
            NotRunningError: The plugin is stopping.
        """
        with self._lock:
            if self._closing:
                raise NotRunningError("the plugin is stopping; it takes nothing more to publish")
            if len(self._queue) + len(self._batch) + len(messages) > self._max_pending:
                raise PublishQueueFull(self._max_pending)
            self._queue.extend(messages)
            if threading.get_ident() == self._thread:
                self._wake.wake()
            else:  # under the lock: the loop cannot have been closed before
                self._loop.call_soon_threadsafe(self._wake.wake)

    def nudge(self) -> None:
        """Try again now: the broker is there."""
        self._nudge.set()

    async def _send_queued(self) -> None:
        while True:
            while self._batch or self._queue:
                with self._lock:
                    self._fill_batch()
                await self._send_batch()
            self._settled.set()
            await self._wake

    def _fill_batch(self) -> None:
        batch, queue = self._batch, self._queue
        size = sum(len(message.data) for message in batch)
        while queue and len(batch) < MAX_BATCH:
            size += len(queue[0].data)
            if batch and size > MAX_BATCH_BYTES:
                break
            batch.append(queue.popleft())

    async def _send_batch(self) -> None:
        """Send the batch; what is to be sent again stays in it."""
        batch = self._batch
        try:
            outcomes = await self._publish(batch)
        except BackendException as exc:
            outcomes = [exc] * len(batch)
        except Exception as exc:
            logger.exception("the backend failed to publish %d events", len(batch))
            outcomes = [_in_doubt(exc)] * len(batch)
        again: list[Message] = []
        for message, outcome in zip(batch, outcomes, strict=True):
            if not isinstance(outcome, BackendException):
                continue
            if isinstance(outcome, BackendUnavailable) or (
                self._retry_unconfirmed and isinstance(outcome, PublishUnconfirmed)
            ):
                again.append(message)
            else:
                self._give_up(message, outcome)
        self._batch = again
        if not again:
            self._backoff.reset()
            return
        give_way()
        self._nudge.clear()
        try:
            async with asyncio.timeout(self._backoff.next_delay()):
                await self._nudge.wait()
        except TimeoutError:
            pass

    def _give_up(self, message: Message, error: BackendException) -> None:
        if isinstance(error, PublishUnconfirmed):
            self._unconfirmed_log.warning(
                "%d events may or may not have been published, the last to %r: %s",
                message.channel,
                error,
            )
        else:
            self._failed_log.warning(
                "%d events were not published, the last to %r: %s", message.channel, error
            )
        self._on_error(message, error)

    # -- at once ---------------------------------------------------------------------------

    async def publish(self, messages: Sequence[Message]) -> Sequence[Outcome]:
        """Send now, past the queue; calls that come while one is under way share the next.

        Raises:
            BackendException: Surely nothing was sent.
            NotRunningError: The plugin is stopping.
        """
        if self._closing:
            raise NotRunningError("the plugin is stopping; it takes nothing more to publish")
        if self._flying:
            future: asyncio.Future[Sequence[Outcome]] = self._loop.create_future()
            self._waiting.append((messages, future))
            return await future
        self._flying = True
        self._last_but_one, self._last = self._last, 1
        try:
            return await self._publish(messages)
        finally:
            if self._waiting:
                flight = asyncio.create_task(self._fly(), name="channels-group-commit")
                self._flights.add(flight)
                flight.add_done_callback(self._flights.discard)
            else:
                self._land()

    async def _fly(self) -> None:
        try:
            while self._waiting:
                await self._fly_once()
        finally:
            self._land()

    def _land(self) -> None:
        self._flying = False
        self._settled.set()

    async def _fly_once(self) -> None:
        batch: list[Message] = []
        aboard: list[_Seat] = []
        count = size = 0
        seats = self._seats()
        for messages, future in self._waiting:
            size += sum(len(message.data) for message in messages)
            if count == seats or (
                batch and (len(batch) + len(messages) > MAX_BATCH or size > MAX_BATCH_BYTES)
            ):
                break
            count += 1
            if not future.done():
                batch += messages
                aboard.append((len(messages), future))
        del self._waiting[:count]
        if not batch:
            return
        self._last_but_one, self._last = self._last, count
        try:
            outcomes = await self._publish(batch)
        except Exception as exc:
            for _, future in aboard:
                if not future.done():
                    future.set_exception(exc)
            return
        except asyncio.CancelledError:
            error = _in_doubt("the plugin stopped meanwhile")
            for _, future in aboard:
                if not future.done():
                    future.set_exception(error)
            raise
        if self._waiting:
            # They leave first, so that the broker works while these callers go on: a backend needs
            # two turns of the loop at most, one for a task of its own, one for its driver's.
            self._loop.call_soon(self._loop.call_soon, _answer, aboard, outcomes)
        else:
            _answer(aboard, outcomes)

    def _seats(self) -> int:
        """Return how many of the calls that wait share the next flight.

        All of them, unless they are a crowd and no more than left with the last flight but one:
        then they may be those who come back after each answer. Half of such a crowd is sent while
        the other half is answered; else whoever is first would fly alone every other time.
        """
        waiting = len(self._waiting)
        if waiting < CROWD or waiting > self._last_but_one:
            return waiting
        return (waiting + self._last + 1) // 2

    async def _publish(self, messages: Sequence[Message]) -> Sequence[Outcome]:
        outcomes = await call(self._backend.publish(messages))
        if len(outcomes) != len(messages):
            raise RuntimeError(f"{len(outcomes)} outcomes came for {len(messages)} events")
        return outcomes

    # -- the end ---------------------------------------------------------------------------

    def refuse(self) -> None:
        """Take nothing more."""
        with self._lock:
            self._closing = True

    async def drain(self) -> None:
        """Wait until everything that was taken is sent."""
        self.nudge()
        while self.pending or self._flying:
            self._settled.clear()
            if self.pending:
                self._wake.wake()  # that of another thread may be under way still
            await self._settled.wait()

    async def close(self) -> int:
        """Stop; returns how many queued messages were not sent."""
        self.refuse()
        for _, future in self._waiting:
            if not future.done():
                future.set_exception(BackendUnavailable("the plugin stopped before it was sent"))
        self._waiting.clear()
        await end(self._sender, *self._flights)
        return self.pending


def _in_doubt(cause: object) -> PublishUnconfirmed:
    return PublishUnconfirmed(f"may or may not have been published: {cause}")


def _answer(aboard: Sequence[_Seat], outcomes: Sequence[Outcome]) -> None:
    start = 0
    for length, future in aboard:
        if not future.done():
            future.set_result(outcomes[start : start + length])
        start += length
