"""One consumer's event stream: what waits for it, what it was handed, why it ended."""

from __future__ import annotations

import asyncio
import inspect
import logging
from collections.abc import (
    AsyncGenerator,
    AsyncIterator,
    Awaitable,
    Callable,
    Collection,
    Iterable,
    Mapping,
    Sequence,
)
from contextlib import asynccontextmanager
from typing import Final, Literal, Protocol

from channels.core._backlog import Backlog, BacklogStrategy, check_backlog
from channels.core._errors import ConfigurationError, SubscriberStateError
from channels.core._event import Event, Gap, Position, before
from channels.core._parking import Parking
from channels.core._tasks import begin, call, end

logger = logging.getLogger("channels")

_NONE: Final[frozenset[str]] = frozenset()
_BUSY = "this subscriber has a consumer already; it takes one at a time"

EndReason = Literal["unsubscribed", "stopped", "backlog full", "failed"]
Sink = Callable[[Sequence[Event]], bool]
OnEvent = Callable[[Event], Awaitable[object] | object]
OnDrop = Callable[["Subscriber", Event, BaseException | None], None]


class Place(Protocol):
    """A channel as its subscribers see it."""

    def position_of(self, subscriber: Subscriber) -> Position | None:
        """Return how far the channel's events have been given to a subscriber with a sink."""
        ...

    def retarget(self, subscriber: Subscriber) -> None:
        """Ask the subscriber again where its events go."""
        ...


_NOWHERE: Final[dict[str, Place]] = {}  # for all that are in no channel; nothing is added to it


