"""What is measured, and what is not."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from kit.economy import pytest_collection_modifyitems
from tools.packages import ROOT

pytestmark = pytest.mark.extended

SUBJECT = """
def first():
    return "measured"

def second():
    return "untraced"

def third():
    return "measured again"

def child():
    return "a program that is to be measured"

def other():
    return "a program of no interest"
"""
TESTS = """
import subprocess, sys
import pytest
import subject
from kit.economy import measured

def run(function, **options):
    subprocess.run([sys.executable, "-c", f"import subject; subject.{function}()"], **options)

def test_1():
    subject.first()

@pytest.mark.untraced
def test_2():
    subject.second()
    pytest.xfail("and what it raises changes nothing")

def test_3():
    subject.third()

def test_4():
    run("child", env=measured(), check=True)
    run("other", check=True)
"""
CONFIGURATION = """
[tool.coverage.run]
parallel = true
source_pkgs = ["subject"]
[tool.pytest.ini_options]
markers = ["untraced"]
"""


@pytest.mark.parametrize("processes", [1, 2])
def test_tests_are_measured_and_programs_on_demand(tmp_path: Path, processes: int) -> None:
    from coverage import CoverageData  # here: the session `faults` goes without

    configuration = tmp_path / "pyproject.toml"
    configuration.write_text(CONFIGURATION)
    (tmp_path / "subject.py").write_text(SUBJECT)
    (tmp_path / "test_subject.py").write_text(TESTS)
    process = f"popen//env:COVERAGE_PROCESS_START={configuration}"
    plugins = ("-p", "kit.economy", "-p", "no:randomly", "-p", "no:valkey")
    split = (f"--tx={processes}*{process}", "--dist=load")
    done = subprocess.run(
        [sys.executable, "-m", "pytest", *plugins, *split],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": f"{ROOT / 'tests'}{os.pathsep}{tmp_path}"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert "3 passed, 1 xfailed" in done.stdout, done.stdout + done.stderr

    lines: set[int] = set()
    for file in tmp_path.glob(".coverage.*"):
        data = CoverageData(str(file))
        data.read()
        lines.update(data.lines(str(tmp_path / "subject.py")) or ())
        data.close()
    ran = {line for line in lines if SUBJECT.splitlines()[line - 1].startswith("    ")}
    defined = {line for line in lines if SUBJECT.splitlines()[line - 1].startswith("def")}
    assert ran == {3, 9, 12}
    assert defined == {2, 5, 8, 11, 14}


@pytest.mark.parametrize("count", [1, 2])
def test_who_waits_for_a_server_is_not_left_until_the_end(
    count: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Item:
        def __init__(self, number: int, *fixtures: str) -> None:
            self.number = number
            self.fixturenames = fixtures

    monkeypatch.setenv("PYTEST_XDIST_WORKER_COUNT", str(count))
    items: list[Any] = [Item(n) for n in range(60)]
    items += [Item(n, "make_redis", "private_redis") for n in range(60, 68)]
    share = len(items) // count
    pytest_collection_modifyitems(items)
    assert sorted(item.number for item in items) == list(range(68))
    last = items[-share:]
    waiting = [index for index, item in enumerate(last) if item.fixturenames]
    assert len(waiting) == 8
    assert waiting[-1] <= share * 3 // 4
