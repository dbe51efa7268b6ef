"""Look at the process table: who descends from a process, and what state it is in."""

import subprocess
from pathlib import Path

PROC = Path("/proc")


def _parents() -> dict[int, int]:
    """Return the parent of every process."""
    if not (PROC / "self/stat").exists():
        listing = subprocess.run(["ps", "-A", "-o", "pid=,ppid="], capture_output=True, check=True)
        rows = (line.split() for line in listing.stdout.splitlines())
        return {int(pid): int(parent) for pid, parent in rows}
    parents: dict[int, int] = {}
    for entry in PROC.iterdir():
        if entry.name.isdigit() and (fields := _stat(int(entry.name))):
            parents[int(entry.name)] = int(fields[1])
    return parents


def _stat(pid: int) -> list[str]:
    """Return the fields of ``/proc/PID/stat`` from the state on, or nothing."""
    try:
        text = (PROC / str(pid) / "stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return []
    return text.rpartition(")")[2].split()


def state(pid: int) -> str:
    """Return the letter `ps` shows (``T`` stopped, ``Z`` zombie), or "" for no such process."""
    if (PROC / "self/stat").exists():
        fields = _stat(pid)
        return fields[0] if fields else ""
    listing = subprocess.run(
        ["ps", "-o", "state=", "-p", str(pid)], capture_output=True, text=True, check=False
    )
    return listing.stdout.strip()[:1]


def descendants(pid: int) -> list[int]:
    """Return the ids of all children of ``pid``, their children included."""
    parents = _parents()
    found = [pid]
    for ancestor in found:
        found += [child for child, parent in parents.items() if parent == ancestor]
    return found[1:]
