"""What a backend promises that keeps history."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from functools import partial
from typing import ClassVar

import pytest

from channels.core import (
    BEGINNING,
    ChannelsBackend,
    History,
    HistoryRequest,
    Message,
    Outcome,
    PayloadTooLarge,
    Position,
)
from channels.core.testing._backend import BackendContract
from channels.core.testing._flood import flood
from channels.core.testing._suite import assert_same, contract_test, publish, publish_all

STRANGE = Position("NeverAnEpoch", 1)


class HistoryContract(BackendContract):
    """Prove a backend that keeps history: everything in ``BackendContract``, and this.

    :meth:`~BackendContract.backend` must give backends that keep :attr:`history` events of a
    channel.
    """

    history: ClassVar[int] = 100
    """How many events per channel the backends of :meth:`backend` keep. At least 20."""

    history_at_most: ClassVar[int] = 400
    """How many events a channel may hold at most, some time after the last was published, where
    trimming is approximate or done in the background."""

    async def lose_record(self, channel: str) -> None:
        """Make the broker lose its record of ``channel``, as an operator's mistake would.

        Optional: without it, the tests of a lost record are skipped.
        """
        pytest.skip("override lose_record() to prove what happens when the broker loses a record")

    @contract_test
    async def test_backend_says_that_it_keeps_history(self) -> None:
        """``keeps_history`` is true."""
        async with self.backend() as backend:
            assert backend.keeps_history, "set keeps_history = True on the class or the instance"

    @contract_test
    async def test_positions_count_from_one(self) -> None:
        """Each channel's offsets are 1, 2, 3 ... in one epoch, over many calls."""
        async with self.backend() as backend, self.backend() as other:
            for name in ("a", "b"):
                outcomes: list[Outcome] = []
                for i in range(4):
                    outcomes += await publish(backend if i % 2 else other, name, b"x", b"", b"y")
                assert_contiguous(outcomes, first=1, what=f"outcomes of channel {name!r}")

    @contract_test
    async def test_positions_of_one_batch_are_per_channel(self) -> None:
        """A batch over several channels numbers each channel for itself."""
        async with self.backend() as backend:
            names = ["a", "b", "a", "c", "b", "a"]
            outcomes = await publish_all(backend, [Message(name, b"x") for name in names])
            for name in "abc":
                own = [outcomes[i] for i, each in enumerate(names) if each == name]
                assert_contiguous(own, first=1, what=f"outcomes of channel {name!r}")

    @contract_test
    async def test_too_large_event_takes_no_position(self) -> None:
        """An event that is refused leaves no hole in the numbers."""
        async with self.backend() as backend:
            outcomes = await backend.publish(
                [
                    Message("channel", b"one"),
                    Message("channel", b"x" * (backend.max_payload + 1)),
                    Message("channel", b"two"),
                ]
            )
            assert isinstance(outcomes[1], PayloadTooLarge), f"expected PayloadTooLarge: {outcomes}"
            assert_contiguous([outcomes[0], outcomes[2]], first=1, what="the neighbours' positions")

    @contract_test
    async def test_live_positions_are_those_of_history(self) -> None:
        """An event has one position: in its outcome, when it arrives, and in history."""
        async with self.backend() as backend, self.tap(backend, "channel") as tap:
            payloads = [b"", b"\x00\xff", *[b"%d" % i for i in range(8)]]
            outcomes = await publish(backend, "channel", *payloads)
            await tap.until_count(10)
            history = await read(backend, "channel")
            assert_same(tap.events, payloads, "live events")
            assert_same(history.events, payloads, "events in history")
            assert [event.position for event in tap.events] == outcomes, (
                "the positions of live events differ from what publish() returned"
            )
            assert [event.position for event in history.events] == outcomes, (
                "the positions in history differ from what publish() returned"
            )
            assert {event.channel for event in history.events} == {"channel"}, (
                "events in history must carry their channel"
            )

    @contract_test
    async def test_ids_are_texts_of_positions(self) -> None:
        """An event's id survives the way to a client and back."""
        async with self.backend() as backend:
            await publish(backend, "channel", b"event")
            (event,) = (await read(backend, "channel")).events
            assert event.id is not None, "an event of a backend with history has an id"
            parsed = Position.parse(event.id)
            assert parsed == event.position, f"{event.id!r} reads as {parsed}, not {event.position}"

    @contract_test
    async def test_top_at_subscribe_is_the_last_position(self) -> None:
        """``subscribe()`` returns each channel's newest position; None without a record."""
        async with self.backend() as backend:
            (last,) = (await publish(backend, "channel", b"one", b"two"))[1:]
            async with self.tap(backend) as tap:
                tops = await tap.subscribe("channel", "silent")
                assert tops["channel"] == last, (
                    f"the newest event has {last}, subscribe() returned {tops['channel']}"
                )
                assert tops["silent"] is None, (
                    f"a channel without a record has no top, not {tops['silent']}"
                )

    @contract_test
    async def test_top_joins_live_without_a_hole(self) -> None:
        """The first live event beyond the top follows it, however fast somebody publishes."""
        async with self.backend() as backend, self.backend() as other, flood(other, "channel"):
            for _ in range(15):
                async with self.tap(backend) as tap:
                    top = (await tap.subscribe("channel"))["channel"]
                    await tap.until(partial(tap.beyond, top), f"events beyond the top {top}")
                    assert_contiguous(
                        [event.position for event in tap.beyond(top)],
                        first=1 if top is None else top.offset + 1,
                        what=f"live events after subscribe() returned the top {top}",
                    )

    @contract_test
    async def test_history_joins_live_without_a_hole(self) -> None:
        """History read after subscribing, and what comes live, are one sequence."""
        async with self.backend() as backend, self.backend() as other:
            await publish(other, "channel", b"first")
            async with flood(other, "channel", batch=3):
                for _ in range(15):
                    async with self.tap(backend, "channel") as tap:
                        history = await read(backend, "channel", limit=5)
                        top = position(history.position)
                        await tap.until(partial(tap.beyond, top), f"events beyond the top {top}")
                        joined = [*history.events, *tap.beyond(top)]
                        assert_contiguous(
                            [event.position for event in joined],
                            first=position(joined[0].position).offset,
                            what=f"history up to {top}, then the live events beyond it",
                        )

    @contract_test
    async def test_64_publishers_share_one_numbering(self) -> None:
        """However many publish at once: no number twice, none left out, live in that order."""
        async with self.backend() as backend, self.backend() as other:

            async def publisher(number: int) -> list[Outcome]:
                chosen = backend if number % 2 else other
                outcomes: list[Outcome] = []
                for i in range(5):
                    outcomes += await publish(chosen, "channel", b"%d:%d" % (number, i))
                return outcomes

            async with self.tap(backend, "channel") as tap:
                publishers = await asyncio.gather(*[publisher(number) for number in range(64)])
                outcomes = sorted(position(each) for mine in publishers for each in mine)
                assert_contiguous(outcomes, first=1, what="outcomes of 64 publishers")
                await tap.until_count(320)
                assert_contiguous(
                    [event.position for event in tap.events],
                    first=1,
                    what="live events, in the order in which they came",
                )

    @contract_test
    async def test_history_of_a_channel_without_record(self) -> None:
        """An unknown channel has no events and no top, and is complete since the beginning."""
        async with self.backend() as backend:
            for since in (None, BEGINNING):
                history = await read(backend, "unknown", since=since)
                assert_history(history, [], complete=True, what=f"unknown channel, {since=}")
                assert history.position is None, f"no record, yet a top: {history.position}"
            history = await read(backend, "unknown", since=STRANGE)
            assert_history(history, [], complete=False, what="unknown channel, since an old epoch")

    @pytest.mark.parametrize("limit", [None, 0, 1, 3, 10, 11, 1000])
    @contract_test
    async def test_limit_gives_the_newest(self, limit: int | None) -> None:
        """``limit`` keeps the newest events, oldest first; 0 reads only the top."""
        async with self.backend() as backend:
            outcomes = await publish(backend, "channel", *[b"%d" % i for i in range(10)])
            history = await read(backend, "channel", limit=limit)
            newest = 10 if limit is None else min(limit, 10)
            expected = [b"%d" % i for i in range(10 - newest, 10)]
            assert_history(history, expected, complete=True, what=f"10 events, {limit=}")
            assert history.position == outcomes[-1], (
                f"the top is {outcomes[-1]} whatever the limit, not {history.position}"
            )

    @pytest.mark.parametrize("offset", [1, 5, 9, 10])
    @contract_test
    async def test_since_gives_what_came_after(self, offset: int) -> None:
        """``since`` leaves out that event and all before it, and nothing else."""
        async with self.backend() as backend:
            outcomes = await publish(backend, "channel", *[b"%d" % i for i in range(1, 11)])
            history = await read(backend, "channel", since=position(outcomes[offset - 1]))
            expected = [b"%d" % i for i in range(offset + 1, 11)]
            assert_history(
                history, expected, complete=True, what=f"10 events, since number {offset}"
            )
            assert history.position == outcomes[-1], (
                f"the top is {outcomes[-1]}: {history.position}"
            )

    @contract_test
    async def test_since_the_beginning_gives_all(self) -> None:
        """``BEGINNING`` stands before the first event, whatever epoch that got."""
        async with self.backend() as backend:
            await publish(backend, "channel", b"one", b"two")
            history = await read(backend, "channel", since=BEGINNING)
            assert_history(history, [b"one", b"two"], complete=True, what="since BEGINNING")

    @contract_test
    async def test_since_with_limit(self) -> None:
        """A ``limit`` that cuts off something after ``since`` makes it incomplete."""
        async with self.backend() as backend:
            outcomes = await publish(backend, "channel", *[b"%d" % i for i in range(1, 11)])
            since = position(outcomes[5])
            last_four = [b"7", b"8", b"9", b"10"]
            for limit, expected, complete in (
                (3, last_four[1:], False),
                (4, last_four, True),
                (5, last_four, True),
                (0, [], False),
            ):
                history = await read(backend, "channel", since=since, limit=limit)
                assert_history(
                    history, expected, complete=complete, what=f"4 events after since, {limit=}"
                )
            history = await read(backend, "channel", since=position(outcomes[-1]), limit=0)
            assert_history(history, [], complete=True, what="nothing after since, limit=0")

    @contract_test
    async def test_since_another_epoch_is_incomplete(self) -> None:
        """A ``since`` of an unknown epoch gives all that is kept, and says incomplete."""
        async with self.backend() as backend:
            await publish(backend, "channel", b"one", b"two")
            history = await read(backend, "channel", since=STRANGE)
            assert_history(
                history, [b"one", b"two"], complete=False, what="since a position of another epoch"
            )

    @contract_test
    async def test_since_beyond_the_top_is_incomplete(self) -> None:
        """A ``since`` that the record has not reached says incomplete."""
        async with self.backend() as backend:
            (last,) = await publish(backend, "channel", b"one")
            beyond = Position(position(last).epoch, position(last).offset + 5)
            history = await read(backend, "channel", since=beyond)
            assert not history.complete, (
                f"the top is {last}, and since={beyond} lies beyond it: the record has lost "
                f"events, so complete must be False"
            )

    @contract_test
    async def test_many_histories_in_one_call(self) -> None:
        """One history per request, in the order of the requests, repeated channels too."""
        async with self.backend() as backend:
            names = [f"channel {i}" for i in range(300)]
            messages = [Message(name, f"{name} {i}".encode()) for name in names for i in (1, 2)]
            outcomes = await publish_all(backend, messages)
            requests = [HistoryRequest(name, 1) for name in reversed(names)]
            requests += [
                HistoryRequest("channel 7", since=position(outcomes[14])),
                HistoryRequest("unknown"),
                HistoryRequest("channel 7", limit=0),
                HistoryRequest("channel 7"),
            ]
            histories = await backend.get_history(requests)
            assert len(histories) == len(requests), (
                f"{len(requests)} requests, {len(histories)} histories"
            )
            for request, history in zip(requests[:300], histories, strict=False):
                expected = [b"%s 2" % request.channel.encode()]
                assert_history(history, expected, complete=True, what=f"{request}, one of 300")
            two = [b"channel 7 2"]
            assert_history(histories[300], two, complete=True, what=str(requests[300]))
            assert_history(histories[301], [], complete=True, what=str(requests[301]))
            assert_history(histories[302], [], complete=True, what=str(requests[302]))
            both = [b"channel 7 1", b"channel 7 2"]
            assert_history(histories[303], both, complete=True, what=str(requests[303]))
            assert await backend.get_history([]) in ([], ()), "no request, no history"

    @contract_test
    async def test_similar_names_have_their_own_history(self) -> None:
        """Names that differ by case, form or pattern characters do not share a record."""
        names = ["News", "news", "caf\u00e9", "cafe\u0301", "n*", "n_ws", "n%", "{a}b", "a", "it's"]
        async with self.backend() as backend:
            await publish_all(backend, [Message(name, name.encode()) for name in names])
            histories = await backend.get_history([HistoryRequest(name) for name in names])
            for name, history in zip(names, histories, strict=True):
                assert_history(history, [name.encode()], complete=True, what=f"history of {name!r}")
                assert history.events[0].position == (history.position), f"top of {name!r}"
                assert history.events[0].channel == name, f"channel of an event of {name!r}"
                assert_contiguous([history.position], first=1, what=f"top of {name!r}")

    @contract_test
    async def test_history_shows_what_was_published(self) -> None:
        """As soon as ``publish()`` returned, every backend on the broker reads the event."""
        async with self.backend() as backend, self.backend() as other:
            for i in range(1, 21):
                (outcome,) = await publish(backend, "channel", b"%d" % i)
                history = await read(other, "channel", limit=1)
                assert_history(
                    history, [b"%d" % i], complete=True, what="read where the record is written"
                )
                assert history.position == outcome, f"{outcome} was published: {history.position}"

    @contract_test
    async def test_history_stays_while_nobody_listens(self) -> None:
        """The record outlives listeners and backends, and its numbers go on."""
        async with self.backend() as backend:
            async with self.tap(backend, "channel") as tap:
                first = await publish(backend, "channel", b"one")
                await tap.until_count(1)
            second = await publish(backend, "channel", b"two")
        async with self.backend() as another:
            third = await publish(another, "channel", b"three")
            assert_contiguous([*first, *second, *third], first=1, what="positions over time")
            history = await read(another, "channel", since=position(first[0]))
            assert_history(history, [b"two", b"three"], complete=True, what="since the first event")

    @contract_test
    async def test_record_is_bounded(self) -> None:
        """The newest ``history`` events are kept, and older ones go sooner or later."""
        async with self.backend() as backend:
            total = await self._overfill(backend)
            history = await read(backend, "channel")
            kept = len(history.events)
            assert kept >= self.history, (
                f"{total} events were published, history={self.history} must be kept, {kept} are"
            )
            expected = [b"%d" % i for i in range(total - kept, total)]
            assert_same(history.events, expected, "the newest events are what is kept")
            assert_contiguous(
                [event.position for event in history.events],
                first=total - kept + 1,
                what="positions of what is kept",
            )

    @contract_test
    async def test_since_the_trimmed_part_is_incomplete(self) -> None:
        """``complete`` tells exactly whether something after ``since`` was trimmed."""
        async with self.backend() as backend:
            total = await self._overfill(backend)
            history = await read(backend, "channel")
            oldest = position(history.events[0].position)
            payloads = [bytes(event) for event in history.events]
            for since, expected, complete in (
                (Position(oldest.epoch, oldest.offset - 1), payloads, True),
                (oldest, payloads[1:], True),
                (Position(oldest.epoch, oldest.offset - 2), payloads, False),
                (Position(oldest.epoch, 1), payloads, False),
                (BEGINNING, payloads, False),
                (Position(oldest.epoch, total), [], True),
            ):
                assert_history(
                    await read(backend, "channel", since=since),
                    expected,
                    complete=complete,
                    what=f"{oldest} is the oldest event kept, since={since}",
                )

    @contract_test
    async def test_lost_record_starts_a_new_epoch(self) -> None:
        """After the broker lost a record, an old position is never taken for a new one."""
        async with self.backend() as backend:
            outcomes = await publish(backend, "channel", *[b"old"] * 5)
            await self.lose_record("channel")
            since = position(outcomes[2])
            history = await read(backend, "channel", since=since)
            assert not history.complete, (
                f"the record was lost, so nothing is complete since {since}: {history}"
            )
            await publish(backend, "channel", *[b"new"] * 5)
            history = await read(backend, "channel", since=since)
            assert not history.complete, (
                f"the record was lost and began again; since {since} must be incomplete though "
                f"its offset exists again: {history}"
            )
            assert_same(history.events, [b"new"] * 5, "what the new record holds")
            new = position(history.position)
            assert new.epoch != since.epoch, (
                f"the new record must have a new epoch, a random one; it is still {new.epoch!r}"
            )

    async def _overfill(self, backend: ChannelsBackend) -> int:
        """Publish until something must go, wait until it is gone, return the number published."""
        total = self.history_at_most + self.history
        for start in range(0, total, 100):
            numbers = range(start, min(start + 100, total))
            await publish(backend, "channel", *[b"%d" % i for i in numbers])
        loop = asyncio.get_running_loop()
        deadline = loop.time() + self.patience
        while (kept := len((await read(backend, "channel")).events)) > self.history_at_most:
            assert loop.time() < deadline, (
                f"{total} events were published; {self.patience:g} s later the record still holds "
                f"{kept}, with history={self.history} and history_at_most={self.history_at_most}"
            )
            await asyncio.sleep(0.02)
        return total


