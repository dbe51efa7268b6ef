"""Environments for rivals that must not share one with us: Django's ``channels`` is another one."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import venv
from collections.abc import Iterable, Mapping
from pathlib import Path

from benchmarks import machine

FOLDER = Path(__file__).resolve().parent.parent / ".nox" / "bench-rivals"

RIVALS: Mapping[str, tuple[str, ...]] = {
    "broadcaster": ("broadcaster[redis]>=0.3", "uvicorn[standard]>=0.35", "starlette"),
    "channels_redis": ("channels>=4.2", "channels-redis>=4.3", "uvicorn[standard]>=0.35"),
    "socketio": ("python-socketio>=5.11", "uvicorn[standard]>=0.35"),
}
"""What is installed for each rival. Those that are not here share our environment."""


def python(rival: str) -> str | None:
    """Return the interpreter of a rival's environment, if it was installed."""
    path = FOLDER / rival / "bin" / "python"
    return str(path) if path.exists() else None


def versions(rival: str) -> dict[str, str]:
    """Return the versions of what was asked for in a rival's environment."""
    names = [re.split(r"[\[<>=]", requirement)[0] for requirement in RIVALS[rival]]
    folders = FOLDER.glob(f"{rival}/lib/python*/site-packages")
    return {
        name: version
        for folder in folders
        for name, version in machine.versions(names, str(folder)).items()
    }


def install(names: Iterable[str]) -> None:
    """Make the environments of rivals, where they are not there yet."""
    for name in names:
        if python(name) is not None:
            continue
        folder = FOLDER / name
        uv = shutil.which("uv")
        try:
            if uv is not None:
                _run(uv, "venv", "--quiet", "--python", sys.executable, str(folder))
                interpreter = str(folder / "bin" / "python")
                _run(uv, "pip", "install", "--quiet", "--python", interpreter, *RIVALS[name])
            else:
                venv.create(folder, with_pip=True)
                interpreter = str(folder / "bin" / "python")
                _run(interpreter, "-m", "pip", "install", "--quiet", *RIVALS[name])
        except BaseException:
            shutil.rmtree(folder, ignore_errors=True)
            raise


def _run(*command: str) -> None:
    subprocess.run(command, check=True)
