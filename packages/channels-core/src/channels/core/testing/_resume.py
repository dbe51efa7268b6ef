"""The suite that breaks the broker under a plugin and looks for every event."""

from __future__ import annotations

import asyncio
from collections import Counter
from contextlib import AbstractAsyncContextManager
from typing import ClassVar

import pytest

from channels.core import BEGINNING, ChannelsBackend
from channels.core.testing._checks import assert_same, publish, read
from channels.core.testing._outage import OutageContract
from channels.core.testing._suite import contract_test
from channels.core.testing._watch import Watch, WatchedPlugin, eventually


class ResumeContract(OutageContract):
    """Prove that outages lose and repeat nothing within the history kept, and are told beyond.

    Everything in ``OutageContract``, and this. :meth:`backend` gives backends that keep
    :attr:`history` events of a channel.
    """

    history: ClassVar[int] = 100
    """How many events per channel the backends of :meth:`backend` keep. At least 40."""

    history_at_most: ClassVar[int] = 400
    """How many events a channel may hold at most, where trimming is approximate or late."""

    def bystander(self) -> AbstractAsyncContextManager[ChannelsBackend]:
        """Give a started backend that reaches the broker during an outage too.

        It stands for another process, whose network is not broken. Where the broker is down
        for everybody (it was killed), override it to skip: those tests then prove nothing.
        """
        raise NotImplementedError(f"{type(self).__name__} must override bystander()")

    async def lose_history(self) -> None:
        """Make the broker lose all of its records, as when it restarts empty. Optional."""
        pytest.skip("override lose_history() to prove what happens when the broker loses records")

    @contract_test
    async def test_what_was_missed_is_read_from_history(self) -> None:
        """Events published during an outage arrive afterwards, once and in order."""
        async with (
            self.backend() as backend,
            self.bystander() as elsewhere,
            WatchedPlugin(backend) as plugin,
            plugin.watch("busy", "quiet", "silent") as watch,
        ):
            await publish(elsewhere, "busy", b"0")
            await self._until(watch, "busy", [b"0"])
            async with self.outage():
                await publish(elsewhere, "busy", *[b"%d" % i for i in range(1, 30)])
                await publish(elsewhere, "quiet", b"first ever")
            await self._until(watch, "busy", [b"%d" % i for i in range(30)])
            await self._until(watch, "quiet", [b"first ever"])
            await publish(elsewhere, "busy", b"30")
            await self._until(watch, "busy", [b"%d" % i for i in range(31)])
            assert not watch.of("silent"), "events of a channel that nobody published to"
            self._assert_told(plugin, watch, {})

    @contract_test
    async def test_a_publisher_that_never_stops_is_followed(self) -> None:
        """Over several outages a stream of events arrives without a hole or a repetition."""
        async with (
            self.backend() as backend,
            self.bystander() as elsewhere,
            WatchedPlugin(backend) as plugin,
            plugin.watch("channel") as watch,
        ):
            sent = 0
            for _ in range(3):
                for _ in range(5):
                    await publish(elsewhere, "channel", b"%d" % sent)
                    sent += 1
                async with self.outage():
                    for _ in range(10):
                        await publish(elsewhere, "channel", b"%d" % sent)
                        sent += 1
                        await asyncio.sleep(0.002)
                for _ in range(10):
                    await publish(elsewhere, "channel", b"%d" % sent)
                    sent += 1
                    await asyncio.sleep(0.002)
                await self._until(watch, "channel", [b"%d" % i for i in range(sent)])
            self._assert_told(plugin, watch, {})

    @contract_test
    async def test_what_history_no_longer_has_is_told(self) -> None:
        """Where more was missed than is kept, the channel is told once, the rest arrives."""
        async with (
            self.backend() as backend,
            self.bystander() as elsewhere,
            WatchedPlugin(backend) as plugin,
            plugin.watch("busy", "quiet") as watch,
        ):
            await publish(elsewhere, "busy", b"before")
            await self._until(watch, "busy", [b"before"])
            async with self.outage():
                total = await self._overfill(elsewhere, "busy")
            last = b"%d" % (total - 1)
            await self._until_last(watch, "busy", last)
            kept = watch.of("busy")[1:]
            expected = [b"%d" % i for i in range(total - len(kept), total)]
            assert_same(kept, expected, "the newest events, which history still has")
            assert len(kept) >= self.history, f"{len(kept)} events of history={self.history} came"
            self._assert_told(plugin, watch, {"busy": 1})

    @contract_test
    async def test_a_lost_record_is_told(self) -> None:
        """Where the broker lost its records, the channel is told once and goes on."""
        async with (
            self.backend() as backend,
            self.bystander() as elsewhere,
            WatchedPlugin(backend) as plugin,
            plugin.watch("channel", "unused") as watch,
        ):
            await publish(elsewhere, "channel", b"1", b"2", b"3")
            await self._until(watch, "channel", [b"1", b"2", b"3"])
            async with self.outage():
                await self.lose_history()
            async with self.bystander() as again:
                await publish(again, "channel", b"new 1")
                await self._until(watch, "channel", [b"1", b"2", b"3", b"new 1"])
                self._assert_told(plugin, watch, {"channel": 1})
                await publish(again, "channel", *[b"new %d" % i for i in range(2, 6)])
                everything = [b"1", b"2", b"3", *[b"new %d" % i for i in range(1, 6)]]
                await self._until(watch, "channel", everything)
            self._assert_told(plugin, watch, {"channel": 1})

    @contract_test
    async def test_a_client_resumes_after_the_id_it_has(self) -> None:
        """``since`` gives exactly what came after, however long the client was away."""
        async with self.backend() as backend, WatchedPlugin(backend) as plugin:
            async with plugin.watch("channel") as watch:
                for i in range(5):
                    await plugin.wait_published(b"%d" % i, "channel")
                await self._until(watch, "channel", [b"%d" % i for i in range(5)])
                seen = watch.events[2].id
            async with self.outage():
                pass
            async with self.bystander() as elsewhere:
                await publish(elsewhere, "channel", b"5")
                async with plugin.watch("channel", since=seen) as watch:
                    await self._until(watch, "channel", [b"3", b"4", b"5"])
                    self._assert_recovered(watch, expected=True)
                    await publish(elsewhere, "channel", b"6")
                    await self._until(watch, "channel", [b"3", b"4", b"5", b"6"])

    @contract_test
    async def test_a_client_that_was_away_too_long_is_told(self) -> None:
        """``since`` an id whose successors were trimmed says that it is not recovered."""
        async with self.backend() as backend, WatchedPlugin(backend) as plugin:
            ids = await plugin.wait_published(b"seen", "channel")
            total = await self._overfill(backend, "channel")
            async with plugin.watch("channel", since=ids["channel"]) as watch:
                await self._until_last(watch, "channel", b"%d" % (total - 1))
                self._assert_recovered(watch, expected=False)

    @contract_test
    async def test_a_client_of_a_lost_record_is_told(self) -> None:
        """``since`` an id of a record that was lost says that it is not recovered."""
        async with self.backend() as backend, WatchedPlugin(backend) as plugin:
            ids = await plugin.wait_published(b"old", "channel")
            async with self.outage():
                await self.lose_history()
            async with self.bystander() as elsewhere:
                await publish(elsewhere, "channel", b"new")
            async with plugin.watch("channel", since=ids["channel"]) as watch:
                await self._until_last(watch, "channel", b"new")
                self._assert_recovered(watch, expected=False)

    async def _until(self, watch: Watch, channel: str, expected: list[bytes]) -> None:
        """Wait until so many events came, which must be these."""
        await eventually(
            lambda: len(watch.of(channel)) >= len(expected),
            lambda: (
                f"{len(expected)} events of channel {channel!r}, {len(watch.of(channel))} came; "
                f"gaps in the stream: {watch.gaps}"
            ),
            seconds=self.patience,
        )
        assert_same(watch.of(channel), expected, f"events of channel {channel!r}")

    async def _until_last(self, watch: Watch, channel: str, last: bytes) -> None:
        await eventually(
            lambda: watch.of(channel)[-1:] == [last],
            lambda: f"{last!r} as the last event of channel {channel!r}: {watch.of(channel)[-1:]}",
            seconds=self.patience,
        )

    async def _overfill(self, backend: ChannelsBackend, channel: str) -> int:
        """Publish until the first event of ``channel`` is trimmed; return the number published."""
        total = self.history_at_most + 2 * self.history
        for start in range(0, total, 50):
            numbers = range(start, min(start + 50, total))
            await publish(backend, channel, *[b"%d" % i for i in numbers])
        loop = asyncio.get_running_loop()
        deadline = loop.time() + self.patience
        while (await read(backend, channel, since=BEGINNING)).complete:
            assert loop.time() < deadline, (
                f"{total} events were published, but get_history() since BEGINNING says complete"
            )
            await asyncio.sleep(0.02)
        return total

    def _assert_told(self, plugin: WatchedPlugin, watch: Watch, expected: dict[str, int]) -> None:
        assert plugin.told == expected, (
            f"on_gap must have been called {expected or 'for no channel'}, it was called "
            f"{dict(plugin.told)}. It comes from History.complete and from the epochs of "
            f"positions and tops"
        )
        assert watch.gaps == list(Counter(expected).elements()), (
            f"gaps in the stream: {watch.gaps}, told to on_gap: {expected}"
        )

    def _assert_recovered(self, watch: Watch, *, expected: bool) -> None:
        assert watch.subscriber.recovered is expected, (
            f"subscriber.recovered must be {expected}, it is {watch.subscriber.recovered}; "
            f"unrecovered: {sorted(watch.subscriber.unrecovered)}. It comes from History.complete"
        )