async def read(
    backend: ChannelsBackend,
    channel: str,
    *,
    limit: int | None = None,
    since: Position | None = None,
) -> History:
    """Read one channel's history."""
    histories = await backend.get_history([HistoryRequest(channel, limit, since)])
    assert len(histories) == 1, f"one request, {len(histories)} histories"
    return histories[0]


def position(outcome: Outcome) -> Position:
    """Return an outcome that must be a position."""
    assert isinstance(outcome, Position), f"a Position is expected, not {outcome!r}"
    return outcome


def assert_contiguous(positions: Sequence[Outcome], *, first: int, what: str) -> None:
    """Check that positions are of one epoch and count on from ``first``."""
    places = [position(outcome) for outcome in positions]
    epochs = {place.epoch for place in places}
    assert len(epochs) <= 1, f"{what}: one epoch is expected, not {sorted(epochs)}"
    for expected, place in enumerate(places, first):
        assert place.offset == expected, (
            f"{what}: offset {expected} is expected, {place.offset} came "
            f"({len(places)} in all; offsets are contiguous and each comes once)"
        )


def assert_history(
    history: History, payloads: Sequence[bytes], *, complete: bool, what: str
) -> None:
    """Check a history's events, and whether it says the right thing about being complete."""
    assert_same(history.events, payloads, what)
    assert history.complete is complete, (
        f"{what}: complete must be {complete}, it is {history.complete!r}"
    )
