"""One connection: bytes out, replies in, and the pipeline that commands share."""

from __future__ import annotations

import asyncio
import math
from abc import abstractmethod
from collections import deque
from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Final, NamedTuple

from channels.redis._resp import (
    NOT_ENOUGH,
    ProtocolError,
    Reply,
    ReplyError,
    command,
    make_parser,
)

PING: Final = command("PING")
HELLO: Final = command("HELLO")

_CHUNK = 256 * 1024
_CLOSE_TIMEOUT = 0.5
_UNBROKEN = 0.01
"""Seconds in which no master becomes a replica, copies another's data and is promoted again."""


class Server(NamedTuple):
    """What a server said about itself when the connection was made."""

    address: str
    run_id: bytes = b""
    """Its begin; new with every process. Empty where it was not asked for."""
    replication_id: bytes = b""
    """Its begin; new with every promotion. Empty where it was not asked for."""


class NoReply(Exception):
    """A command was sent, and whether it took effect is not known."""


class NotSent(Exception):
    """A command was not sent."""


Answer = Reply | NoReply | NotSent


class Wire(asyncio.Protocol):
    """Own the transport of a connection that is made and authenticated.

    All state is the connection's and ends with it: after :meth:`lost` ran, nothing comes.
    """

    def __init__(self, server: Server) -> None:
        self.server = server
        self.reason: str | None = None
        """Why it is lost, once it is."""
        self._loop = asyncio.get_running_loop()
        self._parser = make_parser()
        self._closed: asyncio.Future[None] = self._loop.create_future()
        self._writable: asyncio.Future[None] | None = None
        self._heard = self._loop.time()

    def attach(self, writer: asyncio.StreamWriter) -> None:
        """Take over the transport; the writer is kept since its finalizer would close it."""
        self._writer = writer
        self._transport: asyncio.WriteTransport = writer.transport
        writer.transport.set_protocol(self)
        if writer.transport.is_closing():
            self.connection_lost(None)

    @abstractmethod
    def received(self, replies: Iterator[Reply]) -> None:
        """Take replies that came together; each is parsed when it is asked for."""

    @abstractmethod
    def lost(self, reason: str) -> None:
        """Fail what waits; called once."""

    def data_received(self, data: bytes) -> None:
        self._heard = self._loop.time()
        try:
            self._parser.feed(data)
            self.received(iter(self._parser.gets, NOT_ENOUGH))  # type: ignore[arg-type]
        except ProtocolError as exc:
            self.abort(f"{self.server.address} does not speak the Redis protocol: {exc}")

    def connection_lost(self, exc: Exception | None) -> None:
        if self._closed.done():
            return
        if self.reason is None:
            why = f": {exc}" if exc else ""
            self.reason = f"the connection to {self.server.address} was closed{why}"
        self._closed.set_result(None)
        self.resume_writing()
        self.lost(self.reason)

    def pause_writing(self) -> None:
        self._writable = self._loop.create_future()

    def resume_writing(self) -> None:
        waiting, self._writable = self._writable, None
        if waiting is not None and not waiting.done():
            waiting.set_result(None)

    def abort(self, reason: str) -> None:
        """Give the connection up at once."""
        if self.reason is None:
            self.reason = reason
            self._transport.abort()

    async def close(self) -> None:
        """Close, whatever the server does, within half a second."""
        if self.reason is None:
            self.reason = f"the connection to {self.server.address} was closed by us"
        self._transport.close()
        await asyncio.wait([self._closed], timeout=_CLOSE_TIMEOUT)
        if not self._closed.done():
            self._transport.abort()
            await asyncio.wait([self._closed], timeout=_CLOSE_TIMEOUT)


class _Batch:
    """Commands that were written together, and their replies so far."""

    __slots__ = ("deadline", "done", "replies", "size")

    def __init__(self, size: int, deadline: float, done: asyncio.Future[None]) -> None:
        self.size = size
        self.deadline = deadline
        self.replies: list[Answer] = []
        self.done = done