class Subscriber(Backlog):
    """An event stream, consumed in one of three ways.

    Iterate over it (:meth:`iter_events`, :meth:`iter_batches`), let a worker call a function
    for each event (:meth:`run_in_background`), or :meth:`attach` a sink that is called
    in the same tick in which the events arrive. One of them at a time.

    Belongs to one event loop, and can be built and fed without a plugin.

    Args:
        max_backlog: How many events may wait for the consumer. Default None: no limit.
        backlog_strategy: What happens to an event that comes while the backlog is full:
            ``"backoff"`` drops it, ``"dropleft"`` evicts the oldest one for it, and
            ``"disconnect"`` ends the stream after what is queued. Default ``"backoff"``.
        max_backlog_bytes: How many bytes of payload may wait, under the same strategy. One
            event is always taken, however large. Default None: no limit.

    Attributes:
        dropped: How many events were dropped or evicted.
        recovered: Whether resuming (``since``) gave everything that was missed; None where it
            was not asked.
        unrecovered: The channels for which it did not.
    """

    __slots__ = (
        "__weakref__",
        "_direct",
        "_draining",
        "_end_reason",
        "_on_drop",
        "_on_end",
        "_parking",
        "_places",
        "_positions",
        "_replayed",
        "_room",
        "_sink",
        "_turn",
        "_worker",
        "recovered",
        "unrecovered",
    )

    def __init__(
        self,
        max_backlog: int | None = None,
        backlog_strategy: BacklogStrategy = "backoff",
        *,
        max_backlog_bytes: int | None = None,
    ) -> None:
        super().__init__(max_backlog, backlog_strategy, max_backlog_bytes)
        self._parking: Parking | None = None
        self._room: asyncio.Event | None = None
        self._worker: asyncio.Task[None] | None = None
        self._draining: int | None = None  # how many events the worker handles before it ends
        self._sink: Sink | None = None
        self._direct = False  # channels call the sink themselves; nothing waits
        self._on_end: Callable[[], None] | None = None
        self._on_drop: OnDrop | None = None
        self._end_reason: EndReason | None = None
        self._turn: asyncio.Lock | None = None
        self._replayed: list[Event] | None = None
        self._places = _NOWHERE
        self._positions: dict[str, Position] = {}
        self.recovered: bool | None = None
        self.unrecovered = _NONE

    def configure(
        self,
        *,
        tells_gaps: bool,
        on_drop: OnDrop | None = None,
        max_backlog_bytes: int | None = None,
    ) -> None:
        """Set what the plugin, not the consumer, decides.

        Args:
            tells_gaps: Put a :class:`Gap` into the stream wherever events are missing.
            on_drop: Called with each event that is dropped or evicted, and what a subclass's
                ``put_nowait`` raised on it; None: the backlog was full. Must not raise. Default
                None: as it was.
            max_backlog_bytes: The limit in bytes. Default None: as it was made.

        Raises:
            ConfigurationError: The limit is below 1.
        """
        self._tells_gaps = tells_gaps
        if on_drop is not None:
            self._on_drop = on_drop
        if max_backlog_bytes is not None:
            check_backlog(None, self._strategy, max_backlog_bytes)
            self._max_bytes = max_backlog_bytes

    def tell_drops(self, on_drop: OnDrop) -> None:
        """Have drops told to ``on_drop``, if nobody is told of them yet; see :meth:`configure`."""
        if self._on_drop is None:
            self._on_drop = on_drop

    def turn(self) -> asyncio.Lock:
        """Return what lets one call at a time join it to further channels.

        The next one then knows which channels it is in for certain.
        """
        if self._turn is None:
            self._turn = asyncio.Lock()
        return self._turn

    # -- what it is in ---------------------------------------------------------------------

    @property
    def channels(self) -> frozenset[str]:
        """The channels that it is subscribed to."""
        return frozenset(self._places)

    @property
    def positions(self) -> Mapping[str, str]:
        """The id of the last event that the consumer was handed, per channel.

        Passed as ``since`` to a later subscription it goes on from there: what waited in the
        backlog is read again, not skipped. Empty where the backend keeps no history.
        """
        if self._direct:
            self._settle()
        return {channel: str(position) for channel, position in self._positions.items()}

    def position(self, channel: str) -> Position | None:
        """Return the position of the last event of ``channel`` that the consumer was handed."""
        if self._direct:
            self._settle()
        return self._positions.get(channel)

    @property
    def max_backlog(self) -> int | None:
        """How many events may wait for the consumer; None: no limit."""
        return self._max_backlog

    @property
    def tells_gaps(self) -> bool:
        """Whether the stream has markers where events are missing."""
        return self._tells_gaps

    @property
    def is_running(self) -> bool:
        """Whether a background worker runs."""
        return self._worker is not None and not self._worker.done()

    @property
    def end_reason(self) -> EndReason | None:
        """Why the stream ended; None while it goes on."""
        return self._end_reason

    # -- consuming -------------------------------------------------------------------------

    async def iter_events(self) -> AsyncGenerator[Event, None]:
        """Yield one event after the other; wait where there is none.

        Ends, after what is queued, when the subscriber is unsubscribed or the plugin stops.
        Leaving the loop and iterating again goes on with the next event.

        Raises:
            SubscriberStateError: Something else consumes the stream already.
        """
        positions = self._positions
        while True:
            while self._tail or self._head or self._front:
                if self._front or self._max_bytes is not None or self._room is not None:
                    yield self._take()
                    continue
                # What _take() does in the common case, written out: this runs once per delivery.
                if self._head:
                    event = self._head.pop()
                elif len(self._tail) == 1:
                    event = self._tail.pop()
                else:
                    self._tail.reverse()
                    self._head, self._tail = self._tail, []
                    event = self._head.pop()
                if event.position is not None:
                    positions[event.channel] = event.position
                yield event
            if self._missing:
                self._mark_missing()
            elif self._end_reason is not None or self._draining is not None:
                return
            else:
                parking = self._parking
                if parking is None or parking.is_taken or self._sink is not None:
                    parking = self._park()
                await parking

    async def iter_batches(
        self, max_events: int | None = None
    ) -> AsyncGenerator[list[Event], None]:
        """Yield all that waits, as a list; wait where there is nothing.

        Args:
            max_events: The longest list. Default None: no limit.

        Raises:
            SubscriberStateError: Something else consumes the stream already.
        """
        while True:
            while size := self.qsize:
                count = size if max_events is None else min(size, max_events)
                yield [self._take() for _ in range(count)]
            if self._missing:
                self._mark_missing()
            elif self._end_reason is not None or self._draining is not None:
                return
            else:
                await self._park()

    @asynccontextmanager
    async def run_in_background(self, on_event: OnEvent, join: bool = True) -> AsyncIterator[None]:
        """Call ``on_event`` for each event in a task of its own while the context is open.

        A call that raises ends the stream at once: the body is cancelled where it waits, what
        is queued is discarded, and the error comes out of the context as it is.

        Args:
            on_event: A function, plain or async, that takes an event. The next call waits for it.
            join: On leaving, first let it process what is queued. False cancels it; so
                does leaving with an error.

        Raises:
            ConfigurationError: ``on_event`` is no function.
            SubscriberStateError: Something consumes the stream already.
        """
        if not callable(on_event):
            raise ConfigurationError(f"on_event={on_event!r:.100}: pass a function")
        self._check_free()
        host = asyncio.current_task()
        assert host is not None
        worker = self._worker = begin(self._work(on_event), "channels-worker")
        in_body = True
        interrupted = False

        def interrupt(worker: asyncio.Task[None]) -> None:
            nonlocal interrupted
            if in_body and not worker.cancelled() and worker.exception() is not None:
                interrupted = True
                host.cancel()

        worker.add_done_callback(interrupt)
        try:
            yield
            in_body = False
            await self.stop(join=join)
        except BaseException as exc:
            in_body = False
            await self.stop()
            if not interrupted or not isinstance(exc, asyncio.CancelledError):
                raise
            interrupted = False
            if host.uncancel() > 0:
                raise
        finally:
            self._worker = None
            if interrupted:
                host.uncancel()
        if not worker.cancelled() and (error := worker.exception()) is not None:
            raise error

    async def stop(self, join: bool = False) -> None:
        """End the background worker, if there is one, and wait until it has ended.

        Args:
            join: Let it process what is queued now first, not what comes meanwhile.
                Default False: cancel it.

        Raises:
            SubscriberStateError: ``join``, and the worker itself is what calls.
        """
        if self._worker is None:
            return
        if not join:
            await end(self._worker)
            return
        if self._worker is asyncio.current_task():
            raise SubscriberStateError("the worker cannot wait for itself: call stop() unjoined")
        self._draining = self.qsize
        self._wake()
        try:
            await asyncio.wait([self._worker])
        finally:
            self._draining = None

    async def _work(self, on_event: OnEvent) -> None:
        try:
            await call(self._handle(on_event))
        except Exception:
            self._discard()
            self.end("failed")
            raise

    async def _handle(self, on_event: OnEvent) -> None:
        async for event in self.iter_events():
            result = on_event(event)
            if inspect.isawaitable(result):
                await result
            if self._draining is not None:
                if self._draining == 0:
                    return
                self._draining -= 1

    def attach(self, sink: Sink, on_end: Callable[[], None] | None = None) -> None:
        """Have events handed to ``sink`` in the tick in which they arrive, without a task.

        The sink is called with one or more events of the stream at once, at first with what is
        queued. It must not block, and must not change the sequence, which others get too. When
        it returns False it has taken none of them: they enter the backlog, as does all that
        follows until :meth:`ready` is called. A sink that raises ends the stream.

        Args:
            sink: Takes events; returns whether it took them.
            on_end: Called once, when no more events will come. Those in the backlog can still be
                had with :meth:`ready`.

        Raises:
            SubscriberStateError: Something consumes the stream already.
        """
        self._check_free()
        self._sink = sink
        self._on_end = on_end
        self.ready()
        if self._end_reason is not None:
            self._notify_end()

    def ready(self) -> None:
        """Say that the sink takes events again; it is handed what waits at once."""
        if self._sink is None or self._direct:
            return
        while batch := self._waiting():
            if not self._hand(batch):
                return
            self._discard()
            for event in batch:
                self._handed(event)
        if self._end_reason is None and not self._is_overridden():
            self._direct = True
            self._retarget()

    def busy(self) -> None:
        """Say that the sink takes no events until :meth:`ready`: they enter the backlog.

        A sink may as well return False. It has to say so beforehand where it is fed past it.
        """
        if self._sink is not None:
            self._queue_from("", ())

    def regroup(self) -> None:
        """Say that the sink, which takes events as before, is of another group, or of none."""
        if self._direct:
            self._retarget()

    # -- feeding ---------------------------------------------------------------------------

    def put_nowait(self, event: Event | bytes) -> bool:
        """Put one event into the stream, under the backlog's strategy.

        Every event from a channel passes here in a subclass that overrides it. One on which that
        raises is dropped, and told like those that a full backlog drops.

        Returns:
            Whether it was taken.
        """
        if not isinstance(event, Event):
            event = Event(event)
        if self._replayed is not None:
            self._replayed.append(event)
            return True
        if self._end_reason is None and self._sink is not None and not self.qsize:
            if self._hand((event,)):
                self._handed(event)
                return True
            self._queue_from(event.channel, (event,))
        return self._enqueue(event)

    async def put(self, event: Event | bytes) -> bool:
        """Put one event into the stream; wait while the backlog is full.

        Returns:
            Whether it was taken; False once the stream has ended.
        """
        if not isinstance(event, Event):
            event = Event(event)
        while self.is_full(event) and self._end_reason is None:
            if self._room is None:
                self._room = asyncio.Event()
            self._room.clear()
            await self._room.wait()
        return self.put_nowait(event)

    def target(self) -> Sink:
        """Return what a channel calls with a run of its events; False from it: not taken."""
        if self._direct:
            assert self._sink is not None
            return self._sink
        return self._deliver_each if self._is_overridden() else self._deliver

    def deliver(self, channel: str, events: Sequence[Event]) -> None:
        """Take a run of one channel's events, wherever they go."""
        try:
            if not self.target()(events):
                self.refused(channel, events)
        except (Exception, asyncio.CancelledError) as exc:
            self.failed(exc)

    def refused(self, channel: str, events: Sequence[Event]) -> None:
        """Queue what the sink did not take."""
        if self._direct:
            self._queue_from(channel, events)
            self._deliver(events)

    def failed(self, error: BaseException) -> None:
        """End the stream because its sink raised."""
        logger.error("a subscriber's sink failed; its stream ends", exc_info=error)
        self._discard()
        self.end("failed")

    def tell_gap(self, channel: str, *, dropped: bool = False) -> None:
        """Mark in the stream that events of ``channel`` are missing here; see :class:`Gap`."""
        if not self._tells_gaps or self._end_reason is not None:
            return
        gap = Gap(channel=channel, dropped=dropped)
        if self._replayed is not None:
            self._replayed.append(gap)
            return
        if self._sink is not None and not self.qsize and self._hand((gap,)):
            return
        self._queue_from(channel, ())
        if self._end_reason is None:
            self._append(gap)
            self._wake()

    def replay(self, events: Iterable[Event]) -> None:
        """Put ``events`` before all that waits; they do not count against the backlog."""
        events = self._passed(events) if self._is_overridden() else list(events)
        if not events:
            return
        is_free = self._sink is not None and not self.qsize
        if self._direct:
            self._queue_from("", ())
            for event in reversed(events):
                if event.position is not None:
                    self._positions[event.channel] = before(event.position)
        self._put_front(events)
        self._wake()
        if is_free:
            self.ready()

    def _passed(self, events: Iterable[Event]) -> list[Event]:
        """Return what the subclass's ``put_nowait`` makes of events."""
        passed: list[Event] = []
        self._replayed = passed
        try:
            for event in events:
                if isinstance(event, Gap):
                    passed.append(event)
                else:
                    self._deliver_each((event,))
        finally:
            self._replayed = None
        return passed

    def withdraw(self, channel: str) -> Sequence[Event]:
        """Take the events of ``channel`` that wait out of the backlog again, in order."""
        withdrawn = self._withdraw(channel)
        self._make_room()
        return withdrawn

    def place(self, channel: str) -> Place | None:
        """Return the channel of that name that it is in."""
        return self._places.get(channel)

    def not_in(self, channels: Iterable[str]) -> list[str]:
        """Return those of the channels that it is not in."""
        return [channel for channel in channels if channel not in self._places]

    def joined(self, channel: str, place: Place, position: Position | None) -> None:
        """Note a channel that it is in, and how far its consumer is there."""
        if self._places:
            self._places[channel] = place
        else:
            self._places = {channel: place}
        if position is not None:
            self._positions[channel] = position

    def left(self, channels: Collection[str]) -> None:
        """Forget channels that it was unsubscribed from, and what waits of them."""
        for channel in channels:
            self._places.pop(channel, None)
            self._positions.pop(channel, None)
        if self._end_reason is None and (self.qsize or self._missing):
            self._forget(set(channels))
            self._make_room()

    def left_all(self) -> None:
        """Forget all channels; the positions stay to be read."""
        self._places = _NOWHERE

    def end(self, reason: EndReason) -> None:
        """End the stream after what is queued; the first reason stays."""
        if self._end_reason is not None:
            return
        self._queue_from("", ())
        self._end_reason = reason
        self._wake()
        self._make_room()
        self._notify_end()

    # -- inside ----------------------------------------------------------------------------

    def _deliver(self, events: Sequence[Event]) -> bool:
        if self._end_reason is not None:
            return False
        if self._max_backlog is None and self._max_bytes is None:
            self._tail += events
            if self._parking is not None:
                self._parking.wake()
        else:
            for event in events:
                self._enqueue(event)
        return True

    def _deliver_each(self, events: Sequence[Event]) -> bool:
        for event in events:
            try:
                self.put_nowait(event)
            except (Exception, asyncio.CancelledError) as exc:
                self._drop(event, exc)
                if self.qsize and self._replayed is None and self._end_reason is None:
                    self._miss(event.channel)  # one mark, however many will be missing there
                else:
                    self.tell_gap(event.channel, dropped=True)
        return True

    def _enqueue(self, event: Event) -> bool:
        if self._end_reason is not None:
            return False
        if self._offer(event):
            self._wake()
            return True
        if self._strategy == "disconnect":
            self.end("backlog full")
        return False

    def _is_overridden(self) -> bool:
        return type(self).put_nowait is not Subscriber.put_nowait

    def _take(self) -> Event:
        event = self._pop()
        if event.position is not None:
            self._positions[event.channel] = event.position
        if self._room is not None:
            self._room.set()
        return event

    def _drop(self, event: Event, error: BaseException | None = None) -> None:
        super()._drop(event)
        if self._on_drop is not None:
            self._on_drop(self, event, error)

    def _discard(self) -> None:
        super()._discard()
        self._make_room()

    def _make_room(self) -> None:
        if self._room is not None:
            self._room.set()

    def _check_free(self) -> None:
        if self._worker is not None or self._sink is not None or self._is_parked():
            raise SubscriberStateError(_BUSY)

    def _hand(self, events: Sequence[Event]) -> bool:
        assert self._sink is not None
        try:
            return self._sink(events)
        except (Exception, asyncio.CancelledError) as exc:
            self.failed(exc)
            return False

    def _handed(self, event: Event) -> None:
        if event.position is not None:
            self._positions[event.channel] = event.position

    def _queue_from(self, channel: str, events: Sequence[Event]) -> None:
        """Let events enter the backlog from now on, beginning with ``events``."""
        if not self._direct:
            return
        self._settle()
        for event in events:
            if event.position is not None:
                self._positions[channel] = before(event.position)
                break
        self._direct = False
        self._retarget()

    def _settle(self) -> None:
        """Write down how far the sink has come; until now the channels knew."""
        for channel, place in self._places.items():
            if (position := place.position_of(self)) is not None:
                self._positions[channel] = position

    def _retarget(self) -> None:
        for place in self._places.values():
            place.retarget(self)

    def _notify_end(self) -> None:
        on_end, self._on_end = self._on_end, None
        if on_end is not None:
            try:
                on_end()
            except (Exception, asyncio.CancelledError):
                logger.exception("a subscriber's on_end failed")

    def _park(self) -> Parking:
        """Return what to await until there is something to take."""
        if self._is_parked() or self._sink is not None:
            raise SubscriberStateError(_BUSY)
        if self._parking is None:
            self._parking = Parking()
        return self._parking

    def _is_parked(self) -> bool:
        return self._parking is not None and self._parking.is_taken

    def _wake(self) -> None:
        if self._parking is not None:
            self._parking.wake()
