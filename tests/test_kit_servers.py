"""What every private server promises, shown by Redis and PostgreSQL."""

import asyncio
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import psycopg
import pytest

from kit import Port, PostgresServer, RedisServer, Server, ServerFailed, eventually, wait_until
from kit._binaries import postgres_programs
from kit._tree import descendants, state

pytestmark = pytest.mark.extended


class Store:
    """A server and how to keep a value in it."""

    def __init__(self, server: RedisServer | PostgresServer) -> None:
        self.server = server

    def set(self, value: str) -> None:
        if isinstance(self.server, RedisServer):
            self.server.command("SET", "value", value)
        else:
            self.server.execute("CREATE TABLE IF NOT EXISTS store (value text)")
            self.server.execute("DELETE FROM store")
            self.server.execute("INSERT INTO store VALUES (%s)", value)

    def get(self) -> str | None:
        if isinstance(self.server, RedisServer):
            reply = self.server.command("GET", "value")
            assert reply is None or isinstance(reply, bytes)
            return reply.decode() if reply is not None else None
        if self.server.execute("SELECT to_regclass('store')") == [(None,)]:
            return None
        return str(self.server.execute("SELECT value FROM store")[0][0])

    @contextmanager
    def connection(self) -> Iterator[socket.socket]:
        """Connect and ask something that is answered at once."""
        with socket.create_connection((self.server.host, self.server.port), timeout=5) as client:
            yield client

    def ask(self, client: socket.socket) -> None:
        if isinstance(self.server, RedisServer):
            client.sendall(b"PING\r\n")
        else:
            client.sendall(b"\0\0\0\x08\x04\xd2\x16\x2f")  # SSLRequest, answered with one letter


@pytest.fixture(params=["redis", "postgres"])
def store(request: pytest.FixtureRequest) -> Store:
    return Store(request.getfixturevalue(f"private_{request.param}"))


@pytest.fixture(params=[RedisServer, PostgresServer])
def kind(request: pytest.FixtureRequest) -> Callable[[], Server]:
    kind: Callable[[], Server] = request.param
    return kind


def shared_memory(data: Path) -> str:
    """Return the id of the shared memory of the PostgreSQL that runs on ``data``."""
    return (data / "postmaster.pid").read_text().splitlines()[6].split()[1]


def all_shared_memory() -> list[str]:
    listing = subprocess.run(["ipcs", "-m"], capture_output=True, text=True, check=True).stdout
    return [line.split()[1] for line in listing.splitlines() if line.startswith("0x")]


def test_a_killed_server_is_gone_and_comes_back_with_its_data(store: Store) -> None:
    port, pid = store.server.port, store.server.pid
    store.set("a")
    store.server.kill()
    assert not store.server.is_running
    assert state(pid) == ""
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection((store.server.host, port))
    store.server.start()
    assert (store.server.port, store.get()) == (port, "a")


def test_a_server_restarts_empty_on_the_same_port(store: Store) -> None:
    port, pid = store.server.port, store.server.pid
    store.set("a")
    store.server.restart(empty=True)
    assert store.get() is None
    assert store.server.port == port
    assert store.server.pid != pid


def test_a_server_restarts_with_its_data(store: Store) -> None:
    store.set("a")
    store.server.restart()
    assert store.get() == "a"


def test_a_server_that_is_stopped_in_order_keeps_its_data(store: Store) -> None:
    store.set("a")
    store.server.stop()
    assert not store.server.is_running
    store.server.start()
    assert store.get() == "a"


def test_a_frozen_server_keeps_connections_and_answers_when_thawed(store: Store) -> None:
    with store.connection() as open_before:
        store.server.freeze()
        assert {state(pid) for pid in (store.server.pid, *descendants(store.server.pid))} == {"T"}
        with store.connection() as client:  # the kernel accepts for it
            store.ask(client)
            client.settimeout(0.05)
            with pytest.raises(TimeoutError):
                client.recv(1)
            store.server.thaw()
            client.settimeout(5)
            assert client.recv(1)
        store.ask(open_before)
        assert open_before.recv(1)


@pytest.mark.parametrize("end", ["kill", "stop", "close"])
def test_a_frozen_server_can_be_ended(store: Store, end: str) -> None:
    pids = [store.server.pid, *descendants(store.server.pid)]
    store.server.freeze()
    getattr(store.server, end)()
    wait_until(lambda: {state(pid) for pid in pids} <= {"", "Z"}, "the end of all its processes")


def test_saved_data_can_be_put_back(store: Store) -> None:
    store.set("old")
    store.server.stop()
    saved = store.server.save_data()
    store.server.start()
    store.set("new")
    store.server.kill()
    store.server.restore_data(saved)
    store.server.start()
    assert store.get() == "old"


def test_a_server_may_be_started_by_a_thread_that_ends(kind: Callable[[], Server]) -> None:
    with closing(kind()) as server:
        thread = threading.Thread(target=server.start)
        thread.start()
        thread.join()
        assert server.is_running


async def test_a_server_can_be_started_beside_the_loop(kind: Callable[[], Server]) -> None:
    with closing(kind()) as server:
        rounds = 0

        def has_started() -> bool:
            nonlocal rounds
            rounds += 1
            return starting.done()

        starting = asyncio.create_task(asyncio.to_thread(server.start))
        await eventually(has_started, "the server", 20)
        await starting
        assert rounds > 1


