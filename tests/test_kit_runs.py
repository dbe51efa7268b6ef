"""Whole test runs with the kit: killed ones, ones without servers, failing ones."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from kit import missing, wait_until
from kit._tree import descendants, state

pytest_plugins = ["pytester"]
pytestmark = pytest.mark.extended

OPTIONS = ("-p", "kit.fixtures", "-p", "no:valkey", "-p", "no:randomly", "-p", "no:cacheprovider")
INI = "[pytest]\nasyncio_default_fixture_loop_scope = function\n"


@pytest.fixture
def run(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> pytest.Pytester:
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parent), prepend=os.pathsep)
    for variable in ("REQUIRE_SERVERS", "REQUIRE_DEBIAN", "REDIS", "POSTGRES"):
        monkeypatch.delenv(f"CHANNELS_{variable}", raising=False)
    pytester.makeini(INI)
    return pytester


HOLD_SERVERS = """if 1:
    import signal, sys, time
    from kit import PostgresServer, RedisServer
    from kit._home import home
    from kit._tree import descendants
    # what a shell starts in the background ignores it, and so do its children
    signal.signal(signal.SIGINT, signal.default_int_handler)
    redis, postgres = RedisServer(), PostgresServer()
    redis.start(), postgres.start()
    pids = [redis.pid, postgres.pid, *descendants(postgres.pid), home.guardian_pid]
    if sys.argv[1] == "frozen":
        redis.freeze(), postgres.freeze()
    segment = (postgres.data / "postmaster.pid").read_text().splitlines()[6].split()[1]
    print(redis.directory.parent, segment, *pids, flush=True)
    while True:  # pause() would miss a signal that comes just before it
        time.sleep(0.05)
"""


@pytest.mark.parametrize(
    ("number", "condition"),
    [(signal.SIGKILL, "running"), (signal.SIGKILL, "frozen"), (signal.SIGINT, "running")],
)
def test_a_killed_run_leaves_neither_a_server_nor_a_file(
    number: signal.Signals, condition: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parent), prepend=os.pathsep)
    with subprocess.Popen(
        [sys.executable, "-c", HOLD_SERVERS, condition],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        start_new_session=True,
    ) as process:
        assert process.stdout
        directory, segment, *words = process.stdout.readline().split()
        pids = list(map(int, words))
        assert len(pids) > 5
        assert "" not in map(state, pids)
        os.killpg(process.pid, number)
    wait_until(lambda: {state(pid) for pid in pids} <= {"", "Z"}, "the end of the servers")
    assert not Path(directory).exists()
    memory = subprocess.run(["ipcs", "-m"], capture_output=True, text=True, check=True).stdout
    assert segment not in [line.split()[1] for line in memory.splitlines() if line[:2] == "0x"]


def test_a_run_that_requires_servers_fails_without(
    run: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    run.makeconftest("""
        from kit import _binaries
        _binaries._valkey_wheel = lambda: None
        _binaries._postgres_folder = lambda version: None
        _binaries.shutil.which = lambda *args, **options: None
        """)
    run.makepyfile("""
        from kit import PgBouncer, PostgresServer, RedisServer
        def test_redis(redis_space): pass
        def test_private_redis(private_redis): pass
        def test_postgres(postgres_space): pass
        def test_debian_redis(): RedisServer("redis")
        def test_debian_postgres(): PostgresServer(15)
        def test_debian_pgbouncer(): PgBouncer(None)
        """)
    monkeypatch.setenv("CHANNELS_REQUIRE_SERVERS", "1")
    result = run.runpytest_subprocess(*OPTIONS, "-rs")
    result.assert_outcomes(errors=3, skipped=3)  # Debian's own are another switch's
    result.stdout.fnmatch_lines_random(
        ["*server: no redis-server * (CHANNELS_REQUIRE_SERVERS is set)*", "*server: no pgbouncer*"]
    )


@pytest.mark.parametrize(
    ("switches", "plain", "debian"),
    [
        ({}, "skip", "skip"),
        ({"CHANNELS_REQUIRE_SERVERS": "0"}, "skip", "skip"),
        ({"CHANNELS_REQUIRE_SERVERS": "1"}, "fail", "skip"),
        ({"CHANNELS_REQUIRE_DEBIAN": "1"}, "skip", "fail"),
    ],
    ids=["none", "off", "servers", "debian"],
)
def test_each_switch_turns_its_own_skips_into_failures(
    switches: dict[str, str], plain: str, debian: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for variable in ("CHANNELS_REQUIRE_SERVERS", "CHANNELS_REQUIRE_DEBIAN"):
        monkeypatch.delenv(variable, raising=False)
    for variable, value in switches.items():
        monkeypatch.setenv(variable, value)
    kinds = {"skip": pytest.skip.Exception, "fail": pytest.fail.Exception}
    with pytest.raises(kinds[plain], match=r"^server: no such thing"):
        missing("no such thing")
    with pytest.raises(kinds[debian], match=r"^server: no such thing"):
        missing("no such thing", debian=True)


def test_the_log_of_a_server_is_shown_with_a_failed_test(run: pytest.Pytester) -> None:
    run.makepyfile("def test_failing(private_redis): assert False")
    result = run.runpytest_subprocess(*OPTIONS)
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*log of redis on port*", "*Ready to accept connections*"])


def test_somebody_elses_server_is_used_and_left_as_it_was(run: pytest.Pytester) -> None:
    run.makepyfile("""
        import os, pytest
        from kit import PostgresServer, RedisServer

        @pytest.fixture(scope="session", autouse=True)
        def redis():
            with RedisServer(password="secret") as server:
                os.environ["CHANNELS_REDIS"] = server.url
                server.command("SET", "theirs", 1)
                yield server

        @pytest.fixture(scope="session", autouse=True)
        def postgres():
            with PostgresServer() as server:
                os.environ["CHANNELS_POSTGRES"] = server.url
                yield server

        def test_redis(redis, redis_space):
            assert redis_space.url == redis.url
            redis_space.command("SET", redis_space.key_prefix + "ours", 1)
            assert redis.command("DBSIZE") == 2

        def test_redis_as_it_was(redis):
            assert redis.command("KEYS", "*") == [b"theirs"]

        def test_redis_not_to_be_harmed(redis_space):
            redis_space.server

        def test_redis_of_our_own(redis, private_redis):
            assert private_redis.port != redis.port

        def test_postgres(postgres, postgres_space):
            assert postgres_space.url == postgres.url_for(postgres_space.name)
            postgres_space.execute("CREATE TABLE ours ()")

        def test_postgres_not_to_be_harmed(postgres_space):
            postgres_space.server

        def test_postgres_of_our_own(postgres, private_postgres):
            assert private_postgres.port != postgres.port
        """)
    run.runpytest_subprocess(*OPTIONS).assert_outcomes(passed=5, skipped=2)


def test_the_tree_knows_a_childs_child() -> None:
    script = "import subprocess, sys; subprocess.run([sys.executable, '-c', 'print(1); input()'])"
    with subprocess.Popen(
        [sys.executable, "-uc", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdout
        process.stdout.readline()
        assert len(descendants(process.pid)) == 1
        process.communicate(b"\n")
