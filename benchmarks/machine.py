"""The machine: which cores to use, what it is, and what is installed on it."""

from __future__ import annotations

import os
import platform
import re
import resource
import shutil
import subprocess
from collections.abc import Iterable, Mapping, Sequence
from importlib.metadata import distributions
from pathlib import Path

AVAILABLE: Sequence[int] = [
    int(core)
    for core in os.environ.setdefault(
        "BENCHMARKS_CORES", ",".join(map(str, sorted(os.sched_getaffinity(0))))
    ).split(",")
]
"""The cores there are. Told to all processes in turn: one that is pinned sees its own core only."""

CORES: Mapping[str, int] = {"load": min(AVAILABLE), "measured": max(AVAILABLE)}
"""What runs where: the measured process has a core that nothing else of ours uses."""


def pin(role: str, pid: int = 0) -> None:
    """Bind a process, by default this one, to the core of ``role``, and what it starts later."""
    os.sched_setaffinity(pid, {CORES[role]})


def allow_descriptors() -> None:
    """Let this process open as many files as the system allows it, for the sake of sockets."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


def cpu_seconds(*pids: int) -> float:
    """Return the CPU time that processes have used since they began, their threads included."""
    return sum(_nanoseconds(thread) for pid in pids for thread in _threads(pid)) / 1e9


def kernel_seconds(*pids: int) -> float:
    """Return how much of that time they spent in the kernel, to a hundredth of a second."""
    stats = [Path(f"/proc/{pid}/stat").read_text("ascii") for pid in pids]
    ticks = [int(stat.rpartition(")")[2].split()[12]) for stat in stats]
    return sum(ticks) / os.sysconf("SC_CLK_TCK")


def _threads(pid: int) -> Iterable[Path]:
    return Path(f"/proc/{pid}/task").iterdir()


def _nanoseconds(thread: Path) -> int:
    return int((thread / "schedstat").read_text("ascii").split()[0])


def describe() -> dict[str, str]:
    """Say what machine this is; nothing that names it."""
    return {
        "processor": _processor(),
        "cores": str(len(AVAILABLE)),
        "system": f"{platform.system()} {platform.release().split('-')[0]}, {platform.machine()}",
        "python": f"{platform.python_implementation()} {platform.python_version()}",
    }


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text("utf-8").splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.processor() or "unknown"


def versions(packages: Iterable[str], folder: str | None = None) -> dict[str, str]:
    """Return the versions of those distributions that are installed, here or in a folder."""
    found = distributions() if folder is None else distributions(path=[folder])
    installed = {each.name.lower(): each.version for each in found}
    return {name: installed[name] for name in packages if name in installed}


def programs(names: Iterable[str]) -> dict[str, str]:
    """Return the versions of those programs that are installed, as they tell them themselves."""
    found = {}
    for name in names:
        if path := shutil.which(name):
            flag = "-v" if name == "nginx" else "--version"
            ran = subprocess.run([path, flag], capture_output=True, text=True, check=False)
            if number := re.search(r"\d+(\.\d+)+", ran.stdout + ran.stderr):
                found[name] = number.group()
    return found
