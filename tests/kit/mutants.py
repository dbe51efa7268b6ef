"""Backends that break one promise each."""

from __future__ import annotations

import asyncio
import fnmatch
import random
import unicodedata
from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress

from channels.core import (
    BEGINNING,
    BackendException,
    Event,
    History,
    HistoryRequest,
    Listener,
    Lost,
    MemoryChannelsBackend,
    Message,
    NotRunningError,
    Outcome,
    PayloadTooLarge,
    Position,
)
from channels.core.testing import FaultyBackend
from channels.core.testing._wrapper import BackendWrapper

Arrived = Sequence[Event | Lost]


class Mutant(BackendWrapper):
    """Memory, with every step open to sabotage."""

    history = 100
    inner: MemoryChannelsBackend

    def fold(self, channel: str) -> str:
        """Map a channel's name to the broker's."""
        return channel

    async def publish(self, messages: Sequence[Message]) -> Sequence[Outcome]:
        return await self.inner.publish(
            [Message(self.fold(message.channel), message.data) for message in messages]
        )

    @asynccontextmanager
    async def listen(self) -> AsyncGenerator[Listener]:
        async with self.inner.listen() as inner:
            yield MutantListener(self, inner)

    async def subscribe(
        self, listener: MutantListener, channels: Sequence[str]
    ) -> Mapping[str, Position | None]:
        names = {channel: self.fold(channel) for channel in channels}
        listener.names.update({folded: channel for channel, folded in names.items()})
        tops = await listener.inner.subscribe(list(names.values()))
        return {channel: tops[folded] for channel, folded in names.items()}

    async def unsubscribe(self, listener: MutantListener, channels: Sequence[str]) -> None:
        await listener.inner.unsubscribe([self.fold(channel) for channel in channels])

    async def arrive(self, listener: MutantListener, batch: Arrived) -> Arrived:
        return batch

    async def get_history(self, requests: Sequence[HistoryRequest]) -> Sequence[History]:
        return [
            self.read(request, history)
            for request, history in zip(
                requests, await self.inner.get_history(self.ask(requests)), strict=True
            )
        ]

    def ask(self, requests: Sequence[HistoryRequest]) -> Sequence[HistoryRequest]:
        return [request._replace(channel=self.fold(request.channel)) for request in requests]

    def read(self, request: HistoryRequest, history: History) -> History:
        events = [Event(event, request.channel, event.position) for event in history.events]
        return history._replace(events=events)


class MutantListener:
    def __init__(self, backend: Mutant, inner: Listener) -> None:
        self.inner = inner
        self.names: dict[str, str] = {}
        self._backend = backend

    async def subscribe(self, channels: Sequence[str]) -> Mapping[str, Position | None]:
        return await self._backend.subscribe(self, channels)

    async def unsubscribe(self, channels: Sequence[str]) -> None:
        await self._backend.unsubscribe(self, channels)

    async def __aiter__(self) -> AsyncIterator[Arrived]:
        async for batch in self.inner:
            named = [
                item
                if isinstance(item, Lost)
                else Event(item, self.names.get(item.channel, item.channel), item.position)
                for item in batch
            ]
            kept = await self._backend.arrive(self, named)
            if kept:
                yield kept


# -- payloads, names and order ---------------------------------------------------------------


class DropsEmptyEvents(Mutant):
    async def arrive(self, listener: MutantListener, batch: Arrived) -> Arrived:
        return [item for item in batch if item]


class CutsAtNul(Mutant):
    async def publish(self, messages: Sequence[Message]) -> Sequence[Outcome]:
        return await super().publish([Message(c, data.split(b"\0")[0]) for c, data in messages])


class TakesBytesForText(Mutant):
    async def publish(self, messages: Sequence[Message]) -> Sequence[Outcome]:
        return await super().publish(
            [Message(c, data.decode(errors="replace").encode()) for c, data in messages]
        )


class StripsPayloads(Mutant):
    async def publish(self, messages: Sequence[Message]) -> Sequence[Outcome]:
        return await super().publish([Message(c, data.strip()) for c, data in messages])


class CutsLargePayloads(Mutant):
    async def publish(self, messages: Sequence[Message]) -> Sequence[Outcome]:
        return await super().publish([Message(c, data[:65536]) for c, data in messages])


