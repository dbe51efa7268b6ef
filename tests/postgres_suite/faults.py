"""Real faults: a publisher that numbers, a subscriber that proves that nothing is missing."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest

from channels.core import (
    BackendException,
    BackendRefused,
    BackendUnavailable,
    ChannelsPlugin,
    Event,
    Gap,
    HistoryRequest,
    Message,
    Position,
    PublishUnconfirmed,
)
from channels.core.postgres import PostgresChannelsBackend, _arrivals
from channels.core.testing import TcpProxy
from kit import eventually
from kit.fixtures import PostgresSpace
from kit.postgres import PostgresServer
from postgres_suite._maker import Maker, position, send, tapped, until

extended = pytest.mark.extended
faults = pytest.mark.faults

QUICK: dict[str, Any] = {"heartbeat": 0.3, "timeout": 1.0, "create_schema": True}


class Proof:
    """A plugin whose events are numbered, and what a subscriber got of them."""

    def __init__(self, plugin: ChannelsPlugin) -> None:
        self.plugin = plugin
        self.acknowledged: set[int] = set()
        self.in_doubt: set[int] = set()
        self.received: list[int | None] = []
        """None is a gap that was told."""
        self.gaps: list[str] = []
        self._number = 0

    async def publish(self, stop: asyncio.Event) -> None:
        """Publish numbers until told to stop; what surely was not sent is tried again."""
        while not stop.is_set():
            number = self._number
            self._number += 1
            while True:
                try:
                    await self.plugin.wait_published(str(number), "proof")
                except BackendUnavailable:
                    await asyncio.sleep(0.02)
                    continue
                except PublishUnconfirmed:
                    self.in_doubt.add(number)
                else:
                    self.acknowledged.add(number)
                break
            await asyncio.sleep(0.001)

    async def receive(self, event: Event | Gap) -> None:
        """Note what came."""
        self.received.append(None if isinstance(event, Gap) else int(event))

    async def until_received(self, n: int) -> None:
        """Wait for so many events in all."""
        await until(lambda: len(self.received) > n, f"{n} events", 15)

    def check(self) -> None:
        """What was acknowledged arrived once and in order, or at its place a gap was told."""
        numbers = [number for number in self.received if number is not None]
        assert numbers == sorted(set(numbers)), "an event came twice, or out of order"
        assert set(numbers) <= self.acknowledged | self.in_doubt
        before, told = -1, False
        for number in self.received:
            if number is None:
                told = True
                continue
            missing = self.acknowledged.intersection(range(before + 1, number))
            assert told or not missing, (
                f"between {before} and {number}, and nobody said so: {self.received[:80]}"
            )
            before, told = number, False
        assert before == max(self.acknowledged | {before}), "the last event is missing"
        assert self.received.count(None) == len(self.gaps)


@asynccontextmanager
async def proof(
    backend: PostgresChannelsBackend, publisher: PostgresChannelsBackend | None = None
) -> AsyncIterator[Proof]:
    """Run publisher and subscriber; on leaving wait for the last event, and check them all."""
    gaps: list[str] = []
    async with (
        ChannelsPlugin(backend, channels=["proof"], on_gap=gaps.append) as plugin,
        ChannelsPlugin(publisher or backend, channels=["proof"]) as sender,
    ):
        told = Proof(sender)
        told.gaps = gaps
        stop = asyncio.Event()
        async with (
            plugin.start_subscription("proof", gaps=True) as subscriber,
            subscriber.run_in_background(told.receive, join=False),
        ):
            publishing = asyncio.create_task(told.publish(stop))
            try:
                await until(lambda: len(told.received) > 20, "events before the fault")
                yield told
                after = len(told.received)
                await until(lambda: len(told.received) > after + 20, "events after it", 15)
            finally:
                stop.set()
                await publishing
            last = max(told.acknowledged)
            await until(lambda: last in told.received[-3:], "the last event", 10)
    told.check()


def pids(backend: PostgresChannelsBackend) -> tuple[int, int]:
    """Return the server processes that it publishes on and reads on; 0 for one that has ended."""
    session = backend._session
    assert session is not None
    lanes = [session.writer._kept, session.reader._kept]
    writer, reader = (kept.pid if kept and not kept.is_closed() else 0 for kept in lanes)
    return writer, reader


class FaultSuite(Maker):
    """Everything that can happen to a server, its connections and its permissions."""

    @pytest.fixture(params=[0, 100_000], ids=["live", "history"])
    def history(self, request: pytest.FixtureRequest) -> int:
        return request.param

    def verify(self, told: Proof, history: int) -> None:
        """With history nothing was missing; without, each outage was told, and once."""
        if history:
            assert told.acknowledged <= set(told.received)
            assert told.gaps == []
        else:
            assert told.gaps, "events may be missing, and nobody was told"
            assert set(told.gaps) == {"proof"}

    async def test_every_connection_is_terminated(
        self, private_postgres: PostgresServer, history: int
    ) -> None:
        backend = self.make(private_postgres.url, history=history, **QUICK)
        async with proof(backend) as told:
            for _ in range(3):
                wanted = len(told.received) + 10
                assert private_postgres.terminate_backends() >= 2
                await told.until_received(wanted)
        self.verify(told, history)

    @pytest.mark.parametrize("seconds", [1, *(pytest.param(s, marks=faults) for s in (10, 40))])
    async def test_server_is_killed(
        self, private_postgres: PostgresServer, history: int, seconds: int
    ) -> None:
        backend = self.make(private_postgres.url, history=history, **QUICK)
        async with proof(backend) as told:
            await asyncio.to_thread(private_postgres.kill)
            await asyncio.sleep(seconds)
            await asyncio.to_thread(private_postgres.start)
        self.verify(told, history)

    async def test_server_restarts_at_once(
        self, private_postgres: PostgresServer, history: int
    ) -> None:
        backend = self.make(private_postgres.url, history=history, **QUICK)
        async with proof(backend) as told:
            await asyncio.to_thread(private_postgres.stop_immediately)
            await asyncio.to_thread(private_postgres.start)
        self.verify(told, history)

    async def test_server_restarts_beneath_a_pool(
        self, private_postgres: PostgresServer, history: int
    ) -> None:
        async with self.pool(private_postgres.url, 5) as pool:
            backend = self.make(pool=pool, history=history, **QUICK)
            async with proof(backend) as told:
                await asyncio.to_thread(private_postgres.restart)
        self.verify(told, history)

    @extended
    @pytest.mark.parametrize("renewed", ["writer", "reader", "listener"])
    async def test_an_old_primary_is_left_with_all_connections(
        self, make_postgres: Callable[..., PostgresServer], renewed: str
    ) -> None:
        """It lives on while another has its address; each connection ends in its own time."""
        first, second = await self.twins(make_postgres)
        gaps: list[str] = []
        events: list[Event] = []
        async with TcpProxy(first.host, first.port) as proxy:
            backend = self.make(first.url_for(port=proxy.port), history=100, **QUICK)
            async with (
                self.make(second.url, history=100, **QUICK) as elsewhere,
                ChannelsPlugin(backend, channels=["a", "b"], on_gap=gaps.append) as plugin,
            ):
                subscriber = await plugin.subscribe("a")
                subscriber.attach(lambda run: events.extend(run) is None)
                await plugin.wait_published("0", "b")
                await backend.get_history([HistoryRequest("a")])
                writer, reader = pids(backend)
                proxy._network.upstream = (second.host, second.port)
                await send(elsewhere, "a", b"2")
                if renewed == "listener":
                    first.terminate_backends("pid NOT IN (%s, %s)", writer, reader)
                else:
                    pid = writer if renewed == "writer" else reader
                    first.terminate_backends("pid = %s", pid)
                    await until(lambda: pid not in pids(backend), "the end of the connection")
                if renewed == "reader":
                    [record] = await backend.get_history([HistoryRequest("a")])
                    assert record.events == [b"1", b"2"]
                if renewed == "writer":
                    await plugin.wait_published("3", "a")
                await until(lambda: b"2" in events, "what the new one has had")
                if renewed != "writer":
                    await plugin.wait_published("3", "a")
                await send(elsewhere, "a", b"4")
                await until(lambda: b"4" in events, "what comes to the new one")
        assert events == [b"2", b"3", b"4"]
        assert gaps == []

    async def test_a_primary_that_takes_no_writes_is_left(
        self, make_postgres: Callable[..., PostgresServer]
    ) -> None:
        first, second = await self.twins(make_postgres)
        async with (
            TcpProxy(first.host, first.port) as proxy,
            self.make(first.url_for(port=proxy.port), history=100, **QUICK) as backend,
        ):
            await send(backend, "a", b"2")
            first.execute("ALTER SYSTEM SET default_transaction_read_only = on")
            first.execute("SELECT pg_reload_conf()")

            async def is_published(wanted: bool) -> bool:
                [outcome] = await backend.publish([Message("a", b"3")])
                assert isinstance(outcome, Position | BackendUnavailable), outcome
                return isinstance(outcome, Position) == wanted

            await eventually(lambda: is_published(False), "that it is read-only")
            proxy._network.upstream = (second.host, second.port)
            await eventually(lambda: is_published(True), "that the other one is met")
            assert second.execute("SELECT top FROM channels.channel") == [(2,)]

    async def test_connections_are_cut(self, postgres_space: PostgresSpace, history: int) -> None:
        async with self.proxy(postgres_space) as (proxy, url):
            backend = self.make(url, history=history, **QUICK)
            async with proof(backend) as told:
                proxy.cut()
        self.verify(told, history)

    async def test_network_swallows_everything(
        self, postgres_space: PostgresSpace, history: int
    ) -> None:
        async with self.proxy(postgres_space) as (proxy, url):
            listening = self.make(url, history=history, **QUICK)
            direct = self.make(postgres_space.url, history=history, **QUICK)
            async with proof(listening, direct) as told:
                proxy.stall()
                await asyncio.sleep(1.0)  # the outage; noticed within 0.6 s
                proxy.resume()
        self.verify(told, history)

    async def test_server_freezes(self, private_postgres: PostgresServer, history: int) -> None:
        backend = self.make(private_postgres.url, history=history, **QUICK)
        async with proof(backend) as told:
            private_postgres.freeze()
            await asyncio.sleep(1.2)
            private_postgres.thaw()
        self.verify(told, history)

    async def test_frozen_connection_is_noticed_within_the_bound(
        self, postgres_space: PostgresSpace
    ) -> None:
        async with (
            self.proxy(postgres_space) as (proxy, url),
            self.make(url, **QUICK) as backend,
            tapped(backend, "a") as tap,
        ):
            loop = asyncio.get_running_loop()
            proxy.stall()
            start = loop.time()
            assert isinstance(await tap.failed(2), BackendUnavailable)
            assert loop.time() - start < 2 * QUICK["heartbeat"] + 0.3
            proxy.resume()

    async def test_reply_that_is_swallowed_is_in_doubt(self, postgres_space: PostgresSpace) -> None:
        async with (
            self.proxy(postgres_space) as (proxy, url),
            self.make(postgres_space.url, history=10, **QUICK) as direct,
            self.make(url, history=10, **QUICK) as backend,
            tapped(direct, "a") as tap,
        ):
            await send(backend, "a", b"before")
            proxy.swallow_replies()
            [outcome] = await backend.publish([Message("a", b"in doubt")])
            assert isinstance(outcome, PublishUnconfirmed)
            proxy.resume()
            await send(backend, "a", b"after")
            await tap.count(3)
            assert tap.events == [b"before", b"in doubt", b"after"]

    async def test_down_is_said_at_once_and_to_all(self, private_postgres: PostgresServer) -> None:
        async with self.make(private_postgres.url, **QUICK) as backend:
            await send(backend, "a", b"1")
            await asyncio.to_thread(private_postgres.kill)
            calls = [backend.publish([Message("a", b"2")]) for _ in range(50)]
            outcomes = [outcome for each in await asyncio.gather(*calls) for outcome in each]
            assert all(isinstance(one, BackendUnavailable) for one in outcomes), outcomes[0]
            with pytest.raises(BackendUnavailable):
                async with backend.listen():
                    pass
            await asyncio.to_thread(private_postgres.start)
            await send(backend, "a", b"3")

    async def test_publishing_is_refused_while_listening_goes_on(
        self, postgres_space: PostgresSpace, postgres_role: Callable[[str], str]
    ) -> None:
        async with self.make(postgres_space.url, history=10, **QUICK) as owner:
            await send(owner, "a", b"1")
            url = postgres_role(
                "GRANT USAGE ON SCHEMA channels TO {role};"
                "GRANT SELECT ON ALL TABLES IN SCHEMA channels TO {role}"
            )
            options = {**QUICK, "create_schema": False}
            async with (
                self.make(url, history=10, **options) as reader,
                tapped(reader, "a") as tap,
            ):
                [outcome] = await reader.publish([Message("a", b"no")])
                assert isinstance(outcome, BackendRefused), outcome
                assert "permission denied" in str(outcome)
                await send(owner, "a", b"2", b"3" * 20_000)
                assert await tap.count(2) == [b"2", b"3" * 20_000]

    async def test_payload_that_may_not_be_read_is_told(
        self, postgres_space: PostgresSpace, postgres_role: Callable[[str], str]
    ) -> None:
        async with self.make(postgres_space.url, **QUICK) as owner:
            await send(owner, "a", b"0")
            url = postgres_role(
                "GRANT USAGE ON SCHEMA channels TO {role};"
                "GRANT SELECT ON channels.settings TO {role}"
            )
            async with (
                self.make(url, **{**QUICK, "create_schema": False}) as reader,
                tapped(reader, "a", "b") as tap,
            ):
                await send(owner, "a", b"x" * 20_000)
                await send(owner, "b", b"fine")
                await tap.until(lambda: tap.lost and tap.events, "a gap and an event")
                assert (tap.lost, tap.events) == (["a"], [b"fine"])

    async def test_more_arrives_than_is_taken_in(
        self,
        postgres_space: PostgresSpace,
        monkeypatch: pytest.MonkeyPatch,
        caplog: pytest.LogCaptureFixture,
        history: int,
    ) -> None:
        monkeypatch.setattr(_arrivals, "MAX_WAITING", 5_000)
        backend = self.make(postgres_space.url, history=history, **QUICK)
        told: list[Event | Gap] = []
        async with ChannelsPlugin(backend, channels=["a"]) as plugin:
            subscriber = await plugin.subscribe("a", gaps=True)
            payloads = [b"%05d" % n + b"x" * 2_000 for n in range(300)]
            await send(backend, "a", *payloads)
            await until(lambda: "could take in" in caplog.text, "the warning")
            await plugin.wait_published(b"last", "a")
            async for event in subscriber.iter_events():
                told.append(event)
                if event == b"last":
                    break
        events = [event for event in told if not isinstance(event, Gap)]
        if history:
            assert told == [*payloads, b"last"]
        else:
            assert len(events) < len(told)
            assert events == [event for event in [*payloads, b"last"] if event in set(events)]

    async def test_row_that_is_gone_is_told(self, postgres_space: PostgresSpace) -> None:
        async with self.make(postgres_space.url, **QUICK) as backend, tapped(backend, "a") as tap:
            await send(backend, "a", b"x")
            postgres_space.execute("SELECT pg_notify('a', E'\\x01' || '1L - gone')")
            await tap.until(lambda: tap.lost, "the gap")
            assert tap.lost == ["a"]

    async def test_notify_queue_is_full(self, make_postgres: Callable[..., PostgresServer]) -> None:
        server = make_postgres(18, settings={"max_notify_queue_pages": 64})
        async with self.make(server.url, history=10, **QUICK) as backend:
            await send(backend, "a", b"1")
            with server.connect() as idler:
                idler.execute("LISTEN a")
                idler.execute("BEGIN")  # it reads no notification before its end
                outcomes: list[object] = []
                for _ in range(1000):
                    outcomes += await backend.publish([Message("a", b"x" * 4000)] * 10)
                    if isinstance(outcomes[-1], BackendException):
                        break
                assert isinstance(outcomes[-1], BackendUnavailable), outcomes[-1]
                assert "queue" in str(outcomes[-1])
                await backend.publish([Message("a", b"still full")])
            await backend.publish([Message("a", b"may be too early")])
            await send(backend, "a", b"goes on")

    async def test_another_server_with_the_history_copied(
        self, make_postgres: Callable[..., PostgresServer]
    ) -> None:
        """As after a failover to a standby that lacks the last events."""
        server = make_postgres()
        backend = self.make(server.url, history=100, **QUICK)
        async with backend:
            outcomes = await send(backend, "a", *[b"%d" % n for n in range(1, 11)])
            server.execute("UPDATE channels.channel SET top = 7, server = 1")
            server.execute("DELETE FROM channels.event WHERE seq > 7")
            seen, old = position(outcomes[-1]), position(outcomes[3])
            [new] = await send(backend, "a", b"new")
            assert position(new).epoch != seen.epoch
            assert position(new).offset == 8
            beyond, within, top = await backend.get_history(
                [
                    HistoryRequest("a", since=seen),
                    HistoryRequest("a", since=old),
                    HistoryRequest("a", since=position(new)),
                ]
            )
            assert (beyond.events, beyond.complete) == ([b"new"], False)
            assert (within.events, within.complete) == ([b"5", b"6", b"7", b"new"], True)
            assert (top.events, top.complete) == ([], True)

    async def test_epochs_go_on_over_restarts(self, private_postgres: PostgresServer) -> None:
        async with self.make(private_postgres.url, history=100, **QUICK) as backend:
            [first] = await send(backend, "a", b"1")
            for n in range(2, 5):
                await asyncio.to_thread(private_postgres.restart)
                await send(backend, "a", b"%d" % n)
            [history] = await backend.get_history([HistoryRequest("a", since=position(first))])
            assert (history.events, history.complete) == ([b"2", b"3", b"4"], True)

    async def test_epochs_go_on_over_a_crash_that_the_postmaster_survives(
        self, private_postgres: PostgresServer
    ) -> None:
        """What was committed asynchronously is gone then, though the server did not start anew."""
        server = private_postgres
        async with self.make(server.url, history=100, **QUICK) as backend:
            [first] = await send(backend, "a", b"1")
            [(started, victim)] = server.execute(
                "SELECT pg_postmaster_start_time(), pid FROM pg_stat_activity"
                " WHERE backend_type = 'walwriter'"
            )
            os.kill(victim, signal.SIGKILL)

            async def recovered() -> bool:
                try:
                    [(now, pid)] = await asyncio.to_thread(
                        server.execute,
                        "SELECT pg_postmaster_start_time(), pid FROM pg_stat_activity"
                        " WHERE backend_type = 'walwriter'",
                    )
                except Exception:
                    return False
                assert now == started
                return bool(pid != victim)

            await eventually(recovered, "the recovery", 20)
            [second] = await send(backend, "a", b"2")
            assert position(second).epoch != position(first).epoch
            [history] = await backend.get_history([HistoryRequest("a", since=position(first))])
            assert (history.events, history.complete) == ([b"2"], True)

    async def test_another_server_with_the_history_lost(
        self, private_postgres: PostgresServer
    ) -> None:
        gaps: list[str] = []
        backend = self.make(private_postgres.url, history=100, **QUICK)
        async with (
            ChannelsPlugin(backend, channels=["a"], on_gap=gaps.append) as plugin,
            plugin.start_subscription("a") as subscriber,
        ):
            events = subscriber.iter_events()
            await plugin.wait_published("1", "a")
            # The server has it, and may go down before it notifies; whoever saw nothing of a record
            # cannot miss it.
            assert await anext(events) == b"1"
            await asyncio.to_thread(private_postgres.restart, empty=True)
            await until(lambda: gaps, "on_gap", 15)
            assert gaps == ["a"]
            async with asyncio.timeout(10):
                while True:
                    try:
                        await plugin.wait_published("2", "a")
                        break
                    except BackendException:
                        await asyncio.sleep(0.05)
                assert await anext(events) == b"2"
            await events.aclose()

    async def test_shutdown_is_bounded_while_the_server_is_frozen(
        self, private_postgres: PostgresServer
    ) -> None:
        loop = asyncio.get_running_loop()
        backend = self.make(private_postgres.url, **{**QUICK, "timeout": 30.0})
        async with backend, tapped(backend, "a") as tap:
            await send(backend, "a", b"1")
            await tap.count(1)
            private_postgres.freeze()
            publishing = asyncio.create_task(backend.publish([Message("a", b"2")]))
            await asyncio.sleep(0)
            start = loop.time()
        assert loop.time() - start < 3
        [outcome] = await publishing
        assert isinstance(outcome, PublishUnconfirmed), outcome
        private_postgres.thaw()

    async def twins(
        self, make_postgres: Callable[..., PostgresServer]
    ) -> tuple[PostgresServer, PostgresServer]:
        """Two primaries, the second as a standby that was promoted when ``a`` had one event."""
        first, second = make_postgres(), make_postgres()
        async with self.make(first.url, history=100, **QUICK) as backend:
            await send(backend, "a", b"1")
        for server in (first, second):
            await asyncio.to_thread(server.stop)
        second.restore_data(first.save_data())
        for server in (first, second):
            await asyncio.to_thread(server.start)
        return first, second

    @asynccontextmanager
    async def proxy(self, space: PostgresSpace) -> AsyncIterator[tuple[TcpProxy, str]]:
        """Put a network that breaks before the shared server."""
        async with TcpProxy(space.server.host, space.server.port) as proxy:
            yield proxy, space.server.url_for(space.name, port=proxy.port)
