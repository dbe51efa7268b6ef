"""From a subscriber to one connection of any ASGI server."""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Protocol

from channels.core._event import Event
from channels.core._subscriber import Subscriber
from channels.core.asgi._connection import Message
from channels.core.asgi._messages import Messages, Prototype
from channels.core.asgi._pump import Pump, Runner

FAIR_SHARE = 64
"""Messages sent to one client before the others get their turn."""


class Owner(Protocol):
    """Who has an outlet."""

    def delivered(self, error: BaseException | None) -> None:
        """Note, once, that the stream has ended and is sent; or why nothing more is."""
        ...


class Outlet(ABC):
    """Sends what a subscriber gets.

    It takes a run of events when it is free, and leaves what comes meanwhile to the subscriber's
    backlog, with its limits.

    Args:
        subscriber: Whose events.
        owner: Is told when all is sent.
    """

    __slots__ = ("_owner", "_subscriber")

    def __init__(self, subscriber: Subscriber, owner: Owner) -> None:
        self._subscriber = subscriber
        self._owner = owner

    @abstractmethod
    def start(self) -> None:
        """Begin, with what is in the backlog."""

    @abstractmethod
    def is_stuck(self) -> bool:
        """Tell whether nothing could be sent since the last time this was asked."""

    @abstractmethod
    def abort(self) -> None:
        """Send nothing more, and cut the connection where the server lets us."""

    @abstractmethod
    async def stop(self) -> None:
        """Send nothing more; waits until nothing is being sent."""


class SendingOutlet(Outlet):
    """Sends by awaiting the server's ``send``, one run at a time.

    While it is in line it takes one more: an event that comes before its turn would otherwise have
    to go through the backlog.

    Args:
        subscriber: Whose events.
        send: Sends an ASGI message.
        translate: Makes messages of a run of events. Others may be given the very same ones:
            ``send`` is called with copies.
        owner: See :class:`Outlet`.

    Attributes:
        own: See :class:`~channels.core.asgi._pump.Sender`.
        is_over: Whether it sends nothing more.
        written: Counts the messages that were made of events and sent.
    """

    __slots__ = (
        "_has_ended",
        "_has_refused",
        "_is_busy",
        "_is_in_line",
        "_next",
        "_notes",
        "_pump",
        "_run",
        "_seen",
        "_send",
        "_translate",
        "is_over",
        "own",
        "written",
    )

    def __init__(
        self,
        subscriber: Subscriber,
        send: Callable[[Any], Awaitable[None]],
        translate: Callable[[Sequence[Event]], Messages[Prototype]],
        owner: Owner,
    ) -> None:
        super().__init__(subscriber, owner)
        self._send = send
        self._translate = translate
        self._pump = Pump.here()
        self._run: Sequence[Event] = ()
        self._next: Sequence[Event] = ()  # one more, which came while it was in line
        self._is_in_line = False
        self._notes: deque[Message] | None = None
        self._is_busy = False
        self._has_ended = False
        self._has_refused = False
        self._seen = -1
        self.own: Runner | None = None
        self.is_over = False
        self.written = 0

    @property
    def is_idle(self) -> bool:
        """Whether all that came was sent."""
        return not self._is_busy

    def start(self) -> None:
        self._subscriber.attach(self._take, self._end)
        self._pump.enter()

    def is_stuck(self) -> bool:
        is_sending = self._is_busy and not self.is_over
        stuck = is_sending and self.written == self._seen
        self._seen = self.written if is_sending else -1
        return stuck

    def abort(self) -> None:
        if not self.is_over and not self._pump.cancel(self):
            self.conclude(asyncio.CancelledError())

    async def stop(self) -> None:
        self.abort()
        await self._pump.settle(self)

    def note(self, message: Message) -> None:
        """Send something else, between two runs."""
        if self._notes is None:
            self._notes = deque()
        self._notes.append(message)
        if not self._is_busy:
            self._queue()

    # -- what the pump does ----------------------------------------------------------------

    async def step(self) -> None:
        self._is_in_line = False
        if self.is_over:
            return
        try:
            if self._run:
                send = self._send
                messages, closing = self._translate(self._run)
                is_long = len(messages) > FAIR_SHARE
                for message in messages:
                    await send(message.copy())
                    self.written += 1
                    if is_long and self.written % FAIR_SHARE == 0:
                        await asyncio.sleep(0)
                if closing is not None:
                    raise closing
                self._run = ()
                if self._next:
                    self._run, self._next = self._next, ()
                    self._queue()
                    return
            elif self._notes:
                await self._send(self._notes.popleft())
            else:  # what came last has been sent
                self.conclude(None)
                return
            self._is_busy = False
            if self._has_refused:
                self._has_refused = False
                self._subscriber.ready()
            if (self._has_ended or self._notes) and not self._is_busy:
                self._queue()
        except BaseException as exc:
            self.conclude(exc)
            if not isinstance(exc, Exception):
                raise

    def conclude(self, error: BaseException | None) -> None:
        if self.is_over:
            return
        self.is_over = self._is_busy = True  # it takes nothing more
        self._is_in_line = False
        self._run = self._next = ()
        self._notes = None
        if self.own is not None:
            self.own.parking.wake()
        self._pump.leave()
        self._owner.delivered(error)

    # -- what the subscriber does ----------------------------------------------------------

    def _take(self, events: Sequence[Event]) -> bool:
        if not self._is_busy:
            self._run = events
            self._is_busy = self._is_in_line = True
            (self.own or self._pump).add(self)
        elif self._next or not self._is_in_line:
            self._has_refused = True
            return False
        elif self._run:
            self._next = events
        else:
            self._run = events
        return True

    def _end(self) -> None:
        self._has_ended = True
        if not self._is_busy:
            self._queue()

    def _queue(self) -> None:
        self._is_busy = self._is_in_line = True
        (self.own or self._pump).add(self)
