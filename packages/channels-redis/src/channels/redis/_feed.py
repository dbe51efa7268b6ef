"""A connection that listens."""

from __future__ import annotations

import asyncio
from collections import Counter, deque
from collections.abc import Iterable, Iterator, Sequence
from typing import Protocol

from channels.core import BackendException, BackendUnavailable
from channels.redis._errors import from_reply
from channels.redis._resp import Reply, ReplyError, long_command
from channels.redis._wire import PING, Server, Wire

_NAMES_PER_COMMAND = 1000


class Receiver(Protocol):
    """Who takes what a feed hears."""

    def message(self, topic: bytes, data: bytes) -> None:
        """Take a message."""

    def joined(self, topic: bytes, feed: Feed) -> None:
        """Note that the server confirmed a subscription."""

    def moved(self, topic: bytes, feed: Feed) -> None:
        """Note that the server ended a subscription by itself."""

    def heard(self) -> None:
        """Note that what arrived together was handed over."""

    def ended(self, reason: str) -> None:
        """Note that the connection is gone."""


class _Request:
    """Something that was asked, delimited by the PING that was sent after it."""

    __slots__ = ("done", "error", "leaving")

    def __init__(self, done: asyncio.Future[None] | None, leaving: Sequence[bytes]) -> None:
        self.done = done
        self.leaving = leaving
        self.error: ReplyError | None = None


class Feed(Wire):
    """Subscribe on one connection and find out when it is dead.

    A PING follows every request, and one goes out each heartbeat. Replies come in order, so its
    pong says that everything asked before was answered and, as the server writes in
    order too, that every message published before has arrived.
    """

    def __init__(
        self, server: Server, receiver: Receiver, heartbeat: float, *, sharded: bool
    ) -> None:
        super().__init__(server)
        self._receiver = receiver
        self._message = b"smessage" if sharded else b"message"
        self._joined = b"ssubscribe" if sharded else b"subscribe"
        self._heartbeat = heartbeat
        self._requests: deque[_Request] = deque()
        self._leaving: Counter[bytes] = Counter()
        self._paused = False
        self._pinged = 0.0
        self._timer = self._loop.call_later(heartbeat, self._beat)

    async def subscribe(self, verb: bytes, groups: Iterable[Sequence[bytes]]) -> None:
        """Send one command per group and wait until all are answered.

        Raises:
            BackendUnavailable: The connection is gone.
            BackendException: The server refused a group.
        """
        await self._ask(b"".join(_commands(verb, groups)))

    async def unsubscribe(self, verb: bytes, groups: Sequence[Sequence[bytes]]) -> None:
        """As :meth:`subscribe`."""
        topics = [topic for group in groups for topic in group]
        self._leaving.update(topics)
        await self._ask(b"".join(_commands(verb, groups)), topics)

    async def catch_up(self) -> None:
        """Wait until everything that was published before this call has arrived.

        Raises:
            BackendUnavailable: The connection is gone.
        """
        await self._ask(b"")

    def pause(self) -> None:
        """Read no more, so that the server keeps what the router cannot take yet."""
        if not self._paused:
            self._paused = True
            self._transport.pause_reading()  # type: ignore[attr-defined]

    def resume(self) -> None:
        """Read again."""
        if self._paused:
            self._paused = False
            self._pinged = self._heard = self._loop.time()
            self._transport.resume_reading()  # type: ignore[attr-defined]

    def received(self, replies: Iterator[Reply]) -> None:
        receiver = self._receiver
        message, joined = receiver.message, receiver.joined
        for reply in replies:
            # A comparison each for what comes by the thousand; the rest may take its time.
            if type(reply) is list:
                if reply[0] == self._message:
                    message(reply[1], reply[2])  # type: ignore[arg-type]
                    continue
                if reply[0] == self._joined:
                    joined(reply[1], self)  # type: ignore[arg-type]
                    continue
            match reply:
                case [b"pong", _] | b"PONG":
                    self._answered()
                case [b"sunsubscribe", bytes(topic), _] if not self._leaving[topic]:
                    receiver.moved(topic, self)
                case ReplyError():
                    if self._requests:
                        self._requests[0].error = reply
                case _:
                    pass  # a confirmation of leaving
        receiver.heard()

    def lost(self, reason: str) -> None:
        self._timer.cancel()
        requests, self._requests = self._requests, deque()
        for request in requests:
            if request.done is not None and not request.done.done():
                request.done.set_exception(BackendUnavailable(reason))
                request.done.exception()  # seen, if only by a caller who left
        self._receiver.ended(reason)

    async def close(self) -> None:
        self._timer.cancel()
        await super().close()

    async def _ask(self, commands: bytes, leaving: Sequence[bytes] = ()) -> None:
        if self.reason is not None:
            raise BackendUnavailable(self.reason)
        done: asyncio.Future[None] = self._loop.create_future()
        self._requests.append(_Request(done, leaving))
        self._transport.write(commands + PING)
        await done

    def _answered(self) -> None:
        if not self._requests:
            self.abort(f"{self.server.address} replied to what was not asked")
            return
        request = self._requests.popleft()
        self._leaving.subtract(request.leaving)
        for topic in request.leaving:
            if not self._leaving[topic]:
                del self._leaving[topic]
        if request.done is None or request.done.done():
            return
        if request.error is None:
            request.done.set_result(None)
        else:
            error: BackendException = from_reply(request.error)
            error.__cause__ = request.error
            request.done.set_exception(error)

    def _beat(self) -> None:
        if not self._paused:
            if self._heard < self._pinged:
                self.abort(f"{self.server.address} is silent for {self._heartbeat:g} s")
                return
            self._requests.append(_Request(None, ()))
            self._transport.write(PING)
            self._pinged = self._loop.time()
        self._timer = self._loop.call_later(self._heartbeat, self._beat)


def _commands(verb: bytes, groups: Iterable[Sequence[bytes]]) -> Iterable[bytes]:
    for group in groups:
        for start in range(0, len(group), _NAMES_PER_COMMAND):
            yield long_command(verb, group[start : start + _NAMES_PER_COMMAND])