class Pipeline(Wire):
    """Send commands without waiting for the replies of those before; replies come in order.

    Concurrent calls share the connection. A reply that is overdue ends it for all: whatever
    came later would be taken for the wrong command's.
    """

    def __init__(self, server: Server) -> None:
        super().__init__(server)
        self._batches: deque[_Batch] = deque()
        self._watch: asyncio.TimerHandle | None = None
        self._looked = self._loop.time()
        self._wrote = -math.inf

    def since_look(self) -> float:
        """Seconds since the server was seen to be a master, 0 while replies are awaited."""
        return 0.0 if self._batches else self._loop.time() - self._looked

    async def look(self, timeout: float) -> None:
        """End the connection unless the server answers that it is still a master.

        One that became a replica may keep its connections, answer reads from what it has, and
        pass on no message to where the others listen.
        """
        [about] = await self.run([HELLO], timeout)
        if isinstance(about, list) and b"master" in about:
            self._looked = self._loop.time()
        elif isinstance(about, list):
            self.abort(f"{self.server.address} is a replica now")
        else:
            self.abort(f"{self.server.address} does not say whether it is the master: {about!r}")

    def wrote(self) -> None:
        """Note that the server has just taken what was written."""
        self._wrote = self._loop.time()

    def was_master_throughout(self) -> bool:
        """Tell whether the server surely was no replica since this connection last wrote."""
        return self._loop.time() - self._wrote < _UNBROKEN

    async def run(self, commands: Sequence[bytes], timeout: float) -> list[Answer]:
        """Send commands in order and return one answer for each, within ``timeout`` seconds."""
        deadline = self._loop.time() + timeout
        batches: list[_Batch] = []
        sent = 0
        for data, size in _chunks(commands):
            if not await self._may_write(deadline):
                break
            batch = _Batch(size, deadline, self._loop.create_future())
            batches.append(batch)
            sent += size
            self._batches.append(batch)
            if self._watch is None:
                self._watch = self._loop.call_at(deadline, self._overdue)
            self._transport.write(data)
        answers: list[Answer] = []
        for batch in batches:
            await batch.done
            answers += batch.replies
            if missing := batch.size - len(batch.replies):
                answers += [NoReply(self.reason)] * missing
        if sent < len(commands):
            reason = self.reason or f"{self.server.address} takes no more within {timeout:g} s"
            answers += [NotSent(reason)] * (len(commands) - sent)
        return answers

    def received(self, replies: Iterator[Reply]) -> None:
        batches = self._batches
        while batches:
            batch = batches[0]
            batch.replies += islice(replies, batch.size - len(batch.replies))
            if len(batch.replies) < batch.size:
                return
            batches.popleft()
            if not batch.done.done():
                batch.done.set_result(None)
        if any(True for _ in replies):
            self.abort(f"{self.server.address} replied to what was not asked")

    def lost(self, reason: str) -> None:
        if self._watch is not None:
            self._watch.cancel()
            self._watch = None
        batches, self._batches = self._batches, deque()
        for batch in batches:
            if not batch.done.done():
                batch.done.set_result(None)

    async def _may_write(self, deadline: float) -> bool:
        while self._writable is not None and self.reason is None:
            waiting = [self._writable]
            await asyncio.wait(waiting, timeout=max(0.0, deadline - self._loop.time()))
            if not waiting[0].done():
                return False
        return self.reason is None

    def _overdue(self) -> None:
        self._watch = None
        if not self._batches:
            return
        if self._batches[0].deadline <= self._loop.time():
            self.abort(f"{self.server.address} did not answer in time")
        else:
            self._watch = self._loop.call_at(self._batches[0].deadline, self._overdue)


def _chunks(commands: Sequence[bytes]) -> Iterator[tuple[bytes, int]]:
    """Join commands to pieces that are worth a write each, with how many are in it."""
    start = size = 0
    for at, packed in enumerate(commands):
        if size and size + len(packed) > _CHUNK:
            yield b"".join(commands[start:at]), at - start
            start, size = at, 0
        size += len(packed)
    if size:
        yield b"".join(commands[start:]), len(commands) - start


def is_error(answer: Answer) -> bool:
    """Tell whether an answer is no result."""
    return isinstance(answer, ReplyError | NoReply | NotSent)