def test_a_failed_start_shows_the_log(kind: Callable[[], Server]) -> None:
    with socket.socket() as squatter, closing(kind()) as server:
        squatter.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as servers do
        squatter.bind((server.host, server.port))
        squatter.listen()
        with pytest.raises(ServerFailed, match=r"ended at once(.|\n)*[Aa]ddress already in use"):
            server.start()
        assert not server.is_running
        squatter.close()
        server.start()


def test_a_closed_server_leaves_nothing(kind: Callable[[], Server]) -> None:
    with closing(kind()) as server:
        server.start()
        directory = server.directory
        assert directory.exists()
    assert not directory.exists()


@pytest.mark.parametrize("then", ["close", "wipe"])
def test_a_killed_postgres_leaves_no_shared_memory(then: str) -> None:
    with closing(PostgresServer()) as server:
        server.start()
        segment = shared_memory(server.data)
        assert segment in all_shared_memory()
        server.kill()
        getattr(server, then)()
        assert segment not in all_shared_memory()


def test_misuse_is_refused(private_redis: RedisServer) -> None:
    with pytest.raises(ServerFailed, match="was started already"):
        private_redis.start()
    with pytest.raises(ServerFailed, match="is running on that data"):
        private_redis.wipe()
    private_redis.kill()
    private_redis.kill()
    with pytest.raises(ServerFailed, match="is not running"):
        private_redis.freeze()


def test_a_port_is_claimed_once_and_lies_below_the_ephemeral_range() -> None:
    ports = [Port.claim() for _ in range(50)]
    try:
        numbers = {port.number for port in ports}
        assert len(numbers) == 50
        assert all(15000 <= number <= 25000 for number in numbers)
        with (
            socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as other,
            pytest.raises(OSError, match="in use"),
        ):
            other.bind(("127.0.0.1", ports[0].number))
    finally:
        for port in ports:
            port.release()


def test_processes_that_claim_ports_at_the_same_time_get_different_ones(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parent), prepend=os.pathsep)
    script = """if 1:
        import random
        random.SystemRandom = lambda: random.Random(1)  # all of them begin at the same port
        from kit import Port
        ports = [Port.claim() for _ in range(20)]
        print(*[port.number for port in ports], flush=True)
        input()"""
    runs = [
        subprocess.Popen(
            [sys.executable, "-c", script],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for _ in range(3)
    ]
    try:
        ports: list[str] = []
        for run in runs:
            assert run.stdout
            ports += run.stdout.readline().split()
        assert len(ports) == len(set(ports)) == 60
    finally:
        for run in runs:
            run.communicate("\n")


@pytest.mark.parametrize("version", [15, 16, 18])
def test_every_version_of_postgres(
    version: int, make_postgres: Callable[..., PostgresServer]
) -> None:
    server = make_postgres(version)
    [(number,)] = server.execute("SELECT current_setting('server_version_num')::int / 10000")
    assert number == version


@pytest.mark.skipif(os.geteuid() != 0, reason="only root has to run it as somebody else")
def test_programs_that_the_other_user_cannot_reach_are_copied(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    programs = postgres_programs(18)
    site = tmp_path / "site"
    site.mkdir(mode=0o700)
    for folder in (programs.parents[1], programs.parents[2] / f"{programs.parents[1].name}.libs"):
        (site / folder.name).symlink_to(folder)
    hidden = site / programs.relative_to(programs.parents[2])
    monkeypatch.setattr("kit.postgres.postgres_programs", lambda _: hidden)
    with PostgresServer(18) as server:
        assert server.execute("SELECT 1") == [(1,)]


@pytest.mark.parametrize("flavour", ["redis", "valkey"])
def test_every_flavour_of_redis(flavour: str, make_redis: Callable[..., RedisServer]) -> None:
    assert make_redis(flavour).info().get("server_name", "redis") == flavour


def test_a_start_waits_for_the_last_backends_of_a_killed_postmaster(
    private_postgres: PostgresServer,
) -> None:
    with psycopg.connect(private_postgres.url) as connection:
        children = descendants(private_postgres.pid)
        private_postgres.freeze()
        private_postgres.kill_postmaster()
        starting = threading.Thread(target=private_postgres.start)
        starting.start()
        try:
            wait_until(lambda: "is still in use" in private_postgres.log(), "a failing start", 20)
            assert starting.is_alive()
        finally:
            for pid in children:
                os.kill(pid, signal.SIGCONT)
            starting.join()
        assert private_postgres.execute("SELECT 1") == [(1,)]
        with pytest.raises(psycopg.OperationalError):
            connection.execute("SELECT 1")


def test_an_immediate_stop_cuts_clients_off_and_keeps_what_was_committed(
    private_postgres: PostgresServer,
) -> None:
    private_postgres.execute("CREATE TABLE kept ()")
    with psycopg.connect(private_postgres.url) as connection:
        private_postgres.stop_immediately()
        with pytest.raises(psycopg.OperationalError):
            connection.execute("SELECT 1")
    private_postgres.start()
    assert private_postgres.execute("SELECT * FROM kept") == []


def test_only_the_matching_backends_are_terminated(private_postgres: PostgresServer) -> None:
    with (
        psycopg.connect(private_postgres.url, application_name="a") as first,
        psycopg.connect(private_postgres.url, application_name="b") as second,
    ):
        assert private_postgres.terminate_backends("application_name = %s", "a") == 1
        with pytest.raises(psycopg.OperationalError):
            first.execute("SELECT 1")
        second.execute("SELECT 1")
