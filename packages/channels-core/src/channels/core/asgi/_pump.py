"""One task that sends for many connections.

A task of its own for each connection would have to be woken for each delivery, and an eager one
begun: both cost more than all else that a delivery takes here.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from contextvars import Context, copy_context
from time import perf_counter
from typing import Protocol
from weakref import WeakKeyDictionary, WeakValueDictionary

from channels.core._fanout import MAX_HOLD
from channels.core._parking import Parking
from channels.core._tasks import begin

logger = logging.getLogger("channels")

CALM = 8
"""How often in a row a connection's own task must not have had to wait, to be given up."""

CUT_INTERVAL = 1.0
"""Seconds after which a task that was cancelled and did not end is cancelled again."""


class Sender(Protocol):
    """A connection that has something to send now and then.

    Attributes:
        own: The runner that it has to itself, if any.
    """

    own: Runner | None

    @property
    def is_over(self) -> bool:
        """Whether it sends nothing more."""
        ...

    async def step(self) -> None:
        """Send what is next, and get in line again if there is more.

        Raises:
            BaseException: Only what has to end the task.
        """
        ...

    def conclude(self, error: BaseException | None) -> None:
        """Send nothing more."""
        ...


class Pump:
    """Lets connections send, one after the other, from a task that all of them share.

    As long as no ``send`` has to wait, a delivery costs neither a task nor a turn of the loop. One
    that waits holds up nobody: it keeps the task, which is that connection's own from then on, and
    another task goes on with the rest. After a few deliveries without a wait it is given up again.

    Those share a pump who come from equal contexts, so that a ``send`` finds in context variables
    what it finds in its handler. One that changes them keeps the task, too, and so does one that
    cancels it and takes that back.

    Invariants:
        * A task that serves the line and is inside a ``send`` has a look due, which takes it
          out of the line if it is there still: the loop has gone on, so that it must be waiting.
        * Whoever is cancelled has the task to itself.

    Attributes:
        context: The context of those who share it; nobody changes it.
        members: How many share it.
        runner: Serves the line; None before there is one.
        turn: Counts the turns of the loop in which something was sent.
    """

    __slots__ = ("__weakref__", "_is_look_due", "_loop", "context", "members", "runner", "turn")

    def __init__(self, context: Context) -> None:
        self.context = context
        self.members = 0
        self.runner: Runner | None = None
        self.turn = 0
        self._loop = asyncio.get_running_loop()
        self._is_look_due = False

    @staticmethod
    def here() -> Pump:
        """Return the running loop's for whoever is in a context like this one."""
        context = copy_context()
        alike = frozenset((variable, id(value)) for variable, value in context.items())
        pumps = _pumps.setdefault(asyncio.get_running_loop(), WeakValueDictionary())
        pump = pumps.get(alike)
        if pump is None:
            pump = pumps[alike] = Pump(context)
        return pump

    def enter(self) -> None:
        """Count a connection in."""
        self.members += 1

    def leave(self) -> None:
        """Count one out; after the last one the task ends."""
        self.members -= 1
        if not self.members and self.runner is not None:
            self.runner.parking.wake()

    def add(self, sender: Sender) -> None:
        """Let a connection that has something to send get in line; it must not be there yet."""
        runner = self.runner
        if runner is None:
            runner = self.runner = Runner(self, deque())
        line = runner.line
        line.append(sender)
        if len(line) == 1:
            runner.parking.wake()

    def cancel(self, sender: Sender) -> bool:
        """Cancel what is being sent for a connection; False: nothing is."""
        runner = sender.own or self.runner
        if runner is None or runner.serving is not sender:
            return False
        if sender.own is None:
            self.part_with(runner, sender)
        runner.task.cancel()
        return True

    async def settle(self, sender: Sender) -> None:
        """Wait until no task is left that serves only a connection that is over or cancelled."""
        if sender.own is not None:
            await cut(sender.own.task)
        if not self.members and self.runner is not None:
            await cut(self.runner.task)

    # -- what a runner does ----------------------------------------------------------------

    def part_with(self, runner: Runner, sender: Sender) -> None:
        """Leave the task that serves the line to ``sender``; another one serves the rest."""
        line, runner.line = runner.line, deque()
        runner.owner = sender
        sender.own = runner
        self.runner = Runner(self, line) if line else None

    def begin_turn(self) -> int:
        """Have a look when the loop has gone on; return what :attr:`turn` is until then."""
        if not self._is_look_due:
            self._is_look_due = True
            self._loop.call_soon(self._look)
        return self.turn

    def _look(self) -> None:
        self._is_look_due = False
        self.turn += 1
        runner = self.runner
        if runner is not None and runner.serving is not None:
            self.part_with(runner, runner.serving)