class RefusesTheLargest(Mutant):
    async def publish(self, messages: Sequence[Message]) -> Sequence[Outcome]:
        self.inner.max_payload = self.max_payload - 1
        return await super().publish(messages)


class TakesTooLarge(Mutant):
    async def publish(self, messages: Sequence[Message]) -> Sequence[Outcome]:
        self.inner.max_payload = self.max_payload + 1
        return await super().publish(messages)


class FailsTheWholeBatch(Mutant):
    async def publish(self, messages: Sequence[Message]) -> Sequence[Outcome]:
        for channel, data in messages:
            if len(data) > self.max_payload:
                error = PayloadTooLarge(channel, len(data), self.max_payload)
                return [error for _ in messages]
        return await super().publish(messages)


class LowersNames(Mutant):
    def fold(self, channel: str) -> str:
        return channel.lower()


class NormalisesNames(Mutant):
    def fold(self, channel: str) -> str:
        return unicodedata.normalize("NFC", channel)


class StripsNames(Mutant):
    def fold(self, channel: str) -> str:
        return channel.strip()


class CutsNames(Mutant):
    def fold(self, channel: str) -> str:
        return channel.encode()[:63].decode(errors="ignore")


class HashTags(Mutant):
    def fold(self, channel: str) -> str:
        start, end = channel.find("{"), channel.find("}")
        return channel[start + 1 : end] if 0 <= start < end - 1 else channel


class TakesNamesForPatterns(Mutant):
    async def subscribe(
        self, listener: MutantListener, channels: Sequence[str]
    ) -> Mapping[str, Position | None]:
        listener.names.update({channel: channel for channel in channels})
        tops = await listener.inner.subscribe(channels)
        others = [name for name in ("n*", "nn", "n?") if name not in channels]
        await listener.inner.subscribe(fnmatch.filter(others, channels[0]))
        return tops


class RefusesQuotes(Mutant):
    async def publish(self, messages: Sequence[Message]) -> Sequence[Outcome]:
        if any("'" in message.channel for message in messages):
            return [BackendException("syntax error") for _ in messages]
        return await super().publish(messages)


class ReversesBatches(Mutant):
    async def arrive(self, listener: MutantListener, batch: Arrived) -> Arrived:
        return batch[::-1]


class DeliversTwice(Mutant):
    async def arrive(self, listener: MutantListener, batch: Arrived) -> Arrived:
        return [*batch, batch[-1]]


class MergesEqualEvents(Mutant):
    async def arrive(self, listener: MutantListener, batch: Arrived) -> Arrived:
        return list(dict.fromkeys(batch))


class SendsLater(Mutant):
    """Returns before the broker has the event, so that two calls may overtake each other."""

    history = 0

    async def publish(self, messages: Sequence[Message]) -> Sequence[Outcome]:
        delay = random.random() / 500
        asyncio.get_running_loop().call_later(delay, self._send, list(messages))
        return [None for _ in messages]

    def _send(self, messages: Sequence[Message]) -> None:
        self.sending = asyncio.create_task(super().publish(messages))


class LosesAnOutcome(Mutant):
    async def publish(self, messages: Sequence[Message]) -> Sequence[Outcome]:
        return [*await super().publish(messages)][:1]


class ReturnsNothing(Mutant):
    async def publish(self, messages: Sequence[Message]) -> Sequence[Outcome]:
        await super().publish(messages)
        return [True for _ in messages]  # type: ignore[misc]


class ClaimsHistory(Mutant):
    history = 0

    def __init__(self, inner: MemoryChannelsBackend) -> None:
        super().__init__(inner)
        self.keeps_history = True


class DeniesHistory(Mutant):
    def __init__(self, inner: MemoryChannelsBackend) -> None:
        super().__init__(inner)
        self.keeps_history = False


# -- listening -------------------------------------------------------------------------------


class DoesNotHearItself(Mutant):
    async def arrive(self, listener: MutantListener, batch: Arrived) -> Arrived:
        return [item for item in batch if item not in self.own]

    def __init__(self, inner: MemoryChannelsBackend) -> None:
        super().__init__(inner)
        self.own: set[bytes] = set()

    async def publish(self, messages: Sequence[Message]) -> Sequence[Outcome]:
        self.own.update(message.data for message in messages)
        return await super().publish(messages)


class HearsOnlyItself(Mutant):
    def __init__(self, inner: MemoryChannelsBackend) -> None:
        super().__init__(MemoryChannelsBackend(self.history))


