"""What a backend promises about positions."""

from __future__ import annotations

import asyncio
from functools import partial

from channels.core import Message, Outcome, PayloadTooLarge, Position
from channels.core.testing._checks import (
    assert_contiguous,
    assert_same,
    position,
    publish,
    publish_all,
    read,
)
from channels.core.testing._flood import flood
from channels.core.testing._suite import Suite, contract_test


class PositionContract(Suite):
    """What is promised about positions; part of ``HistoryContract``."""

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
