"""What a server may be like: tables or none, encodings, roles, poolers, versions."""

from __future__ import annotations

import asyncio
import re
import struct
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any

import pytest

from channels.core import (
    BackendRefused,
    BackendUnavailable,
    ChannelsPlugin,
    ConfigurationError,
    HistoryNotSupported,
    HistoryRequest,
    Message,
    NotRunningError,
    load_backend,
)
from channels.core.postgres import Connection, schema_sql
from channels.core.postgres._record import Excess
from kit import PgBouncer
from kit.economy import measured
from kit.fixtures import PostgresSpace
from kit.postgres import PostgresServer
from postgres_suite._maker import Maker, send, tapped, until
from tools.packages import ROOT

LARGE = b"large" * 4_000


TWENTY = """
import asyncio, importlib, os, sys
from channels.core import Message

driver = importlib.import_module(sys.argv[1])
[kind] = [each for name, each in vars(driver).items() if name.endswith("ChannelsBackend")
          and each.__module__ == sys.argv[1]]

async def start():
    async with kind(sys.argv[2], history=5, create_schema=True, timeout=20) as backend:
        [outcome] = await backend.publish([Message("a", b"1")])
        if isinstance(outcome, Exception):
            raise outcome

gate, opener = os.pipe()
children = []
for _ in range(20):
    if not (child := os.fork()):
        os.close(opener)
        os.read(gate, 1)  # until all are there
        asyncio.run(start())
        os._exit(0)
    children.append(child)
os.close(opener)
sys.exit(max(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children))
"""


@asynccontextmanager
async def speaking(asks: bool, code: str, says: str) -> AsyncIterator[int]:
    """A server that turns everybody down, before or after it asked for the password."""

    async def read(reader: asyncio.StreamReader) -> bytes:
        return await reader.readexactly(int.from_bytes(await reader.readexactly(4), "big") - 4)

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while (await read(reader))[:2] != b"\0\3":  # protocol 3: no TLS, no GSSAPI
                writer.write(b"N")
            if asks:
                writer.write(b"R" + struct.pack("!ii", 8, 3))  # in clear text
                assert await reader.readexactly(1) == b"p"
                assert await read(reader) == b"secret\0"
            fields = {"S": "ВАЖНО", "V": "FATAL", "C": code, "M": says}
            body = b"".join(f"{key}{value}\0".encode() for key, value in fields.items()) + b"\0"
            writer.write(b"E" + struct.pack("!i", 4 + len(body)) + body)
            await writer.drain()
        finally:
            writer.close()
            await writer.wait_closed()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        yield server.sockets[0].getsockname()[1]


def connections(space: PostgresSpace) -> int:
    """Count the clients of the database."""
    [(count,)] = space.execute(
        "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()"
        " AND backend_type = 'client backend' AND pid <> pg_backend_pid()"
    )
    return count


