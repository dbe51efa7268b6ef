"""Outlive a test run that was killed, and end what it left behind.

Run as a script by `kit._home`, with nothing but the standard library. Standard input is a
pipe from the test run: ``+PID`` names a server, ``-PID`` one that is gone. When the pipe
closes, however the run ended, every server still named is killed with all its children
(frozen ones too), and their shared memory and the run's directory are removed.

``PR_SET_PDEATHSIG`` is not enough: it fires when the *thread* that started the server ends,
it needs a ``preexec_fn``, which Python 3.12 warns about in a process with threads, and the
frozen children of a killed postmaster survive it.
"""

import os
import shutil
import signal
import sys
from contextlib import suppress
from pathlib import Path

from _shm import remove_shared_memory  # type: ignore[import-not-found]  # a script's siblings
from _tree import descendants  # type: ignore[import-not-found]


def kill_tree(pid: int) -> None:
    with suppress(ProcessLookupError):
        os.kill(pid, signal.SIGSTOP)  # so that it cannot fork while we look
        for victim in [pid, *descendants(pid)]:
            with suppress(ProcessLookupError):
                os.kill(victim, signal.SIGKILL)


def main(directory: str) -> None:
    servers: dict[int, None] = {}
    for line in sys.stdin:
        pid = int(line[1:])
        if line[0] == "+":
            servers[pid] = None
        else:
            servers.pop(pid, None)
    for pid in servers:
        kill_tree(pid)
    for data in Path(directory).glob("postgres-*/data"):
        remove_shared_memory(data)
    shutil.rmtree(directory, ignore_errors=True)


if __name__ == "__main__":
    main(sys.argv[1])