class FeedsOneListener(Mutant):
    """Consumers that share a queue, where each should have its own."""

    async def arrive(self, listener: MutantListener, batch: Arrived) -> Arrived:
        kept = [item for item in batch if item not in self.taken]
        self.taken.update(kept)
        return kept

    def __init__(self, inner: MemoryChannelsBackend) -> None:
        super().__init__(inner)
        self.taken: set[Event | Lost] = set()


class ConfirmsTooEarly(Mutant):
    async def subscribe(
        self, listener: MutantListener, channels: Sequence[str]
    ) -> Mapping[str, Position | None]:
        later = super().subscribe(listener, channels)
        asyncio.get_running_loop().call_later(0.001, asyncio.ensure_future, later)
        await asyncio.sleep(0)
        return dict.fromkeys(channels)


class ForgetsAllButTheFirst(Mutant):
    async def subscribe(
        self, listener: MutantListener, channels: Sequence[str]
    ) -> Mapping[str, Position | None]:
        return dict.fromkeys(channels) | dict(await super().subscribe(listener, channels[:500]))


class SwallowsWhenSubscribing(Mutant):
    async def subscribe(
        self, listener: MutantListener, channels: Sequence[str]
    ) -> Mapping[str, Position | None]:
        await asyncio.sleep(0)
        listener.inner.arrived.clear()  # type: ignore[attr-defined]
        return await super().subscribe(listener, channels)


class SwallowsBatches(Mutant):
    batches = 0

    async def arrive(self, listener: MutantListener, batch: Arrived) -> Arrived:
        self.batches += 1
        return [] if self.batches in (3, 4) else batch


class NeverUnsubscribes(Mutant):
    async def unsubscribe(self, listener: MutantListener, channels: Sequence[str]) -> None:
        pass


class UnsubscribesAll(Mutant):
    async def unsubscribe(self, listener: MutantListener, channels: Sequence[str]) -> None:
        await listener.inner.unsubscribe(list(listener.names))


class SubscribesOnlyOnce(Mutant):
    async def subscribe(
        self, listener: MutantListener, channels: Sequence[str]
    ) -> Mapping[str, Position | None]:
        new = [channel for channel in channels if channel not in listener.names]
        return dict.fromkeys(channels) | dict(await super().subscribe(listener, new))


class SubscribesTwice(Mutant):
    async def subscribe(
        self, listener: MutantListener, channels: Sequence[str]
    ) -> Mapping[str, Position | None]:
        self.again = any(channel in listener.names for channel in channels)
        return await super().subscribe(listener, channels)

    async def arrive(self, listener: MutantListener, batch: Arrived) -> Arrived:
        return [item for item in batch for _ in range(1 + self.again)]


class ForgetsATop(Mutant):
    async def subscribe(
        self, listener: MutantListener, channels: Sequence[str]
    ) -> Mapping[str, Position | None]:
        tops = await super().subscribe(listener, channels)
        return {channel: top for channel, top in tops.items() if top is not None}


class ReplaysOldEvents(Mutant):
    async def publish(self, messages: Sequence[Message]) -> Sequence[Outcome]:
        self.old = [*getattr(self, "old", []), *messages]
        return await super().publish(messages)

    async def subscribe(
        self, listener: MutantListener, channels: Sequence[str]
    ) -> Mapping[str, Position | None]:
        tops = await super().subscribe(listener, channels)
        self.replay = [Event(m.data, m.channel) for m in getattr(self, "old", [])]
        return tops

    async def arrive(self, listener: MutantListener, batch: Arrived) -> Arrived:
        replay, self.replay = getattr(self, "replay", []), []
        return [*replay, *batch]


class YieldsEmptyBatches(Mutant):
    @asynccontextmanager
    async def listen(self) -> AsyncGenerator[Listener]:
        async with self.inner.listen() as inner:
            yield Stutters(self, inner)


class Stutters(MutantListener):
    async def __aiter__(self) -> AsyncIterator[Arrived]:
        async for batch in self.inner:
            yield []
            yield batch


class EndsByItself(Mutant):
    @asynccontextmanager
    async def listen(self) -> AsyncGenerator[Listener]:
        async with self.inner.listen() as inner:
            yield OnlyOneBatch(self, inner)


