"""A pytest plugin: no test leaves a task, a thread, an open file or socket, or a process.

What fixtures of a wider scope than one test open is theirs, and so is what the kit keeps for the
whole run. A test costs 0.1 ms; only one that seems to leave something is looked at closely.
"""

import asyncio
import gc
import logging.handlers
import os
import socket
import sys
import threading
import time
import traceback
import warnings
from collections.abc import AsyncIterator, Generator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import pytest

from kit._home import home
from kit._wait import INTERVAL

GRACE = 1.0  # seconds for a thread that was told to end
LOOP_ROUNDS = 10  # rounds of the event loop for tasks that are about to end

_baseline = pytest.StashKey["Belongings"]()


@dataclass(frozen=True)
class Belongings:
    """What the process has open at one moment."""

    files: frozenset[int] = frozenset()
    children: frozenset[int] = frozenset()
    threads: frozenset[threading.Thread] = field(default_factory=frozenset)

    @classmethod
    def now(cls) -> Self:
        """Look."""
        return cls(
            _open_files() - home.files,
            _children() - {home.guardian_pid},
            frozenset(thread for thread in threading.enumerate() if not _is_anothers(thread)),
        )

    def __add__(self, other: "Belongings") -> "Belongings":
        return Belongings(
            self.files | other.files,
            self.children | other.children,
            self.threads | other.threads,
        )

    def __sub__(self, other: "Belongings") -> "Belongings":
        return Belongings(
            self.files - other.files,
            self.children - other.children,
            self.threads - other.threads,
        )

    def __bool__(self) -> bool:
        return bool(self.files or self.children or self.threads)

    def explain(self) -> str:
        """Say what it is, a line or more for each."""
        return "\n".join(
            (
                *(f"file descriptor {file}: {_describe_file(file)}" for file in self.files),
                *(f"process {pid}: {_describe_process(pid)}" for pid in self.children),
                *(f"thread {t.name!r}: {_describe_thread(t)}" for t in self.threads),
            )
        )


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> Generator[None, None, None]:
    """Note what is there before the test's fixtures."""
    item.stash[_baseline] = Belongings.now()
    return (yield)


@pytest.hookimpl(wrapper=True)
def pytest_fixture_setup(
    fixturedef: pytest.FixtureDef[Any], request: pytest.FixtureRequest
) -> Generator[None, object, object]:
    """Add to the baseline what a fixture opens that outlives the test."""
    if fixturedef.scope == "function":
        return (yield)
    before = Belongings.now()
    result = yield
    opened = Belongings.now() - before
    item = request._pyfuncitem  # the test on whose account the fixture is set up
    if _baseline in item.stash:
        item.stash[_baseline] += opened
    return result


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_teardown(item: pytest.Item) -> Generator[None, None, None]:
    """Fail the test if more is there after its fixtures than before."""
    yield
    before = item.stash[_baseline]
    left = Belongings.now() - before
    if not left:
        return
    unclosed = _collect_garbage()
    deadline = time.monotonic() + GRACE
    while (left := Belongings.now() - before).threads and time.monotonic() < deadline:
        time.sleep(INTERVAL)  # a thread may be about to end, and to close what it used
    if explanation := "\n".join(filter(None, (*unclosed, left.explain()))):
        pytest.fail(f"the test left something behind:\n{explanation}", pytrace=False)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Have asyncio tests looked at from inside their loop."""
    for item in items:
        if isinstance(item, pytest.Function) and item.get_closest_marker("asyncio"):
            item.fixturenames.insert(0, no_task_left.__name__)


@pytest.fixture
async def no_task_left() -> AsyncIterator[None]:
    """Fail an asyncio test after which a task is not done; asyncio tests have it by themselves."""
    before = asyncio.all_tasks()
    yield
    mine = {asyncio.current_task(), *before}
    for _ in range(LOOP_ROUNDS):
        if not (left := asyncio.all_tasks() - mine):
            return
        await asyncio.sleep(0)
    lines = "\n".join(map(_describe_task, left))
    pytest.fail(f"the test left tasks running:\n{lines}", pytrace=False)


def _collect_garbage() -> list[str]:
    """Collect it and return what was closed by nothing but that.

    Recorded here, such a warning is this test's and not an error of whichever comes next.
    """
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", ResourceWarning)
        gc.collect()
    return [f"closed by the garbage collector: {warning.message}" for warning in caught]


def _is_anothers(thread: threading.Thread) -> bool:
    if thread.name.startswith("pytest_timeout"):
        return True
    # Litestar's logging writes from a thread of its own, which lives as long as the process.
    target = getattr(thread, "_target", None)
    return isinstance(getattr(target, "__self__", None), logging.handlers.QueueListener)


def _open_files() -> frozenset[int]:
    listed = [int(path.name) for path in Path("/dev/fd").iterdir()]
    return frozenset(filter(_is_open, listed))  # all but the one that listed them


def _is_open(file: int) -> bool:
    try:
        os.fstat(file)
    except OSError:
        return False
    return True


def _children() -> frozenset[int]:
    """Return our child processes, also those that ended and nobody has waited for."""
    pids: set[int] = set()
    with suppress(FileNotFoundError):  # not Linux
        for task in Path("/proc/self/task").iterdir():
            with suppress(FileNotFoundError):  # a thread that has just ended
                pids.update(map(int, (task / "children").read_text().split()))
    return frozenset(pids)


def _describe_file(file: int) -> str:
    try:
        target = str(Path(f"/dev/fd/{file}").readlink())
        if not target.startswith("socket:"):
            return target
        with socket.socket(fileno=os.dup(file)) as duplicate:
            peer: object = "nobody"
            with suppress(OSError):
                peer = duplicate.getpeername()
            return f"socket of {duplicate.getsockname()} to {peer}"
    except OSError:
        return "already closed"


def _describe_process(pid: int) -> str:
    with suppress(OSError):
        command = Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode()
        return command or "ended, but nobody has waited for it"
    return "already gone"


def _describe_thread(thread: threading.Thread) -> str:
    frame = sys._current_frames().get(thread.ident or 0)
    return "".join(["now at\n", *traceback.format_stack(frame)]) if frame else "about to end"


def _describe_task(task: asyncio.Task[Any]) -> str:
    where = "".join(traceback.format_list(_stack(task)))
    made = getattr(task, "_source_traceback", None)  # kept in asyncio's debug mode only
    origin = f"  created at\n{''.join(traceback.format_list(made[-3:]))}" if made else ""
    return f"task {task.get_name()!r} of {task.get_coro()!r}, waiting at\n{where}{origin}"


def _stack(task: asyncio.Task[Any]) -> list[traceback.FrameSummary]:
    """Return where a task waits, through the coroutines that it awaits."""
    frames: list[traceback.FrameSummary] = []
    awaited: object = task.get_coro()
    while (frame := getattr(awaited, "cr_frame", getattr(awaited, "ag_frame", None))) is not None:
        frames += traceback.extract_stack(frame, limit=1)
        awaited = getattr(awaited, "cr_await", getattr(awaited, "ag_await", None))
    return frames
