"""What is written here works elsewhere: commands, snippets, and no trace of one machine."""

import ast
import os
import re
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path

import pytest

from tools.packages import ROOT

SETUP = 'python3 -m venv .venv && .venv/bin/pip install "nox[uv]"'
HOSTS = re.compile(
    r"pypi\.org|pythonhosted\.org|npmjs\.(org|com)|yarnpkg\.com|jsdelivr\.net|unpkg\.com"
    r"|deb\.debian\.org|anaconda\.org|docker\.io"
)
MACHINE = re.compile(r"(?<![\w.~$}/])/(root|work|opt|home|Users|mnt)/\w")


def committed_files() -> list[Path]:
    """List what git keeps, and what it would keep if it were added now."""
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(command, cwd=ROOT, capture_output=True, check=True, text=True).stdout
    files = (ROOT / name for name in listed.split("\0") if name)
    return [file for file in files if file.is_file()]


def texts() -> Iterator[tuple[str, str]]:
    """Give the name and content of every text file."""
    for file in committed_files():
        content = file.read_bytes()
        if b"\0" not in content:
            yield str(file.relative_to(ROOT)), content.decode("utf-8")


@pytest.mark.parametrize("pattern", [HOSTS, MACHINE], ids=["registry hosts", "absolute paths"])
def test_nothing_names_one_machine_or_registry(pattern: re.Pattern[str]) -> None:
    found = [f"{name}: {match[0]}" for name, text in texts() if (match := pattern.search(text))]
    assert found == []


def test_the_commands_are_the_same_everywhere() -> None:
    readme = (ROOT / "README.md").read_text("utf-8")
    assert f"{SETUP} && .venv/bin/nox -s demo\n" in readme
    assert f"{SETUP} && .venv/bin/nox -s tests\n" in readme
    assert f"{SETUP} && .venv/bin/nox -s tests\n" in (ROOT / "CONTRIBUTING.md").read_text("utf-8")
    assert f"\n{SETUP}\n" in (ROOT / ".ci" / "run").read_text("utf-8")


def readme_snippets() -> Iterator[tuple[str, str]]:
    """Give the Python blocks of every README."""
    for file in (ROOT / "README.md", *sorted(ROOT.glob("packages/*/README.md"))):
        blocks = re.findall(r"(?ms)^```python\n(.*?)^```$", file.read_text("utf-8"))
        for number, block in enumerate(blocks, 1):
            yield f"{file.relative_to(ROOT)} {number}", block


SNIPPETS = dict(readme_snippets())


@pytest.mark.parametrize("name", SNIPPETS)
def test_a_readme_snippet_runs_as_it_stands(name: str) -> None:
    command = [sys.executable, "-W", "error", "-c", SNIPPETS[name]]
    environment = {**os.environ, "PYTHONPATH": ""}
    done = subprocess.run(
        command, env=environment, capture_output=True, check=False, text=True, timeout=20
    )
    assert (done.returncode, done.stderr) == (0, "")


def documented_code() -> Iterator[tuple[str, str]]:
    """Give the Python blocks of the documentation."""
    options, body = r"(?:\1 +:.*\n)*", r"((?:\1 +.*\n|\n)+)"
    directive = re.compile(rf"(?m)^( *)\.\. code-block:: python\n{options}\n{body}")
    for file in sorted(ROOT.glob("docs/**/*.rst")):
        for number, match in enumerate(directive.finditer(file.read_text("utf-8")), 1):
            yield f"{file.relative_to(ROOT)} {number}", textwrap.dedent(match[2])


DOCUMENTED = dict(documented_code())


@pytest.mark.parametrize("name", DOCUMENTED)
def test_documented_code_compiles(name: str) -> None:
    compile(DOCUMENTED[name], name, "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)


def test_the_files_behind_the_promises_exist() -> None:
    text = (ROOT / "docs" / "promises.rst").read_text("utf-8")
    files = [f"/{file.relative_to(ROOT)}" for file in committed_files()]
    named = re.findall(r"``([\w/.-]+\.py)``", text)
    assert named
    assert [name for name in named if not any(file.endswith(f"/{name}") for file in files)] == []