class OnlyOneBatch(MutantListener):
    async def __aiter__(self) -> AsyncIterator[Arrived]:
        async for batch in self.inner:
            yield batch
            return


class LeavesATask(Mutant):
    @asynccontextmanager
    async def listen(self) -> AsyncGenerator[Listener]:
        heartbeat = asyncio.create_task(asyncio.sleep(60), name="heartbeat")
        async with super().listen() as inner:
            yield inner
        self.heartbeat = heartbeat


class SharesSubscriptions(Mutant):
    """One set of subscriptions for all listeners, which none of them cleans up."""

    def __init__(self, inner: MemoryChannelsBackend) -> None:
        super().__init__(inner)
        self.wanted: set[str] = set()

    async def subscribe(
        self, listener: MutantListener, channels: Sequence[str]
    ) -> Mapping[str, Position | None]:
        self.wanted.update(channels)
        tops = await super().subscribe(listener, list(self.wanted))
        return {channel: tops[channel] for channel in channels}


class IgnoresACancellation(Mutant):
    ignored = False

    async def arrive(self, listener: MutantListener, batch: Arrived) -> Arrived:
        if not self.ignored:
            with suppress(asyncio.CancelledError):
                self.ignored = True
                await asyncio.sleep(60)
        return batch


class LosesWhatCameMeanwhile(Mutant):
    @asynccontextmanager
    async def listen(self) -> AsyncGenerator[Listener]:
        async with self.inner.listen() as inner:
            yield DropsOnIteration(self, inner)


class DropsOnIteration(MutantListener):
    iterations = 0

    async def __aiter__(self) -> AsyncIterator[Arrived]:
        self.iterations += 1
        skipped = self.iterations > 1
        async for batch in self.inner:
            yield batch[skipped:] or [Event(b"nothing", "nothing")]
            skipped = False


class DeafAfterCancellation(Mutant):
    async def subscribe(
        self, listener: MutantListener, channels: Sequence[str]
    ) -> Mapping[str, Position | None]:
        try:
            await asyncio.sleep(0.004)
            return await super().subscribe(listener, channels)
        except asyncio.CancelledError:
            listener.names["deaf"] = ""
            raise

    async def arrive(self, listener: MutantListener, batch: Arrived) -> Arrived:
        return [] if "deaf" in listener.names else batch


class SubscribesForEver(Mutant):
    async def subscribe(
        self, listener: MutantListener, channels: Sequence[str]
    ) -> Mapping[str, Position | None]:
        if len(channels) > 1:
            for _ in range(3):
                with suppress(asyncio.CancelledError):
                    await asyncio.sleep(0.6)
        return await super().subscribe(listener, channels)


# -- life ------------------------------------------------------------------------------------


class ClosesForEverybody(Mutant):
    async def __aexit__(self, *error: object) -> None:
        if self._entered > 0:
            self._entered = 0
            await self.close()


class OpensForEverybody(Mutant):
    connections = 0

    async def __aenter__(self) -> OpensForEverybody:
        if self._entered == 0:
            self.connections += 1
            await asyncio.sleep(0)
            if self.connections > 1:
                raise BackendException("opened twice")
            await self.open()
        self._entered += 1
        return self

    async def close(self) -> None:
        self.connections = 0
        await super().close()


class WorksOnlyOnce(Mutant):
    used = False

    async def open(self) -> None:
        if self.used:
            raise NotRunningError("cannot be started twice")
        self.used = True
        await super().open()


class KeepsItsLoop(Mutant):
    def __init__(self, inner: MemoryChannelsBackend) -> None:
        super().__init__(inner)
        self.ready = asyncio.get_running_loop().create_future()

    async def publish(self, messages: Sequence[Message]) -> Sequence[Outcome]:
        asyncio.get_running_loop().call_soon(self._answer)
        await asyncio.shield(self.ready)
        return await super().publish(messages)

    def _answer(self) -> None:
        if not self.ready.done():
            self.ready.set_result(None)
        self.ready = self.ready.get_loop().create_future()
        self.ready.set_result(None)


class PublishesWhenClosed(Mutant):
    async def publish(self, messages: Sequence[Message]) -> Sequence[Outcome]:
        async with self.inner:
            return await super().publish(messages)


# -- history ---------------------------------------------------------------------------------


