"""Concurrent publishing calls share one statement and one commit."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import NamedTuple

from channels.core._backend import Message, Outcome
from channels.core._errors import (
    BackendException,
    BackendUnavailable,
    NotRunningError,
    PublishUnconfirmed,
)
from channels.core._tasks import begin, end
from channels.core.postgres._lane import Lane
from channels.core.postgres._port import Connection, ConnectionLost

MAX_MESSAGES = 500
MAX_BYTES = 4 * 1024 * 1024

Send = Callable[[Connection, Sequence[Message]], Awaitable[Sequence[Outcome]]]


class _Call(NamedTuple):
    messages: Sequence[Message]
    outcomes: asyncio.Future[Sequence[Outcome]]


class Folder:
    """Send what concurrent callers publish, one statement after another on one connection.

    While a statement is under way, later calls wait; they leave together in the next. So a
    lone caller waits for nobody, and a crowd pays for few commits.

    Args:
        lane: The connection to publish on.
        send: Runs one statement; one outcome per message, in order.
    """

    def __init__(self, lane: Lane, send: Send) -> None:
        self._lane = lane
        self._send = send
        self._waiting: deque[_Call] = deque()
        self._flight: asyncio.Task[None] | None = None
        self._closed = False

    async def publish(self, messages: Sequence[Message]) -> Sequence[Outcome]:
        """Send in order and return the outcomes. A cancelled call may have been sent."""
        if self._closed:
            raise NotRunningError("the backend was closed")
        call = _Call(messages, asyncio.get_running_loop().create_future())
        self._waiting.append(call)
        if self._flight is None:
            self._flight = begin(self._fly(), "channels-postgres-publish")
        return await call.outcomes

    async def close(self) -> None:
        """Break what is under way and answer everybody who waits."""
        self._closed = True
        if self._flight is not None:
            self._lane.abort()
            await end(self._flight)

    async def _fly(self) -> None:
        batch: list[_Call] = []
        try:
            while self._waiting:
                try:
                    async with self._lane.connection() as connection:
                        while batch := self._next():
                            outcomes = await self._send(connection, _messages(batch))
                            _answer(batch, outcomes)
                            batch = []
                except ConnectionLost as exc:
                    # Only what was on the wire is in doubt; who waits goes over a new connection.
                    _fail(batch, exc, sent=True)
                    if not batch:
                        self._fail_all(exc)
                except BackendException as exc:
                    if batch:
                        _fail(batch, exc)
                    else:  # no connection: that holds for everybody who waits
                        self._fail_all(exc)
                batch = []
        except (
            asyncio.CancelledError,
            Exception,
        ) as exc:  # close(), or a defect: callers hear of it
            _fail(batch, exc, sent=True)
            self._fail_all(exc)
        finally:
            self._flight = None

    def _next(self) -> list[_Call]:
        batch: list[_Call] = []
        count = size = 0
        while self._waiting:
            call = self._waiting[0]
            count += len(call.messages)
            size += sum(len(message.data) for message in call.messages)
            if batch and (count > MAX_MESSAGES or size > MAX_BYTES):
                break
            self._waiting.popleft()
            if not call.outcomes.done():  # its caller was cancelled
                batch.append(call)
        return batch

    def _fail_all(self, exc: BaseException) -> None:
        waiting, self._waiting = self._waiting, deque()
        _fail(waiting, exc)


def _messages(batch: Sequence[_Call]) -> Sequence[Message]:
    if len(batch) == 1:
        return batch[0].messages
    return [message for call in batch for message in call.messages]


def _answer(batch: Sequence[_Call], outcomes: Sequence[Outcome]) -> None:
    start = 0
    for call in batch:
        end = start + len(call.messages)
        if not call.outcomes.done():
            call.outcomes.set_result(outcomes[start:end])
        start = end


def _fail(batch: Iterable[_Call], exc: BaseException, *, sent: bool = False) -> None:
    why = str(exc) or "the backend was closed"
    for call in batch:
        error: BackendException
        if sent:
            error = PublishUnconfirmed(f"the reply was lost: {why}")
        elif isinstance(exc, BackendException):
            error = type(exc)(*exc.args)
        else:
            error = BackendUnavailable(f"not sent: {why}")
        error.__cause__ = exc
        if not call.outcomes.done():
            call.outcomes.set_result([error] * len(call.messages))
