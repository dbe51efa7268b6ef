"""What ``listen()`` and a listener promise."""

from __future__ import annotations

import asyncio

import pytest

from channels.core import BackendException, BackendUnavailable, ChannelsBackend, Message
from channels.core.testing._checks import assert_same, publish, publish_all
from channels.core.testing._flood import flood
from channels.core.testing._suite import Suite, contract_test
from channels.core.testing._tap import Tap


class ListenContract(Suite):
    """What ``listen()`` and a listener promise; part of ``BackendContract``."""

    @contract_test
    async def test_publisher_hears_itself(self) -> None:
        """A backend's own listener receives what the same backend publishes, once."""
        async with self.backend() as backend, self.tap(backend, "channel") as tap:
            await publish(backend, "channel", b"one", b"two")
            await tap.until_event("channel", b"two")
            assert_same(tap.events, [b"one", b"two"], "own events, once each")

    @contract_test
    async def test_another_backend_hears(self) -> None:
        """Two backends on one broker, as two processes have them, hear each other."""
        async with (
            self.backend() as first,
            self.backend() as second,
            self.tap(first, "to first") as one,
            self.tap(second, "to second") as two,
        ):
            await publish(first, "to second", b"from first")
            await publish(second, "to first", b"from second")
            await two.until_event("to second", b"from first")
            await one.until_event("to first", b"from second")

    @contract_test
    async def test_every_listener_hears(self) -> None:
        """Each of many listeners of a channel receives each event."""
        async with (
            self.backend() as backend,
            self.backend() as other,
            self.tap(backend, "channel") as one,
            self.tap(backend, "channel") as two,
            self.tap(other, "channel") as three,
        ):
            expected = [b"%d" % i for i in range(100)]
            await publish(backend, "channel", *expected)
            for tap in (one, two, three):
                await tap.until_event("channel", b"99")
                assert_same(tap.events, expected, "events of one of three listeners")

    @contract_test
    async def test_nothing_is_missed_once_subscribe_returned(self) -> None:
        """Whatever is published after ``subscribe()`` returned arrives."""
        async with self.backend() as backend, self.backend() as other, self.tap(backend) as tap:
            for i in range(40):
                await tap.subscribe(f"channel {i}")
                await publish(other if i % 2 else backend, f"channel {i}", b"at once")
            await tap.until_count(40)
            assert {event.channel for event in tap.events} == {f"channel {i}" for i in range(40)}, (
                "each of 40 channels got one event as soon as subscribe() had returned"
            )

    @contract_test
    async def test_1000_channels_in_one_call(self) -> None:
        """Thousands of channels are subscribed and left in few round trips."""
        names = [f"channel {i}" for i in range(1000)]
        async with self.backend() as backend, self.tap(backend, *names) as tap:
            await publish_all(backend, [Message(name, name.encode()) for name in names])
            await tap.until_count(1000)
            expected = sorted(name.encode() for name in names)  # across channels there is no order
            assert_same(sorted(tap.events), expected, "one event of each channel")
            await tap.unsubscribe(*names[1:])
            await publish(backend, names[0], b"still here")
            await tap.until_event(names[0], b"still here")

    @contract_test
    async def test_channels_do_not_mix(self) -> None:
        """A listener receives its own channels' events only, under their own names."""
        async with (
            self.backend() as backend,
            self.tap(backend, "a", "b") as ab,
            self.tap(backend, "b", "c") as bc,
        ):
            for i in range(20):
                await publish_all(backend, [Message(name, b"%d" % i) for name in "abcd"])
            await ab.until_count(40)
            await bc.until_count(40)
            for tap, names in ((ab, "ab"), (bc, "bc")):
                came = {event.channel for event in tap.events}
                assert came == set(names), f"subscribed to {list(names)}, events of {came}"
                for name in names:
                    assert_same(tap.of(name), [b"%d" % i for i in range(20)], name)

    @contract_test
    async def test_unsubscribe_stops_and_subscribing_again_works(self) -> None:
        """An unsubscribed channel falls silent, the others go on, and it can come back."""
        async with self.backend() as backend, self.tap(backend, "leaves", "stays") as tap:
            await publish(backend, "leaves", b"one")
            await tap.until_event("leaves", b"one")
            await tap.unsubscribe("leaves")
            await self._until_silent(tap, backend, "leaves", "stays")
            heard = len(tap.of("leaves"))

            await tap.subscribe("leaves")
            await publish(backend, "leaves", b"two", b"three")
            await tap.until_event("leaves", b"three")
            assert_same(
                tap.of("leaves")[heard:],
                [b"two", b"three"],
                "after subscribing again, new events arrive once, and none from meanwhile",
            )

    async def _until_silent(
        self, tap: Tap, backend: ChannelsBackend, left: str, other: str
    ) -> None:
        # What was under way when unsubscribe() returned may still come, what is published a
        # moment later may not for ever.
        for i in range(20):
            before = len(tap.of(left))
            await publish(backend, left, b"after unsubscribe")
            await publish(backend, other, b"round %d" % i)
            await tap.until_event(other, b"round %d" % i)
            if len(tap.of(left)) == before:
                return
        raise AssertionError(f"unsubscribe() returned, but events of {left!r} keep coming")

    @contract_test
    async def test_unsubscribe_of_what_is_not_subscribed(self) -> None:
        """Unsubscribing a stranger does no harm."""
        async with self.backend() as backend, self.tap(backend, "channel") as tap:
            await tap.unsubscribe("stranger")
            await publish(backend, "channel", b"event")
            await tap.until_event("channel", b"event")

    @contract_test
    async def test_subscribe_twice_delivers_once(self) -> None:
        """A channel subscribed a second time on one listener delivers each event once."""
        async with self.backend() as backend, self.tap(backend, "channel") as tap:
            await tap.subscribe("channel")
            await publish(backend, "channel", b"one", b"two")
            await tap.until_event("channel", b"two")
            assert_same(tap.events, [b"one", b"two"], "events of a channel subscribed twice")

    @contract_test
    async def test_subscribe_while_flooded(self) -> None:
        """Channels come and go on a listener while another channel runs at full speed."""
        async with self.backend() as backend, self.tap(backend, "flood") as tap:
            async with flood(backend, "flood") as flooding:
                for i in range(20):
                    await tap.subscribe(f"channel {i}")
                    await publish(backend, f"channel {i}", b"event")
                    await tap.until_event(f"channel {i}", b"event")
                    await tap.unsubscribe(f"channel {i}")
            await tap.until_count(flooding.sent, "flood")
            assert_same(
                tap.of("flood"), flooding.payloads(), "the flood beside which others subscribed"
            )

    @contract_test
    async def test_leaving_releases_everything(self) -> None:
        """Listeners can be opened and left over and over; the next one starts empty."""
        async with self.backend() as backend:
            for i in range(25):
                async with self.tap(backend, f"channel {i}") as tap:
                    await publish(backend, f"channel {i - 1}", b"for the one before")
                    await publish(backend, f"channel {i}", b"event")
                    await tap.until_event(f"channel {i}", b"event")
                    assert_same(tap.events, [b"event"], "a new listener has no old subscriptions")

    @contract_test
    async def test_leaving_while_flooded(self) -> None:
        """Leaving a listener under traffic is quick, and nothing else is disturbed."""
        async with self.backend() as backend, self.tap(backend, "flood") as stays:
            async with flood(backend, "flood") as flooding:
                for _ in range(5):
                    async with self.tap(backend, "flood") as tap:
                        await tap.until_count(10)
            await stays.until_count(flooding.sent)
            assert_same(stays.events, flooding.payloads(), "the listener that stayed")

    @contract_test
    async def test_iteration_can_be_cancelled(self) -> None:
        """After a cancelled iteration the listener goes on, or is cleanly dead."""
        async with self.backend() as backend, self.tap(backend, "channel") as tap:
            await publish(backend, "channel", b"one")
            await tap.until_event("channel", b"one")
            await tap.stop()
            await publish(backend, "channel", b"two")
            tap.start()
            if await self._goes_on(tap, backend):
                await publish(backend, "channel", b"three")
                await tap.until_event("channel", b"three")
                assert_same(
                    tap.of("channel"),
                    [b"one", b"two", b"three"],
                    "a listener that goes on after a cancelled iteration loses nothing",
                )

    @pytest.mark.parametrize("after", [0, 0.0005, 0.002, 0.01], ids=lambda after: f"{after} s")
    @contract_test
    async def test_subscribe_can_be_cancelled(self, after: float) -> None:
        """After a cancelled ``subscribe()`` the listener goes on, or is cleanly dead."""
        async with self.backend() as backend:
            for turns in range(4):
                async with self.tap(backend) as tap:
                    names = [f"cancelled {i}" for i in range(50)]
                    joining = asyncio.ensure_future(tap.listener.subscribe(names))
                    for _ in range(turns):
                        await asyncio.sleep(0)
                    await asyncio.sleep(after)
                    joining.cancel()
                    _, pending = await asyncio.wait([joining], timeout=self.patience)
                    assert not pending, (
                        f"subscribe() goes on {self.patience:g} s after it was cancelled"
                    )
                    await self._goes_on(tap, backend)

    async def _goes_on(self, tap: Tap, backend: ChannelsBackend) -> bool:
        """Tell whether the listener still works; where it does not, it must say so."""
        try:
            await tap.subscribe("afterwards")
            await publish(backend, "afterwards", b"event")
            await tap.until_event("afterwards", b"event")
            return True
        except BackendException:
            pass
        except AssertionError:
            if tap.error is None:
                raise
        error = await tap.until_ended()
        assert isinstance(error, BackendUnavailable), (
            f"after a cancellation the listener must go on, or its iteration raise "
            f"BackendUnavailable; it raised {error!r}"
        )
        return False
