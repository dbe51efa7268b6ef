"""How long a record stays."""

from __future__ import annotations

import asyncio
from typing import ClassVar

import pytest

from channels.core import BEGINNING, ChannelsBackend, Position
from channels.core.testing._checks import (
    assert_contiguous,
    assert_history,
    assert_same,
    position,
    publish,
    read,
)
from channels.core.testing._suite import Suite, contract_test


class KeepContract(Suite):
    """How long a record stays; part of ``HistoryContract``."""

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