class CountsAllChannelsTogether(Mutant):
    count = 0

    async def publish(self, messages: Sequence[Message]) -> Sequence[Outcome]:
        outcomes: list[Outcome] = []
        for outcome in await super().publish(messages):
            self.count += 1
            assert isinstance(outcome, Position)
            outcomes.append(outcome._replace(offset=self.count))
        return outcomes


class CountsTooLargeEvents(Mutant):
    async def publish(self, messages: Sequence[Message]) -> Sequence[Outcome]:
        outcomes: list[Outcome] = []
        skipped = 0
        for outcome in await super().publish(messages):
            if isinstance(outcome, Position):
                outcome = outcome._replace(offset=outcome.offset + skipped)
            else:
                skipped += 1
            outcomes.append(outcome)
        return outcomes


class EachProcessItsEpoch(Mutant):
    async def publish(self, messages: Sequence[Message]) -> Sequence[Outcome]:
        return [
            outcome._replace(epoch=f"process{id(self)}")
            if isinstance(outcome, Position)
            else outcome
            for outcome in await super().publish(messages)
        ]


class LiveWithoutPosition(Mutant):
    async def arrive(self, listener: MutantListener, batch: Arrived) -> Arrived:
        return [Event(item, item.channel) for item in batch if isinstance(item, Event)]


class LiveOneBehind(Mutant):
    async def arrive(self, listener: MutantListener, batch: Arrived) -> Arrived:
        return [
            Event(item, item.channel, item.position._replace(offset=item.position.offset - 1))
            for item in batch
            if isinstance(item, Event) and item.position is not None
        ]


class EpochWithADash(Mutant):
    def read(self, request: HistoryRequest, history: History) -> History:
        return history._replace(
            events=[
                Event(e, e.channel, Position(f"{e.position.epoch}-1", e.position.offset))
                for e in history.events
                if e.position is not None
            ]
        )


class NoTops(Mutant):
    async def subscribe(
        self, listener: MutantListener, channels: Sequence[str]
    ) -> Mapping[str, Position | None]:
        return dict.fromkeys(await super().subscribe(listener, channels))


class TopForEveryChannel(Mutant):
    async def subscribe(
        self, listener: MutantListener, channels: Sequence[str]
    ) -> Mapping[str, Position | None]:
        tops = await super().subscribe(listener, channels)
        return {channel: top or BEGINNING for channel, top in tops.items()}


class TopBeforeSubscribing(Mutant):
    """The order that loses what is published between the two steps is top first."""

    async def subscribe(
        self, listener: MutantListener, channels: Sequence[str]
    ) -> Mapping[str, Position | None]:
        histories = await self.inner.get_history([HistoryRequest(c, 0) for c in channels])
        await asyncio.sleep(0.002)
        await super().subscribe(listener, channels)
        return {c: h.position for c, h in zip(channels, histories, strict=True)}


class ReadsAReplica(Mutant):
    """Histories lag behind by what was published since the last read."""

    def __init__(self, inner: MemoryChannelsBackend) -> None:
        super().__init__(inner)
        self.lagging: dict[HistoryRequest, History] = {}

    def read(self, request: HistoryRequest, history: History) -> History:
        stale = self.lagging.get(request, History((), None))
        self.lagging[request] = super().read(request, history)
        return stale


class SinceIncludesItself(Mutant):
    def ask(self, requests: Sequence[HistoryRequest]) -> Sequence[HistoryRequest]:
        return [
            request._replace(since=request.since._replace(offset=request.since.offset - 1))
            if request.since is not None and request.since != BEGINNING
            else request
            for request in requests
        ]


class SinceSkipsOne(Mutant):
    def read(self, request: HistoryRequest, history: History) -> History:
        return history if request.since is None else history._replace(events=history.events[1:])


class AlwaysComplete(Mutant):
    def read(self, request: HistoryRequest, history: History) -> History:
        return history._replace(complete=True)


class NeverComplete(Mutant):
    def read(self, request: HistoryRequest, history: History) -> History:
        return history._replace(complete=request.since is None)


class CompleteIfAnything(Mutant):
    """Takes the trimmed part for complete, as long as the epoch is known."""

    def read(self, request: HistoryRequest, history: History) -> History:
        since, top = request.since, history.position
        if since is None or top is None:
            return history
        return history._replace(complete=since == BEGINNING or since.epoch == top.epoch)


