"""Run every session one after the other and sum up at the end; called by ``.ci/run``.

A step runs even if an earlier one failed. A test that was skipped for want of a server counts as
failed, because here every server is to be had.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import threading
import time
import xml.etree.ElementTree as ET
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from tools.packages import ROOT

PYTHONS = ("3.11", "3.12", "3.13")
STEP_LIMIT = 15 * 60
"""Seconds that one step may take."""
TOTAL_LIMIT = 50 * 60
"""Seconds that all of them may take together."""
REPORTS = ROOT / ".nox" / "reports"
TAIL = 40
"""Lines of a failed step's output that the summary repeats."""


@dataclass(frozen=True)
class Counts:
    """What the reports of pytest say."""

    passed: int = 0
    failed: int = 0
    skipped: int = 0
    without_server: tuple[str, ...] = ()

    def __add__(self, other: Counts) -> Counts:
        return Counts(
            self.passed + other.passed,
            self.failed + other.failed,
            self.skipped + other.skipped,
            self.without_server + other.without_server,
        )


@dataclass
class Step:
    """One command and what came of it."""

    name: str
    command: list[str]
    returncode: int | None = None
    seconds: float = 0.0
    tests: Counts = Counts()
    tail: deque[str] = field(default_factory=lambda: deque(maxlen=TAIL))

    @property
    def ok(self) -> bool:
        """Tell whether it ended well, all servers included."""
        return self.returncode == 0 and not self.tests.failed and not self.tests.without_server

    @property
    def result(self) -> str:
        """Say in a word or two how it ended."""
        if self.returncode is None:
            return "not run"
        if self.returncode == 0 and self.tests.without_server:
            return "no server"
        return "passed" if self.ok else "failed"


def read_report(report: Path) -> Counts:
    """Count the tests in one JUnit file."""
    passed = failed = skipped = 0
    without_server = []
    for case in ET.parse(report).iter("testcase"):
        skip = case.find("skipped")
        if case.find("failure") is not None or case.find("error") is not None:
            failed += 1
        elif skip is None:
            passed += 1
        elif skip.get("message", "").startswith("server:"):
            name = f"{case.get('classname')}::{case.get('name')}"
            without_server.append(f"{name} ({skip.get('message')})")
        elif skip.get("type") != "pytest.xfail":
            skipped += 1
    return Counts(passed, failed, skipped, tuple(without_server))


def run(step: Step, limit: float) -> None:
    """Run one step, show its output as it comes, and kill what it started if it takes too long."""
    for old in REPORTS.glob("*.xml"):
        old.unlink()
    started = time.monotonic()
    process = subprocess.Popen(
        step.command,
        cwd=ROOT,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        start_new_session=True,
    )
    # A process that outlives the step may keep the pipe open: nobody waits for its end.
    reader = threading.Thread(target=_show, args=(process, step), daemon=True)
    reader.start()
    try:
        step.returncode = process.wait(limit)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        step.returncode = process.wait()
    reader.join(5)
    step.seconds = time.monotonic() - started
    if step.seconds >= limit:
        step.tail.append(f"killed: it took longer than {limit:.0f} s")
    step.tests = sum(map(read_report, sorted(REPORTS.glob("*.xml"))), Counts())


def _show(process: subprocess.Popen[str], step: Step) -> None:
    assert process.stdout is not None
    for line in process.stdout:
        print(line, end="", flush=True)
        step.tail.append(line.rstrip())


def steps() -> Iterator[Step]:
    """Give README's test command first, then the other Pythons, then all that is not a test."""
    nox = [sys.executable, "-m", "nox", "--no-color"]
    yield Step("tests", [*nox, "-s", "tests"])
    for python in PYTHONS:
        if python != "{}.{}".format(*sys.version_info) and is_there(python):
            yield Step(f"tests, Python {python}", [*nox, "-s", "tests", "-P", python])
    tests = ("extended", "faults", "package_tests", "browser")
    for session in (*tests, "wheels", "lint", "types", "docs"):
        yield Step(session, [*nox, "-s", session])


def is_there(python: str) -> bool:
    """Tell whether an interpreter really runs; a version manager's shim may only look like one."""
    try:
        done = subprocess.run(
            [f"python{python}", "-c", "import sys; print(*sys.version_info[:2], sep='.')"],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return False
    return done.returncode == 0 and done.stdout.strip() == python


def summary(done: list[Step]) -> Iterator[str]:
    """Give the lines of the summary; the last one counts tests and steps that are no tests."""
    for step in done:
        if step.result == "failed":
            yield f"--- the end of {step.name}"
            yield from step.tail
            yield ""
    for step in done:
        for test in step.tests.without_server:
            yield f"no server in {step.name}: {test}"

    yield "step                    result      seconds   tests"
    for step in done:
        counts = step.tests
        shown = f"{counts.passed} passed, {counts.failed} failed, {counts.skipped} skipped"
        shown = re.sub(r", 0 \w+", "", shown) if counts != Counts() else ""
        yield f"{step.name:<22}  {step.result:<10} {step.seconds:>8.1f}   {shown}".rstrip()

    passed = failed = 0
    for step in done:
        missed = step.tests.failed + len(step.tests.without_server)
        passed += step.tests.passed or int(step.ok)
        failed += missed or int(not step.ok)
    yield f"{passed} passed, {failed} failed"


def main() -> None:
    """Run all steps and exit with 1 if any of them failed."""
    deadline = time.monotonic() + TOTAL_LIMIT
    REPORTS.mkdir(parents=True, exist_ok=True)
    done = list(steps())
    for number, step in enumerate(done, 1):
        left = deadline - time.monotonic()
        if left > 0:
            print(f"\n=== {number}/{len(done)} {step.name}", flush=True)
            run(step, min(STEP_LIMIT, left))
    print("\n=== summary")
    print("\n".join(summary(done)), flush=True)
    sys.exit(not all(step.ok for step in done))


if __name__ == "__main__":
    main()
