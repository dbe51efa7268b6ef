"""The leak guard, run on tests that leak and on some that do not."""

import os
from pathlib import Path

import pytest

pytest_plugins = ["pytester"]
pytestmark = pytest.mark.extended

LEAKING = """
import asyncio, gc, os, socket, subprocess, sys, threading, time
import pytest

kept = []

async def test_task():
    async def inner():
        await asyncio.Event().wait()
    async def outer():
        await inner()
    kept.append(asyncio.create_task(outer(), name="forgotten"))
    await asyncio.sleep(0)

@pytest.fixture
async def careless():
    kept.append(asyncio.create_task(asyncio.Event().wait(), name="of-fixture"))
    yield

async def test_task_of_a_fixture(careless):
    pass

def test_thread():
    def wait_for_ever():
        threading.Event().wait()
    threading.Thread(target=wait_for_ever, name="idle", daemon=True).start()

def test_socket():
    listener = socket.create_server(("127.0.0.1", 0))
    kept.append(listener)

def test_connection():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        kept.append(socket.create_connection(listener.getsockname()))
        kept.append(listener.accept())

def test_cycle():
    listener = socket.create_server(("127.0.0.1", 0))
    cycle = [listener]
    cycle.append(cycle)

def test_file():
    kept.append(open(os.devnull))

def test_process():
    kept.append(subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE))

def test_zombie():
    child = subprocess.Popen([sys.executable, "-c", ""], stdout=subprocess.PIPE)
    child.stdout.read()
    child.stdout.close()
    kept.append(child)
"""

CLEAN = """
import asyncio, os, socket, subprocess, sys, threading, time
import pytest
import pytest_asyncio
from kit import RedisServer

@pytest.fixture(scope="session")
def wide():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
        done = threading.Event()
        thread = threading.Thread(target=done.wait)
        thread.start()
        yield
        done.set()
        thread.join()
        child.communicate(b"\\n")

@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def wide_task():
    task = asyncio.create_task(asyncio.Event().wait())
    yield
    task.cancel()

@pytest.fixture
async def narrow():
    async with asyncio.TaskGroup() as tasks:
        waiting = tasks.create_task(asyncio.Event().wait())
        yield
        waiting.cancel()

def test_server_of_its_own():
    with RedisServer():
        pass

def test_late_wide_fixture(request):
    request.getfixturevalue("wide")

async def test_beside_wide_fixture(wide, narrow):
    await asyncio.to_thread(time.sleep, 0)

@pytest.mark.asyncio(loop_scope="session")
async def test_in_wide_loop(wide_task):
    pass

async def test_task_about_to_end():
    asyncio.get_running_loop().call_soon(asyncio.create_task, asyncio.sleep(0))

def test_thread_about_to_end():
    threading.Thread(target=time.sleep, args=[0.05]).start()

def test_servers(private_redis, redis_server):
    private_redis.kill()

def test_sync():
    pass
"""

INI = """
[pytest]
asyncio_mode = auto
asyncio_default_fixture_loop_scope = function
filterwarnings = error
"""
OPTIONS = ("-p", "kit.fixtures", "-p", "no:valkey", "-p", "no:randomly", "-p", "no:cacheprovider")


@pytest.fixture
def run(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> pytest.Pytester:
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parent), prepend=os.pathsep)
    pytester.makeini(INI)
    return pytester


def test_what_a_test_leaves_is_found_and_named(run: pytest.Pytester) -> None:
    run.makepyfile(LEAKING)
    result = run.runpytest_subprocess(*OPTIONS)
    result.assert_outcomes(passed=9, errors=9)
    explanations = [
        "*task 'forgotten' of <coroutine object test_task.<locals>.outer*",
        "*in inner*",
        "*await asyncio.Event().wait()*",
        "*task 'of-fixture' of*",
        "*thread 'idle': now at*",
        "*in wait_for_ever*",
        "*file descriptor *: socket of ('127.0.0.1', *) to nobody*",
        "*file descriptor *: socket of ('127.0.0.1', *) to ('127.0.0.1', *)*",
        "*closed by the garbage collector: unclosed <socket.socket*",
        "*file descriptor *: /dev/null*",
        "*process *input()*",
        "*process *: ended, but nobody has waited for it*",
    ]
    for explanation in explanations:
        result.stdout.fnmatch_lines([explanation])


def test_what_is_meant_to_stay_is_not_reported(run: pytest.Pytester) -> None:
    run.makepyfile(CLEAN)
    run.runpytest_subprocess(*OPTIONS).assert_outcomes(passed=8)