class Runner:
    """A task that serves a line of connections, or its owner alone.

    Args:
        pump: Whose connections.
        line: Those who wait.

    Attributes:
        line: Those who have something to send; whoever is being served is not among them.
        owner: The only one it serves; None: whoever is in line at the pump.
        parking: Where it waits while nobody is in line.
        serving: For whom it is sending.
        task: The task.
    """

    __slots__ = ("_calm", "_context", "_pump", "line", "owner", "parking", "serving", "task")

    def __init__(self, pump: Pump, line: deque[Sender]) -> None:
        self._pump = pump
        self._calm = 0
        self._context = pump.context.copy()
        self.line = line
        self.owner: Sender | None = None
        self.parking = Parking()
        self.serving: Sender | None = None
        self.task = begin(self._run(), "channels-outlet", self._context)
        self.task.add_done_callback(self._ended)

    def add(self, sender: Sender) -> None:
        """Let the owner get in line."""
        self.line.append(sender)
        self.parking.wake()

    @property
    def _is_needed(self) -> bool:
        return self._pump.members > 0 if self.owner is None else not self.owner.is_over

    async def _run(self) -> None:
        pump = self._pump
        while self.line or self._is_needed:
            if not self.line:
                await self.parking
                continue
            turn = pump.begin_turn()
            await self._serve()
            if self.line:
                await asyncio.sleep(0)
            elif self.owner is not None:
                self._calm = self._calm + 1 if pump.turn == turn else 0
                if self._calm >= CALM and self._context == pump.context:
                    return

    async def _serve(self) -> None:
        """Serve the line until it ends, or the time is up."""
        pump, context, task = self._pump, self._context, self.task
        until = perf_counter() + MAX_HOLD
        while self.line:
            sender = self.serving = self.line.popleft()
            await sender.step()
            self.serving = None
            if task.cancelling():
                sender.conclude(asyncio.CancelledError())
                raise asyncio.CancelledError
            if self.owner is None and (context != pump.context or _will_raise(task)):
                pump.part_with(self, sender)
            if perf_counter() >= until:
                break

    def _ended(self, task: asyncio.Task[None]) -> None:
        """Let those who are in line be served by another."""
        error = None if task.cancelled() else task.exception()
        if isinstance(error, Exception):  # others end the program
            logger.error("a connection could not be ended", exc_info=error)
        if self.owner is not None:
            self.owner.own = None
        elif self._pump.runner is self:
            self._pump.runner = None
        for sender in self.line:
            self._pump.add(sender)


_pumps: WeakKeyDictionary[asyncio.AbstractEventLoop, WeakValueDictionary[object, Pump]] = (
    WeakKeyDictionary()
)


def _will_raise(task: asyncio.Task[None]) -> bool:
    """Whether the next wait is cancelled: before Python 3.13 even if that has been taken back."""
    return getattr(task, "_must_cancel", False)


async def cut(task: asyncio.Task[None]) -> None:
    """Cancel a task, and wait until it has ended."""
    while not task.done():
        task.cancel()
        await asyncio.wait([task], timeout=CUT_INTERVAL)