class ServerSuite(Maker):
    """Each way to start is either right or refused with a sentence that says what to do."""

    async def test_live_needs_no_tables(self, postgres_space: PostgresSpace) -> None:
        """But for what NOTIFY cannot carry, which fails alone."""
        async with self.make(postgres_space.url) as backend, tapped(backend, "a") as tap:
            outcomes = await backend.publish(
                [Message("a", b"1"), Message("a", LARGE), Message("a", b"2")]
            )
            assert isinstance(outcomes[1], BackendRefused)
            assert "create_schema=True" in str(outcomes[1])
            assert [outcomes[0], outcomes[2]] == [None, None]
            assert await tap.count(2) == [b"1", b"2"]
            connection: Any
            async with (
                self.connection(postgres_space.url) as connection,
                connection.transaction(),
            ):
                await backend.publish_in(connection, b"3", "a")
            assert await tap.count(3) == [b"1", b"2", b"3"]
        assert postgres_space.execute("SELECT to_regnamespace('channels')") == [(None,)]

    async def test_live_touches_no_table(self, postgres_space: PostgresSpace) -> None:
        async with self.make(postgres_space.url, create_schema=True) as backend:
            await send(backend, "a", *[b"small"] * 10)
            tables = postgres_space.execute(
                "SELECT (SELECT count(*) FROM channels.spill)"
                " + (SELECT count(*) FROM channels.event)"
                " + (SELECT count(*) FROM channels.channel)"
                " + (SELECT count(*) FROM channels.outbox)"
            )
            assert tables == [(0,)]
            await send(backend, "a", LARGE)
            assert postgres_space.execute("SELECT count(*) FROM channels.spill") == [(1,)]

    async def test_documented_trigger(self, postgres_space: PostgresSpace) -> None:
        page = (ROOT / "docs" / "backends" / "postgres.rst").read_text("utf-8")
        block = re.search(r"code-block:: postgresql\n\n((?: {3}.*\n|\n)+)", page)
        assert block is not None
        postgres_space.execute("CREATE TABLE orders (id int, item text)")
        postgres_space.execute(block[1])
        async with self.make(postgres_space.url) as backend, tapped(backend, "orders") as tap:
            postgres_space.execute("INSERT INTO orders VALUES (1, 'tea')")
            assert await tap.count(1) == [b'{"id": 1, "item": "tea"}']

    async def test_history_without_tables_is_refused(self, postgres_space: PostgresSpace) -> None:
        async with self.make(postgres_space.url, history=5) as backend:
            with pytest.raises(BackendRefused, match="create_schema=True"):
                async with backend.listen():
                    pass
            [outcome] = await backend.publish([Message("a", b"1")])
            assert isinstance(outcome, BackendRefused)
            with pytest.raises(BackendRefused, match=r"python -m channels\.core\.postgres"):
                await backend.get_history([HistoryRequest("a")])

    async def test_tables_by_the_printed_sql(self, postgres_space: PostgresSpace) -> None:
        command = (sys.executable, "-m", "channels.core.postgres", "--schema", "App_Events")
        process = await asyncio.create_subprocess_exec(
            *command, stdout=subprocess.PIPE, env=measured()
        )
        printed = (await process.communicate())[0].decode()
        for _ in range(2):  # running it again changes nothing
            postgres_space.execute(printed)
        backend = self.make(postgres_space.url, history=5, schema="App_Events")
        async with backend, tapped(backend, "a") as tap:
            await send(backend, "a", b"1", LARGE)
            assert await tap.count(2) == [b"1", LARGE]
        assert postgres_space.execute('SELECT top FROM "App_Events".channel') == [(2,)]

    async def test_20_processes_start_at_once(self, postgres_space: PostgresSpace) -> None:
        command = (sys.executable, "-c", TWENTY, type(self.make("postgresql://")).__module__)
        process = await asyncio.create_subprocess_exec(
            *command, postgres_space.url, stderr=subprocess.PIPE
        )
        _, complaints = await process.communicate()
        assert (process.returncode, complaints.decode()) == (0, "")
        assert postgres_space.execute("SELECT top FROM channels.channel") == [(20,)]

    @pytest.mark.untraced
    async def test_20_lives_leave_nothing(self, postgres_space: PostgresSpace) -> None:
        backend = self.make(postgres_space.url, history=5, create_schema=True)
        plugin = ChannelsPlugin(backend, channels=["a"])
        for number in range(20):
            async with plugin, plugin.start_subscription("a") as subscriber:
                await plugin.wait_published(str(number), "a")
                await plugin.wait_published(LARGE, "a")
                assert await anext(subscriber.iter_events()) == b"%d" % number
            assert asyncio.all_tasks() == {asyncio.current_task()}
        await until(lambda: connections(postgres_space) == 0, "all connections closed")
        async with backend:  # what no life had the time to trim, the next one does
            await send(backend, "a", b"last")
            await until(
                lambda: postgres_space.execute("SELECT count(*) FROM channels.event") == [(5,)],
                "only what is kept",
            )
        counts = "SELECT (SELECT count(*) FROM channels.channel), count(*) FROM channels.spill"
        assert postgres_space.execute(counts) == [(1, 0)]

    async def test_reading_is_over_when_the_backend_closes(
        self, postgres_space: PostgresSpace
    ) -> None:
        """Who waits for the connection then does not open another."""
        async with self.make(postgres_space.url, history=5, create_schema=True) as backend:
            await send(backend, "a", b"1")
            reads = [
                asyncio.create_task(backend.get_history([HistoryRequest("a")])) for _ in range(9)
            ]
            await reads[0]
        outcomes = await asyncio.gather(*reads, return_exceptions=True)
        assert all(
            isinstance(outcome, list | BackendUnavailable | NotRunningError) for outcome in outcomes
        ), outcomes
        await until(lambda: connections(postgres_space) == 0, "all connections closed")

    async def test_live_tables_become_tables_for_history(
        self, postgres_space: PostgresSpace
    ) -> None:
        async with self.make(postgres_space.url, create_schema=True) as live:
            await send(live, "a", b"1")
        async with self.make(postgres_space.url, history=5) as backend:
            [outcome] = await backend.publish([Message("a", b"2")])
            assert isinstance(outcome, BackendRefused)
            assert "without history" in str(outcome)
        async with self.make(postgres_space.url, history=5, create_schema=True) as backend:
            await send(backend, "a", b"3")

    async def test_tables_of_another_version_are_refused(
        self, postgres_space: PostgresSpace
    ) -> None:
        postgres_space.execute(schema_sql())
        postgres_space.execute("UPDATE channels.settings SET version = 99")
        async with self.make(postgres_space.url, history=5, create_schema=True) as backend:
            with pytest.raises(BackendRefused, match="version 99"):
                async with backend.listen():
                    pass

    async def test_notify_must_agree(self, postgres_space: PostgresSpace) -> None:
        postgres_space.execute(schema_sql())
        async with self.make(postgres_space.url, history=5, notify=False) as backend:
            with pytest.raises(BackendRefused, match="all must agree"):
                async with backend.listen():
                    pass

    async def test_without_notify(self, postgres_space: PostgresSpace) -> None:
        options = {"history": 50, "create_schema": True, "notify": False, "poll_interval": 0.02}
        async with (
            self.make(postgres_space.url, **options) as backend,
            tapped(backend, "a", "b") as tap,
        ):
            await send(backend, "a", b"1", LARGE)
            connection: Any
            async with (
                self.connection(postgres_space.url) as connection,
                connection.transaction(),
            ):
                await backend.publish_in(connection, b"3", "a")
            assert await tap.count(3) == [b"1", LARGE, b"3"]
            assert postgres_space.execute("SELECT pg_notification_queue_usage()") == [(0,)]
            postgres_space.server.terminate_backends("datname = %s", postgres_space.name)
            assert isinstance(await tap.failed(), BackendUnavailable)

    @pytest.mark.parametrize("history", [0, 50])
    async def test_role_with_least_privileges(
        self,
        postgres_space: PostgresSpace,
        postgres_role: Callable[[str], str],
        history: int,
    ) -> None:
        url = postgres_role("SELECT")
        role = url.partition("//")[2].partition(":")[0]
        postgres_space.execute(schema_sql(history=history > 0, grant_to=role))
        async with self.make(url, history=history) as backend, tapped(backend, "a") as tap:
            await send(backend, "a", b"1", LARGE)
            connection: Any
            async with self.connection(url) as connection, connection.transaction():
                await backend.publish_in(connection, LARGE, "a")
            assert await tap.count(3) == [b"1", LARGE, LARGE]
            if history:
                [record] = await backend.get_history([HistoryRequest("a")])
                assert len(record.events) == 3
            session = backend._session
            assert session is not None
            async with session.reader.connection() as own:
                assert await backend._record.oldest(own, ["a"]) == ({"a": 1} if history else {})
                assert await backend._record.trim(own, [Excess("a", 0, 3)])
                assert not await backend._record.sweep(own)
            if history:  # and none of it is gone
                [record] = await backend.get_history([HistoryRequest("a")])
                assert len(record.events) == 3

    async def test_wrong_password_and_database_are_refused(
        self, postgres_space: PostgresSpace
    ) -> None:
        server = postgres_space.server
        server.create_role(f"{postgres_space.name}_someone")
        for url in (
            server.url_for(
                postgres_space.name, user=f"{postgres_space.name}_someone", password="no"
            ),
            server.url_for(postgres_space.name, user="nobody_known", password="no"),
            server.url_for("no_such_database"),
        ):
            async with self.make(url) as backend:
                with pytest.raises(BackendRefused):
                    async with backend.listen():
                        pass
                [outcome] = await backend.publish([Message("a", b"1")])
                assert isinstance(outcome, BackendRefused), outcome
        server.execute(f'DROP ROLE "{postgres_space.name}_someone"')

    @pytest.mark.parametrize(
        ("asks", "code", "says", "error"),
        [
            (True, "28P01", "password authentication failed for user", BackendRefused),
            (True, "28P01", "пользователь не прошёл проверку подлинности", BackendRefused),
            (True, "3D000", "La base de données « x » n'existe pas", BackendRefused),
            (False, "3D000", 'database "x" does not exist', BackendRefused),
            (False, "57P03", "система баз данных запускается", BackendUnavailable),
            (False, "57P03", "das Datenbanksystem startet", BackendUnavailable),
            (
                False,
                "57P03",
                "the database system is not yet accepting connections",
                BackendUnavailable,
            ),
            (False, "53300", "tut mir leid, schon zu viele Verbindungen", BackendUnavailable),
            (True, "53300", "remaining connection slots are reserved", BackendUnavailable),
        ],
    )
    async def test_what_a_server_says_in_its_language(
        self, asks: bool, code: str, says: str, error: type[Exception]
    ) -> None:
        """A password refused is for good; a server that starts is waited for."""
        async with (
            speaking(asks, code, says) as port,
            self.make(f"postgresql://me:secret@127.0.0.1:{port}/x") as backend,
        ):
            with pytest.raises(error, match=re.escape(says)):
                async with backend.listen():
                    pass
            [outcome] = await backend.publish([Message("a", b"1")])
            assert type(outcome) is error

    async def test_too_many_connections_is_transient(
        self, make_postgres: Callable[..., PostgresServer]
    ) -> None:
        server = make_postgres(settings={"max_connections": 6, "superuser_reserved_connections": 0})
        with server.connect(), server.connect(), server.connect():
            async with self.make(server.url) as one, tapped(one, "a"):
                await send(one, "a", b"1")
                async with self.make(server.url) as other, tapped(other, "a"):
                    [outcome] = await other.publish([Message("a", b"1")])
                    assert isinstance(outcome, BackendUnavailable), outcome

    async def test_database_in_latin1(self, postgres_server: PostgresServer) -> None:
        url = postgres_server.create_database(
            f"latin1_{self.sqlalchemy_url[11:]}", encoding="LATIN1"
        )
        names = ["plain", "straße", "новости", "x" * 100, "👩"]
        try:
            for history in (0, 50):
                backend = self.make(url, history=history, create_schema=True)
                async with backend, tapped(backend, *names) as tap:
                    for name in names:
                        await send(backend, name, name.encode(), LARGE)
                    await tap.count(10)
                    assert [(e.channel, bytes(e)) for e in tap.events if e != LARGE] == [
                        (name, name.encode()) for name in names
                    ]
                    connection: Any
                    async with (
                        self.connection(url) as connection,
                        connection.transaction(),
                    ):
                        await backend.publish_in(connection, "ß я", names)
                    await tap.count(15)
                    assert {e.channel for e in tap.events[10:]} == set(names)
                    assert set(tap.events[10:]) == {"ß я".encode()}
        finally:
            postgres_server.drop_database(url.rpartition("/")[2])

    async def test_names_in_sql_and_python_are_the_same(
        self, postgres_space: PostgresSpace
    ) -> None:
        from channels.core.postgres._frame import notify_name

        postgres_space.execute(schema_sql())
        for name in ("a", "é" * 31, "é" * 32, "x" * 63, "x" * 64, "日本" * 30, 'it\'s "q"'):
            [(listened,)] = postgres_space.execute("SELECT channels.notify_name(%s)", name.encode())
            assert listened == notify_name(name, utf8=True)

    async def test_pgbouncer_in_transaction_mode_is_named(
        self, postgres_server: PostgresServer
    ) -> None:
        with PgBouncer(postgres_server, "transaction") as bouncer:
            async with self.make(bouncer.url, timeout=1.0) as backend:
                with pytest.raises(BackendRefused, match="pgbouncer"):
                    async with backend.listen():
                        pass

    async def test_pgbouncer_in_session_mode_is_fine(self, postgres_server: PostgresServer) -> None:
        with PgBouncer(postgres_server, "session") as bouncer:
            async with self.make(bouncer.url) as backend, tapped(backend, "a") as tap:
                await send(backend, "a", b"1")
                assert await tap.count(1) == [b"1"]

    @pytest.mark.extended
    @pytest.mark.parametrize("version", [16, 18])
    async def test_newer_servers(
        self, make_postgres: Callable[..., PostgresServer], version: int
    ) -> None:
        server = make_postgres(version)
        for history in (0, 20):
            backend = self.make(server.url, history=history, create_schema=True)
            async with backend, tapped(backend, "a") as tap:
                await send(backend, "a", b"1", LARGE)
                connection: Any
                async with (
                    self.connection(server.url) as connection,
                    connection.transaction(),
                ):
                    await backend.publish_in(connection, b"3", "a")
                assert await tap.count(3) == [b"1", LARGE, b"3"]
                if history:
                    [record] = await backend.get_history([HistoryRequest("a")])
                    assert record.events == [b"1", LARGE, b"3"]

    async def test_pool_and_listener_apart(self, postgres_space: PostgresSpace) -> None:
        """With a pool and a DSN only listening is outside of the pool."""
        async with self.pool(postgres_space.url, 2) as pool:
            options = {"pool": pool, "history": 10, "create_schema": True}
            async with (
                self.make(postgres_space.url, **options) as backend,
                tapped(backend, "a") as tap,
            ):
                calls = [send(backend, "a", b"%d" % n) for n in range(300)]
                await asyncio.gather(*calls)
                await tap.count(300)
                [(n,)] = postgres_space.execute(
                    "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()"
                    " AND pid <> pg_backend_pid()"
                )
                assert n == 2  # one to listen on, one of the pool

    async def test_urls_carry_options(self, postgres_space: PostgresSpace) -> None:
        url = postgres_space.url.replace("postgresql", self.sqlalchemy_url, 1)
        backend = load_backend(
            f"{url}?history=7&create_schema=true&heartbeat=2.5&application_name=mine"
        )
        assert isinstance(backend, type(self.make(postgres_space.url)))
        assert backend.keeps_history
        async with backend, tapped(backend, "a") as tap:
            await send(backend, "a", b"1")
            await tap.count(1)
            names = postgres_space.execute(
                "SELECT DISTINCT application_name FROM pg_stat_activity"
                " WHERE datname = current_database() AND pid <> pg_backend_pid()"
            )
            assert names == [("mine",)]

    @pytest.mark.parametrize(
        "options",
        [
            {"history": -1},
            {"notify": False},
            {"heartbeat": 0},
            {"heartbeat": 61},
            {"timeout": 0},
            {"schema": "a-b"},
            {"schema": ""},
        ],
        ids=str,
    )
    def test_bad_options(self, options: dict[str, Any]) -> None:
        with pytest.raises(ConfigurationError):
            self.make("postgresql://localhost/x", **options)

    def test_no_way_to_connect(self) -> None:
        with pytest.raises(ConfigurationError, match="pass dsn"):
            self.make()

    async def test_use_before_start(self, postgres_space: PostgresSpace) -> None:
        backend = self.make(postgres_space.url)
        with pytest.raises(NotRunningError, match="async with"):
            await backend.publish([Message("a", b"1")])
        async with backend:
            with pytest.raises(HistoryNotSupported):
                await backend.get_history([HistoryRequest("a")])

    async def test_rolling_upgrade_drops_what_it_cannot_read(
        self, postgres_space: PostgresSpace, caplog: pytest.LogCaptureFixture
    ) -> None:
        async with self.make(postgres_space.url) as backend, tapped(backend, "a") as tap:
            for frame in (
                "\x012e - 1 eA==",
                "\x01",
                "\x011l",
                "\x011z - 1 eA==",
                "\x011r - no eA==",
            ):
                postgres_space.execute("SELECT pg_notify('a', %s)", frame)
            await send(backend, "a", b"fine")
            assert await tap.count(1) == [b"fine"]
            await until(lambda: backend.unknown_frames == 5, "the count")
            assert len(caplog.records) == 1

    async def test_sweeping(self, postgres_space: PostgresSpace) -> None:
        """Old payloads, silent channels and what trimming has not seen go away."""
        async with self.make(postgres_space.url, history=3, create_schema=True) as backend:
            await send(backend, "old", *[b"x"] * 5)
            await send(backend, "new", *[b"x"] * 5)
            postgres_space.execute(
                "UPDATE channels.channel SET published_at = now() - interval '8 days'"
                " WHERE name = 'old'"
            )
            postgres_space.execute(
                "INSERT INTO channels.spill VALUES ('1', 'x', now() - interval '11 minutes'),"
                " ('2', 'x', now())"
            )
            session = backend._session
            assert session is not None
            async with session.reader.connection() as connection:
                await backend._record.sweep(connection)
            assert postgres_space.execute("SELECT name FROM channels.channel") == [(b"new",)]
            assert postgres_space.execute("SELECT seq FROM channels.event ORDER BY 1") == [
                (3,),
                (4,),
                (5,),
            ]
            assert postgres_space.execute("SELECT id FROM channels.spill") == [("2",)]

    async def test_trimming(self, postgres_space: PostgresSpace) -> None:
        async with self.make(postgres_space.url, history=3, create_schema=True) as backend:
            await send(backend, "a", *[b"%d" % n for n in range(50)])
            [record] = await backend.get_history([HistoryRequest("a")])
            assert record.events == [b"47", b"48", b"49"]
            await until(
                lambda: postgres_space.execute("SELECT count(*) FROM channels.event") == [(3,)],
                "only what is kept",
            )

    async def test_trimming_of_many_in_portions(self, postgres_space: PostgresSpace) -> None:
        """What is deleted at once is bounded by the events, not by the channels."""
        async with self.make(postgres_space.url, history=3, create_schema=True) as backend:
            await send(backend, "long", *[b"x"] * 5_003)
            names = [f"channel {n}" for n in range(1_500)]  # more than are looked up at once
            messages = [Message(name, b"%d" % n) for name in names for n in range(4)]
            assert len(await backend.publish(messages)) == 6_000
            await until(
                lambda: (
                    postgres_space.execute(
                        "SELECT min(top - seq), max(top - seq), count(*) FROM channels.event"
                        " JOIN channels.channel ON channel = id"
                    )
                    == [(0, 2, 1_501 * 3)]
                ),
                "only what is kept",
            )

    async def test_trimming_waits_its_turn(
        self, postgres_space: PostgresSpace, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """While another process trims or sweeps it does nothing, and tries again."""
        async with (
            self.make(postgres_space.url, history=3, create_schema=True) as backend,
            self.connection(postgres_space.url) as other,
        ):
            trim = backend._record.trim
            turns: list[bool] = []

            async def noting(connection: Connection, portion: Sequence[Excess]) -> bool:
                turns.append(await trim(connection, portion))
                return turns[-1]

            monkeypatch.setattr(backend._record, "trim", noting)
            async with other.transaction():
                await other.execute(
                    "SELECT pg_advisory_xact_lock(hashtextextended('\"channels\".sweep', 0))"
                )
                await send(backend, "a", *[b"x"] * 9)
                await until(lambda: turns, "a try")
                assert not any(turns)
                assert postgres_space.execute("SELECT count(*) FROM channels.event") == [(9,)]
            await until(
                lambda: postgres_space.execute("SELECT count(*) FROM channels.event") == [(3,)],
                "only what is kept",
            )

    async def test_trimming_a_record_that_began_again(self, postgres_space: PostgresSpace) -> None:
        """Where it was trimmed to before says nothing of it."""
        async with self.make(postgres_space.url, history=3, create_schema=True) as backend:
            session = backend._session
            assert session is not None
            await send(backend, "a", *[b"x"] * 50)
            await until(lambda: session.keeper._trimmed, "trimmed")
            assert session.keeper._trimmed["a"].offset == 47
            postgres_space.execute("DELETE FROM channels.event; DELETE FROM channels.channel")
            await send(backend, "a", *[b"y"] * 9)
            async with session.reader.connection() as own:
                assert await backend._record.trim(own, [Excess("a", 0, 47)])
            assert postgres_space.execute("SELECT min(seq) FROM channels.event") == [(7,)]
            await send(backend, "a", *[b"y"] * 9)
            await until(
                lambda: postgres_space.execute("SELECT count(*) FROM channels.event") == [(3,)],
                "only what is kept",
            )

    async def test_50_first_subscriptions(self, postgres_space: PostgresSpace) -> None:
        backend = self.make(postgres_space.url, history=3, create_schema=True)
        async with ChannelsPlugin(backend, arbitrary_channels_allowed=True) as plugin:
            loop = asyncio.get_running_loop()
            start = loop.time()
            subscribers = await asyncio.gather(*[plugin.subscribe(f"c{n}") for n in range(50)])
            assert loop.time() - start < 0.5
            await asyncio.gather(*map(plugin.unsubscribe, subscribers))

    async def test_10000_subscriptions(self, postgres_space: PostgresSpace) -> None:
        async with (
            self.make(postgres_space.url, history=3, create_schema=True) as backend,
            tapped(backend) as tap,
        ):
            names = [f"channel {n}" for n in range(10_000)]
            await tap.listener.subscribe(names)
            await send(backend, "channel 9999", b"1")
            assert await tap.count(1) == [b"1"]
            await tap.listener.unsubscribe(names)