class IncompleteAtTheEdge(Mutant):
    """Off by one: the oldest event kept directly follows since, nothing is missing."""

    def read(self, request: HistoryRequest, history: History) -> History:
        since = request.since
        first = history.events[0].position if history.events else None
        if since is None or first is None or first.offset == 1:
            return history
        return history._replace(complete=history.complete and self._oldest() <= since.offset)

    def _oldest(self) -> int:
        [record] = self.inner._records.values()
        position = record.events[0].position
        assert position is not None
        return position.offset


class BeginningIsNoEpoch(Mutant):
    def read(self, request: HistoryRequest, history: History) -> History:
        return history._replace(complete=history.complete and request.since != BEGINNING)


class LimitGivesTheOldest(Mutant):
    def ask(self, requests: Sequence[HistoryRequest]) -> Sequence[HistoryRequest]:
        return [request._replace(limit=None) for request in requests]

    def read(self, request: HistoryRequest, history: History) -> History:
        return history._replace(events=history.events[: request.limit])


class LimitZeroIsNoLimit(Mutant):
    def ask(self, requests: Sequence[HistoryRequest]) -> Sequence[HistoryRequest]:
        return [request._replace(limit=request.limit or None) for request in requests]


class LimitIsNeverIncomplete(Mutant):
    def ask(self, requests: Sequence[HistoryRequest]) -> Sequence[HistoryRequest]:
        return [request._replace(limit=None) for request in requests]

    def read(self, request: HistoryRequest, history: History) -> History:
        kept = len(history.events) if request.limit is None else request.limit
        return history._replace(events=history.events[max(0, len(history.events) - kept) :])


class NewestFirst(Mutant):
    def read(self, request: HistoryRequest, history: History) -> History:
        return history._replace(events=history.events[::-1])


class AnswersInOrderOfNames(Mutant):
    async def get_history(self, requests: Sequence[HistoryRequest]) -> Sequence[History]:
        return await super().get_history(sorted(requests, key=lambda request: request.channel))


class AnswersEachChannelOnce(Mutant):
    async def get_history(self, requests: Sequence[HistoryRequest]) -> Sequence[History]:
        histories = await super().get_history(requests)
        found = {r.channel: h for r, h in zip(requests, histories, strict=True)}
        return [found[request.channel] for request in requests]


class HistoryWithoutChannel(Mutant):
    def read(self, request: HistoryRequest, history: History) -> History:
        return history._replace(events=[Event(e, "", e.position) for e in history.events])


class ForgetsWhenClosed(Mutant):
    async def close(self) -> None:
        self.inner._records.clear()
        await super().close()


class NeverTrims(Mutant):
    def __init__(self, inner: MemoryChannelsBackend) -> None:
        inner._history = 1_000_000
        super().__init__(inner)


class TrimsTooMuch(Mutant):
    def __init__(self, inner: MemoryChannelsBackend) -> None:
        inner._history -= 1
        super().__init__(inner)


class KeepsTheEpoch(Mutant):
    """An epoch made from the channel's name is the same after the record was lost."""

    def ask(self, requests: Sequence[HistoryRequest]) -> Sequence[HistoryRequest]:
        return [request._replace(since=None) for request in requests]

    def read(self, request: HistoryRequest, history: History) -> History:
        if request.since is None or history.position is None:
            return history
        new = [e for e in history.events if e.position and e.position.offset > request.since.offset]
        return History(
            new,
            history.position._replace(epoch=request.since.epoch),
            request.since.offset <= history.position.offset,
        )


# -- outages ---------------------------------------------------------------------------------


class DeafAfterACut(FaultyBackend):
    """Does not notice that its connection is gone."""

    def cut(self) -> None:
        self.swallow = lambda event: True


class SendsAndDenies(FaultyBackend):
    """Calls unsent what was sent: the queue sends it again."""

    async def publish(self, messages: Sequence[Message]) -> Sequence[Outcome]:
        if self.is_down:
            await self.inner.publish(messages)
        return await super().publish(messages)


class HangsWithoutABroker(FaultyBackend):
    async def publish(self, messages: Sequence[Message]) -> Sequence[Outcome]:
        while self.is_down:
            await asyncio.sleep(0.01)
        return await super().publish(messages)


class ConfirmsWithoutABroker(FaultyBackend):
    async def publish(self, messages: Sequence[Message]) -> Sequence[Outcome]:
        return [None for _ in messages] if self.is_down else await super().publish(messages)
