"""What all private servers share: one process that can be started, killed and frozen."""

import os
import shutil
import signal
import subprocess
import time
from abc import ABC, abstractmethod
from collections.abc import Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import ClassVar, Self
from weakref import WeakSet

from kit._home import home
from kit._ports import Port
from kit._tree import descendants, state
from kit._user import Credentials
from kit._wait import INTERVAL, wait_until

START_TIMEOUT = 20.0
STOP_TIMEOUT = 10.0

_servers: "WeakSet[Server]" = WeakSet()


def copy_tree(source: Path, target: Path) -> None:
    """Copy a folder with owners and modes."""
    subprocess.run(["cp", "-a", source, target], check=True)


class ServerFailed(RuntimeError):
    """A private server did not start or did not stop; the message ends with its log."""


def _has_ended(pid: int) -> bool:
    return state(pid) in ("", "Z")


def running() -> "list[Server]":
    """Return the servers that run now."""
    return sorted((server for server in _servers if server.is_running), key=str)


class Server(ABC):
    """A server process of our own on a loopback port that stays the same for life.

    Methods are plain and short (a start takes 0.05 to 0.5 s) and may be called from any thread;
    an asyncio test that must keep its loop running uses ``await asyncio.to_thread(...)``.
    When a method returns, the thing has happened: a killed server is gone, a frozen one is
    stopped, a started one answers.
    """

    kind: ClassVar[str]
    stop_signal: ClassVar[signal.Signals] = signal.SIGTERM

    def __init__(self) -> None:
        self._port = Port.claim()
        self.port = self._port.number
        self.directory = home.make_directory(self.kind)
        self.data = self.directory / "data"
        self._log = self.directory / "log"
        self._log_start = 0
        self._saves = 0
        _servers.add(self)
        self._process: subprocess.Popen[bytes] | None = None

    @abstractmethod
    def _prepare(self) -> None:
        """Make the data directory, which does not exist."""

    @abstractmethod
    def _command(self) -> Sequence[str | Path]:
        """Return the command that runs the server in the foreground."""

    @abstractmethod
    def _is_ready(self) -> bool:
        """Tell whether the server that was just started answers."""

    def _may_start_again(self) -> bool:
        """Tell whether a start that failed is worth another try."""
        return False

    @property
    def host(self) -> str:
        """The address it listens on."""
        return "127.0.0.1"

    @property
    def pid(self) -> int:
        """The process id of the running server."""
        if self._process is None:
            raise ServerFailed(f"{self} is not running")
        return self._process.pid

    @property
    def is_running(self) -> bool:
        """Whether the process is there; a frozen one is."""
        return self._process is not None and self._process.poll() is None

    def start(self) -> None:
        """Start on the data that is there and wait until it answers.

        Raises:
            ServerFailed: It ended or did not answer within ``START_TIMEOUT``.
        """
        if self._process is not None:
            raise ServerFailed(f"{self} was started already")
        if not self.data.exists():
            self._prepare()
        deadline = time.monotonic() + START_TIMEOUT
        self._spawn()
        while not self._is_ready():
            late = time.monotonic() > deadline
            if not self.is_running and not late and self._may_start_again():
                self._reap()
                self._spawn()
            elif late or not self.is_running:
                self.kill()
                why = f"did not answer within {START_TIMEOUT} s" if late else "ended at once"
                raise ServerFailed(f"{self} {why}; its log:\n{self.log()}")
            time.sleep(INTERVAL)

    def stop(self) -> None:
        """Ask it to end in order, thawing it first, and wait until it has."""
        self._end(self.stop_signal)

    def kill(self) -> None:
        """End it and its children with ``kill -9``, as when the machine loses power."""
        if self._process is None:
            return
        self._signal(signal.SIGSTOP, self.pid)  # so that it cannot fork while we look
        children = descendants(self.pid)
        for pid in (self.pid, *children):
            self._signal(signal.SIGKILL, pid)
        self._reap()
        for pid in children:
            wait_until(partial(_has_ended, pid), f"the end of {pid}")

    def freeze(self) -> None:
        """Stop all of its processes: connections stay open, nothing answers."""
        self._signal(signal.SIGSTOP, self.pid)
        self._wait_stopped(self.pid)
        for pid in descendants(self.pid):
            self._signal(signal.SIGSTOP, pid)
            self._wait_stopped(pid)

    def thaw(self) -> None:
        """Undo `freeze`."""
        for pid in (*descendants(self.pid), self.pid):
            self._signal(signal.SIGCONT, pid)

    def restart(self, *, empty: bool = False) -> None:
        """Kill it and start it on the same port, with the data it had or with none."""
        self.kill()
        if empty:
            self.wipe()
        self.start()

    def wipe(self) -> None:
        """Throw the data of a server that is not running away."""
        self._check_not_running()
        shutil.rmtree(self.data, ignore_errors=True)

    def save_data(self) -> Path:
        """Copy the data of a server that is not running; see `restore_data`."""
        self._check_not_running()
        self._saves += 1
        target = self.directory / f"save-{self._saves}"
        copy_tree(self.data, target)
        return target

    def restore_data(self, saved: Path) -> None:
        """Put back what `save_data` returned, as an operator would a backup."""
        self.wipe()
        copy_tree(saved, self.data)

    def close(self) -> None:
        """End it and forget its data and its port."""
        self.kill()
        self._port.release()
        shutil.rmtree(self.directory, ignore_errors=True)

    @property
    def log_size(self) -> int:
        """How many bytes it has logged in its life."""
        return self._log.stat().st_size if self._log.exists() else 0

    def log(self, lines: int = 60, *, since: int | None = None) -> str:
        """Return the last lines that it logged.

        Args:
            lines: How many at most.
            since: Only what comes after so many bytes, as `log_size` told; by default what
                comes after its last start.
        """
        with self._log.open("rb") as file:
            file.seek(self._log_start if since is None else since)
            text = file.read().decode(errors="replace")
        return "\n".join(text.splitlines()[-lines:])

    def __enter__(self) -> Self:
        try:
            self.start()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def __str__(self) -> str:
        return f"{self.kind} on port {self.port}"

    def _check_not_running(self) -> None:
        if self._process is not None:
            raise ServerFailed(f"{self} is running on that data")

    def _spawn(self) -> None:
        with self._log.open("ab") as log:
            self._log_start = log.tell()
            self._process = subprocess.Popen(
                [str(part) for part in self._command()],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=self.data,
                env={"PATH": os.environ.get("PATH", os.defpath), "LC_ALL": "C"},
                start_new_session=True,
                **self._credentials(),
            )
        home.watch(self._process.pid)

    def _credentials(self) -> Credentials:
        """Return whom it runs as; nothing is whom we run as."""
        return {}

    def _end(self, number: signal.Signals) -> None:
        if self._process is None:
            return
        self.thaw()
        self._process.send_signal(number)
        try:
            self._process.wait(STOP_TIMEOUT)
        except subprocess.TimeoutExpired:
            self.kill()
            raise ServerFailed(
                f"{self} did not end within {STOP_TIMEOUT} s; its log:\n{self.log()}"
            ) from None
        self._reap()

    def _reap(self) -> None:
        assert self._process
        self._process.wait()
        home.forget(self._process.pid)
        self._process = None

    def _wait_stopped(self, pid: int) -> None:
        wait_until(lambda: state(pid) in ("T", "t", "Z", ""), f"{pid} of {self} to be frozen")

    @staticmethod
    def _signal(number: signal.Signals, pid: int) -> None:
        with suppress(ProcessLookupError):
            os.kill(pid, number)
