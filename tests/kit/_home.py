"""The run's own directory, and the guardian that empties the place when the run ends."""

import atexit
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from threading import Lock

_MEMORY = "/dev/shm"
_ROOM = 2 * 1024**3


class Home:
    """Own a directory in memory or among the temporary ones, removed with all servers at the end.

    Made at the first use, so a run without servers pays nothing.
    """

    def __init__(self) -> None:
        self._lock = Lock()
        self._guardian: subprocess.Popen[str] | None = None
        self._directory = Path()
        self._count = 0

    @property
    def guardian_pid(self) -> int | None:
        """The guardian's process id, None while there is none."""
        return self._guardian.pid if self._guardian else None

    @property
    def files(self) -> set[int]:
        """The file descriptors it keeps open for the whole run."""
        if self._guardian is None or self._guardian.stdin is None:
            return set()
        return {self._guardian.stdin.fileno()}

    def make_directory(self, name: str) -> Path:
        """Make a new empty directory; ``name`` is only its beginning."""
        with self._lock:
            self._open()
            self._count += 1
            directory = self._directory / f"{name}-{self._count}"
        directory.mkdir()
        return directory

    def watch(self, pid: int) -> None:
        """Have ``pid`` killed when this run ends, however it ends."""
        self._tell(f"+{pid}\n")

    def forget(self, pid: int) -> None:
        """Take back `watch`, as ``pid`` is gone."""
        self._tell(f"-{pid}\n")

    def close(self) -> None:
        """Kill what is watched, remove the directory and wait until that is done."""
        with self._lock:
            guardian, self._guardian = self._guardian, None
        if guardian is not None:
            assert guardian.stdin
            guardian.stdin.close()
            guardian.wait(30)

    def _tell(self, line: str) -> None:
        with self._lock:
            if self._guardian is not None:
                assert self._guardian.stdin
                self._guardian.stdin.write(line)
                self._guardian.stdin.flush()

    def _open(self) -> None:
        if self._guardian is not None:
            return
        self._directory = Path(tempfile.mkdtemp(prefix="channels-kit-", dir=_fastest()))
        self._directory.chmod(0o711)  # PostgreSQL runs as another user when we are root
        script = Path(__file__).with_name("_guardian.py")
        self._guardian = subprocess.Popen(
            [sys.executable, "-S", "-E", "-s", str(script), str(self._directory)],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            text=True,
            cwd="/",
            start_new_session=True,  # Ctrl-C and a hang-up are for the run, not for us
        )
        atexit.register(self.close)


def _fastest() -> str | None:
    """Return the memory file system, if it has room; a PostgreSQL is 30 MB in 1,000 files."""
    try:
        found = os.statvfs(_MEMORY)
    except FileNotFoundError:
        return None
    has_room = found.f_bavail * found.f_frsize >= _ROOM
    return _MEMORY if has_room and not found.f_flag & os.ST_NOEXEC else None


home = Home()
