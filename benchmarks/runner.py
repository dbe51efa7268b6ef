"""Running the cases of a part in turn: A B A B, each time in a process of its own."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol

from benchmarks import machine, rivals
from benchmarks.model import Case, Part, Sample

ROOT = Path(__file__).resolve().parent.parent
TIMEOUT = 120
"""Seconds that one run of a case may take."""


class Unavailable(Exception):
    """What a case needs is not here."""


class Watcher(Protocol):
    """Whoever wants to know how far a run is."""

    def begins(self, case: str) -> None:
        """Note that a case begins."""
        ...

    def ended(self, case: str, seconds: float) -> None:
        """Note that it has ended, and how long it took."""
        ...


def run(
    part: Part, rounds: int, quick: bool, watcher: Watcher
) -> tuple[list[dict[str, Sample]], dict[str, str]]:
    """Run every case once per round.

    Args:
        part: What to run.
        rounds: How often.
        quick: Whether with the arguments of a quick run.
        watcher: Is told about each case.

    Returns:
        The samples of each round, and why cases have none. A case that failed is not tried again.
    """
    samples: list[dict[str, Sample]] = []
    missing: dict[str, str] = {}
    with broker(part.broker) as environment:
        for number in range(rounds):
            samples.append({})
            for name, case in part.cases.items():
                if case.once and number:
                    continue
                watcher.begins(name)
                started = time.monotonic()
                if name not in missing:
                    try:
                        samples[-1][name] = run_case(case, quick, environment)
                    except Unavailable as exc:
                        missing[name] = str(exc)
                watcher.ended(name, time.monotonic() - started)
    return samples, missing


@contextmanager
def broker(kind: str | None) -> Iterator[dict[str, str]]:
    """Run a private server; gives the environment variable that tells where it is."""
    if kind is None:
        yield {}
        return
    sys.path.append(str(ROOT / "tests"))
    from kit import PostgresServer, RedisServer

    with RedisServer() if kind == "redis" else PostgresServer() as server:
        machine.pin("load", server.pid)
        yield {"BENCHMARKS_BROKER": server.url}


def run_case(case: Case, quick: bool, environment: Mapping[str, str]) -> Sample:
    """Run a case in a process of its own.

    Args:
        case: The case.
        quick: Whether with the arguments of a quick run.
        environment: More environment variables for it.

    Raises:
        Unavailable: It cannot be run, or failed; says why.
    """
    arguments = {**case.arguments, **((quick and case.quick) or {})}
    python = sys.executable
    if case.rival is not None:
        found = rivals.python(case.rival)
        if found is None:
            raise Unavailable(f"{case.rival} is not installed (--install)")
        if case.core == "load":
            arguments["python"] = found
        else:
            python = found
    task = {"function": case.function, "arguments": arguments, "core": case.core}
    process = subprocess.Popen(
        [python, "-m", "benchmarks.worker"],
        cwd=ROOT,
        env={**os.environ, **environment, "PYTHONPATH": str(ROOT)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        answer, errors = process.communicate(json.dumps(task), TIMEOUT)
    except subprocess.TimeoutExpired:
        raise Unavailable(f"took longer than {TIMEOUT} s") from None
    finally:
        _end_group(process)
    if process.returncode:
        raise Unavailable(_last_line(errors) or f"exit status {process.returncode}")
    sample: Sample = json.loads(answer)
    return sample


def _end_group(process: subprocess.Popen[str]) -> None:
    """End what the case started, however it ended."""
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:
        pass
    process.wait()


def _last_line(text: str) -> str:
    return next((line for line in reversed(text.splitlines()) if line.strip()), "")
