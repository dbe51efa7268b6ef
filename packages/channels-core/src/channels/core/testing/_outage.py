"""The suite that breaks the broker under a plugin."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager
from typing import ClassVar

from channels.core import (
    BackendException,
    BackendUnavailable,
    PublishUnconfirmed,
)
from channels.core.testing._checks import assert_same, read
from channels.core.testing._suite import Suite, contract_test
from channels.core.testing._watch import Watch, WatchedPlugin, eventually


class OutageContract(Suite):
    """Prove that a plugin over the backend lives through outages of its broker.

    Besides ``backend`` it asks for :meth:`outage`. Where history is kept, subclass
    ``ResumeContract`` instead, which includes this. ::

        class TestMyOutages(OutageContract):
            @asynccontextmanager
            async def outage(self) -> AsyncIterator[None]:
                self.proxy.refuse()
                self.proxy.cut()
                try:
                    yield
                finally:
                    await self.proxy.accept()
    """

    patience: ClassVar[float] = 15.0
    """Seconds within which all is as before once the broker is back: enough for the longest
    pause between two attempts to connect, and for an outage to be noticed. A test may take four
    times as much."""

    call_bound: ClassVar[float] = 10.0
    """Seconds within which the backend's own calls come back without a broker, as it states."""

    def outage(self) -> AbstractAsyncContextManager[None]:
        """Make the broker unreachable; on leaving it is back, with what it had.

        When this is entered, connections of the backends given before are cut or dead, and new
        ones cannot be made.
        """
        raise NotImplementedError(f"{type(self).__name__} must override outage()")

    @contract_test
    async def test_everything_is_subscribed_again(self) -> None:
        """After an outage every channel of every subscriber is live again."""
        names = [f"channel {i}" for i in range(20)]
        async with (
            self.backend() as backend,
            WatchedPlugin(backend) as plugin,
            plugin.watch(*names) as one,
            plugin.watch(*names[:5]) as two,
        ):
            for times in range(2):
                async with self.outage():
                    pass
                await self._until_live(plugin, one, names, b"one %d" % times)
                await self._until_live(plugin, two, names[:5], b"two %d" % times)

    @contract_test
    async def test_an_outage_is_told_or_bridged(self) -> None:
        """Without history each affected channel is told once per outage; with it, nothing is."""
        async with (
            self.backend() as backend,
            WatchedPlugin(backend) as plugin,
            plugin.watch("one", "two") as watch,
            plugin.watch("two"),
        ):
            for outages in (1, 2):
                async with self.outage():
                    pass
                await self._until_live(plugin, watch, ["one", "two"], b"live %d" % outages)
                expected = {} if backend.keeps_history else {"one": outages, "two": outages}
                assert plugin.told == expected, (
                    f"after {outages} outages in which nothing was published on_gap must have "
                    f"been called {expected or 'for no channel, as history tells'}, it was "
                    f"{dict(plugin.told)}"
                )

    @contract_test
    async def test_what_is_published_meanwhile_is_sent_once(self) -> None:
        """``publish()`` queues during an outage, and sends once, in order, when it is over."""
        payloads = [b"%d" % i for i in range(50)]
        async with (
            self.backend() as backend,
            WatchedPlugin(backend) as plugin,
            plugin.watch("channel") as watch,
        ):
            async with self.outage():
                for data in payloads:
                    plugin.publish(data, "channel")
                await asyncio.sleep(0.05)  # the plugin tries, in vain
            await self._until_live(plugin, watch, ["channel"], b"live")
            plugin.publish(b"last", "channel")  # after all that is queued
            await eventually(
                lambda: b"last" in watch.events,
                lambda: "the event that was queued last did not come",
                seconds=self.patience,
            )
            came: Sequence[bytes] = watch.events
            doubtful = set(payloads) - set(came)  # as far as nobody can tell
            if backend.keeps_history:
                came = (await read(backend, "channel")).events
                doubtful = {
                    data
                    for data, error in plugin.given_up.items()
                    if isinstance(error, PublishUnconfirmed) and data not in came
                }
            assert_same(
                [data for data in came if data in payloads],
                [data for data in payloads if data not in doubtful],
                "what was published during an outage, less what publish() called unconfirmed",
            )

    @contract_test
    async def test_waiting_for_a_publish_is_bounded(self) -> None:
        """``wait_published()`` fails during an outage, in time, and says if it is in doubt."""
        async with (
            self.backend() as backend,
            WatchedPlugin(backend) as plugin,
            self.outage(),
        ):
            for _ in range(2):
                try:
                    async with asyncio.timeout(self.call_bound):
                        await plugin.wait_published(b"lost", "channel")
                except (BackendUnavailable, PublishUnconfirmed):
                    continue
                except TimeoutError:
                    raise AssertionError(
                        f"publish() without a broker did not come back within call_bound="
                        f"{self.call_bound:g} s"
                    ) from None
                raise AssertionError("publish() succeeded without a broker")

    @contract_test
    async def test_subscribing_meanwhile_fails_in_time(self) -> None:
        """``subscribe()`` gives up after ``subscribe_timeout`` and leaves nothing behind."""
        async with (
            self.backend() as backend,
            WatchedPlugin(backend, subscribe_timeout=0.5) as plugin,
            plugin.watch("before") as watch,
        ):
            async with self.outage():
                started = time.monotonic()
                try:
                    await plugin.subscribe("meanwhile")
                except BackendUnavailable:
                    pass
                else:
                    raise AssertionError("subscribe() returned without a broker to confirm it")
                self._assert_within(started, 2.0, "subscribe() with subscribe_timeout=0.5")
                count = plugin.subscriber_count("meanwhile")
                assert count == 0, f"a failed subscribe() left {count} subscribers behind"
            await self._until_live(plugin, watch, ["before"], b"live")

    @contract_test
    async def test_subscribing_meanwhile_succeeds_afterwards(self) -> None:
        """``subscribe()`` in an outage that ends in time succeeds, and the channel is live."""
        async with (
            self.backend() as backend,
            WatchedPlugin(backend, subscribe_timeout=self.patience) as plugin,
        ):
            async with self.outage():
                joining = asyncio.create_task(plugin.subscribe("channel", gaps=True))
                await asyncio.sleep(0)
            watch = Watch(await joining)
            await self._until_live(plugin, watch, ["channel"], b"live")
            await plugin.unsubscribe(watch.subscriber)

    @contract_test
    async def test_unsubscribing_meanwhile_does_not_wait(self) -> None:
        """``unsubscribe()`` never waits for the broker."""
        async with (
            self.backend() as backend,
            WatchedPlugin(backend) as plugin,
            plugin.watch("one", "two") as watch,
        ):
            async with self.outage():
                started = time.monotonic()
                await plugin.unsubscribe(watch.subscriber, "one")
                self._assert_within(started, 0.5, "unsubscribe()")
            await self._until_live(plugin, watch, ["two"], b"live")
            assert not watch.of("one"), "events of a channel that was left during the outage came"

    @contract_test
    async def test_stopping_meanwhile_is_bounded(self) -> None:
        """A plugin stops in time without a broker, and starts again when that is back."""
        async with self.backend() as backend:
            plugin = WatchedPlugin(backend, shutdown_timeout=1.0)
            await plugin.start()
            subscriber = await plugin.subscribe("channel")
            async with self.outage():
                plugin.publish(b"unsent", "channel")
                started = time.monotonic()
                await plugin.stop()
                self._assert_within(started, 4.0, "stop() with shutdown_timeout=1")
                assert [event async for event in subscriber.iter_events()] == [], "no event"
            async with plugin, plugin.watch("channel") as watch:
                await self._until_live(plugin, watch, ["channel"], b"live")

    @contract_test
    async def test_starting_meanwhile_connects_afterwards(self) -> None:
        """A plugin starts without a broker, and is live when that is back."""
        async with self.backend() as backend:
            plugin = WatchedPlugin(backend, connect_timeout=0.5, subscribe_timeout=self.patience)
            async with self.outage():
                started = time.monotonic()
                await plugin.start()
                self._assert_within(started, 3.0, "start() with connect_timeout=0.5")
            try:
                async with plugin.watch("channel") as watch:
                    await self._until_live(plugin, watch, ["channel"], b"live")
            finally:
                await plugin.stop()

    async def _until_live(
        self, plugin: WatchedPlugin, watch: Watch, names: list[str], probe: bytes
    ) -> None:
        """Publish probes until one has come on every channel."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + self.patience
        silent = list(names)
        number = 0
        while silent:
            number += 1
            for name in silent:
                try:
                    await plugin.wait_published(b"%s, probe %d" % (probe, number), name)
                except BackendException:
                    break
            await asyncio.sleep(0.03)
            silent = [
                name
                for name in silent
                if not any(event.startswith(b"%s, probe" % probe) for event in watch.of(name))
            ]
            assert loop.time() < deadline or not silent, (
                f"the broker is back for {self.patience:g} s, but nothing comes on {len(silent)} "
                f"of {len(names)} channels, among them {silent[0]!r}: the listener must raise "
                f"BackendUnavailable when its connection is gone, and listen() and subscribe() "
                f"must work on a new one"
            )

    def _assert_within(self, started: float, seconds: float, what: str) -> None:
        took = time.monotonic() - started
        assert took <= seconds, f"{what} took {took:.1f} s; {seconds:g} s is the bound"
