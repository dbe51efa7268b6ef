"""A third party's backend, installed as its users would where nothing else of ours is."""

import os
import shutil
import subprocess
import venv
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[4]
EXAMPLE = ROOT / "examples" / "third_party_backend"


def run(*command: str | Path, cwd: Path) -> str:
    environment = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("PYTEST_", "COV", "PYTHON")) and name != "VIRTUAL_ENV"
    }
    done = subprocess.run(
        command, cwd=cwd, env=environment, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, f"{command}:\n{done.stdout[-4000:]}\n{done.stderr[-4000:]}"
    return done.stdout


@pytest.mark.timeout(240)
@pytest.mark.parametrize(
    "suites",
    [
        pytest.param("not Outages", id="contract", marks=pytest.mark.extended),
        pytest.param("Outages", id="outages", marks=pytest.mark.faults),
    ],
)
def test_installing_is_all_that_is_needed_and_its_suites_pass(tmp_path: Path, suites: str) -> None:
    place = tmp_path / "venv"
    uv = shutil.which("uv")
    venv.create(place, with_pip=uv is None)
    python = place / "bin" / "python"
    # Copies, so that nothing is written into the working tree and nothing of it is imported.
    for source, name in ((ROOT / "packages" / "channels-core", "core"), (EXAMPLE, "example")):
        shutil.copytree(source, tmp_path / name, ignore=shutil.ignore_patterns("tests", ".*"))
    install = [uv, "pip", "install", "--python", python] if uv else [python, "-m", "pip", "install"]
    run(*install, f"{tmp_path / 'core'}[testing]", tmp_path / "example", cwd=tmp_path)

    script = "from channels.core import load_backend; print(type(load_backend('sqlite:///x.db')))"
    shown = run(python, "-I", "-c", script, cwd=tmp_path)
    assert shown.strip() == "<class 'example_channels_sqlite.SQLiteChannelsBackend'>"

    suite = tmp_path / "suite"
    suite.mkdir()
    shutil.copy(EXAMPLE / "test_example_channels_sqlite.py", suite)
    # No configuration of ours: pytest as it is, and pytest-asyncio in its default mode.
    shown = run(python, "-m", "pytest", "-q", "-k", suites, cwd=suite)
    assert " passed" in shown.splitlines()[-1]
    assert "skipped" not in shown
