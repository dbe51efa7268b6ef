"""WebSocket fan-out: a server on one core, its clients on the other."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import TypeVar

from benchmarks import machine
from benchmarks.runner import broker
from benchmarks.servers.texts import Texts
from benchmarks.subjects.webclients import Clients

NCHAN = Path("/usr/lib/nginx/modules/ngx_nchan_module.so")
WARM_UP = 25
"""Events, or bursts of them, that are not measured."""
BETWEEN_TURNS = 5
"""Events that are not measured when another server had its turn."""
PERCENTILES = (1, 5, *range(10, 100, 10), 95, 99, 99.9)
T = TypeVar("T")


@dataclass
class Server:
    """A server that runs.

    Attributes:
        port: Where clients connect.
        path: To what.
        pids: The processes whose CPU time counts.
        publish: Has so many events published.
    """

    port: int
    path: str
    pids: tuple[int, ...]
    publish: Callable[[int], None]

    def resident_bytes(self) -> int:
        return sum(
            int(Path(f"/proc/{pid}/statm").read_text("ascii").split()[1]) for pid in self.pids
        ) * os.sysconf("SC_PAGE_SIZE")


def fan_out(
    server: str,
    clients: int,
    events: int,
    size: int = 200,
    burst: int = 1,
    ahead: int = 2,
    deflate: bool = False,
    python: str = sys.executable,
) -> dict[str, float]:
    """Publish to clients of a server, so that it has always something to do.

    Args:
        server: Which.
        clients: How many.
        events: How many are measured.
        size: Characters per event.
        burst: How many are published together.
        ahead: How many bursts are under way at the same time.
        deflate: Whether the clients ask for compression.
        python: The interpreter of the server.

    Returns:
        ``us`` of CPU time of the server per delivery, what percent of that was in the ``kernel``,
        deliveries per ``second``, and what percent of their cores the server (``busy``) and the
        clients (``load``) used.
    """
    with connected(server, python, clients, size, deflate) as (served, crowd):
        crowd.flow(WARM_UP * burst * ahead, served.publish, burst, ahead)
        before = clocks(served)
        crowd.flow(events, served.publish, burst, ahead)
        spent, kernel, own, elapsed = (
            now - then for then, now in zip(before, clocks(served), strict=True)
        )
    deliveries = clients * events
    return {
        "us": spent * 1e6 / deliveries,
        "kernel": 100 * kernel / spent,
        "second": deliveries / elapsed,
        "busy": 100 * spent / elapsed,
        "load": 100 * own / elapsed,
    }


def beside(
    server: str,
    other: str,
    clients: int,
    events: int,
    turns: int,
    size: int = 200,
    python: str = sys.executable,
) -> dict[str, float]:
    """Publish to clients of two servers in turn, one event at a time.

    The turns are short: a machine that others use changes its pace by a third within seconds, and
    keeps it for as long as a whole run of one server takes.

    Args:
        server: Which.
        other: The one that it is compared with.
        clients: How many each of them has.
        events: How many are measured in each turn, after some that are not.
        turns: How many each of them has.
        size: Characters per event.
        python: The interpreter of the servers.

    Returns:
        ``ratio`` of the CPU times per delivery: the median of the turns; and what is made of them,
        ``us`` and ``us_other``.
    """
    spent: list[list[float]] = [[], []]
    with ExitStack() as stack:
        sides = [
            stack.enter_context(connected(name, python, clients, size)) for name in (server, other)
        ]
        for served, crowd in sides:
            crowd.flow(WARM_UP, served.publish, 1, 1)
        for turn in range(turns):
            for side in (0, 1) if turn % 2 else (1, 0):
                served, crowd = sides[side]
                crowd.flow(BETWEEN_TURNS, served.publish, 1, 1)
                before = machine.cpu_seconds(*served.pids)
                crowd.flow(events, served.publish, 1, 1)
                spent[side].append(machine.cpu_seconds(*served.pids) - before)
    deliveries = clients * events
    return {
        "ratio": median(mine / others for mine, others in zip(*spent, strict=True)),
        "us": median(spent[0]) * 1e6 / deliveries,
        "us_other": median(spent[1]) * 1e6 / deliveries,
    }


def latency(
    server: str,
    clients: int,
    rate: float,
    seconds: float,
    size: int = 200,
    python: str = sys.executable,
) -> dict[str, float]:
    """Publish to clients of a server at a rate.

    Returns:
        ``us`` of CPU time of the server per delivery, and the milliseconds between the publishing
        and the arrival at a client: ``p1`` for one of 100 deliveries, and so on to ``max``.
    """
    with connected(server, python, clients, size) as (served, crowd):
        crowd.flow(WARM_UP, served.publish, 1, 1)
        before = machine.cpu_seconds(*served.pids)
        events = max(1, round(rate * seconds))
        latencies = crowd.timed(events, served.publish, rate)
        spent = machine.cpu_seconds(*served.pids) - before
    return {"us": spent * 1e6 / (events * clients), **distribution(latencies)}


def distribution(latencies: Sequence[float]) -> dict[str, float]:
    """Return percentiles of seconds as milliseconds."""
    ordered = sorted(latencies)
    last = len(ordered) - 1
    return {
        **{f"p{share:g}": ordered[round(last * share / 100)] * 1e3 for share in PERCENTILES},
        "max": ordered[-1] * 1e3,
    }


def connection(server: str, clients: int, python: str = sys.executable) -> dict[str, float]:
    """Connect clients that then wait.

    Returns:
        The ``bytes`` of the server's memory that each of them takes, after some that are not
        counted.
    """
    machine.allow_descriptors()
    with running(server, python) as served:
        first = Clients(served.port, served.path, max(100, clients // 10))
        before = served.resident_bytes()
        crowd = Clients(served.port, served.path, clients)
        time.sleep(0.2)
        taken = served.resident_bytes() - before
        first.close()
        crowd.close()
    return {"bytes": taken / clients}


def clocks(served: Server) -> tuple[float, float, float, float]:
    """Return the CPU time of the server, that in the kernel, that of this process, and the time."""
    return (
        machine.cpu_seconds(*served.pids),
        machine.kernel_seconds(*served.pids),
        time.process_time(),
        time.perf_counter(),
    )


@contextmanager
def connected(
    server: str, python: str, clients: int, size: int, deflate: bool = False
) -> Iterator[tuple[Server, Clients]]:
    """Start a server, connect its clients, and see that they get what they should."""
    machine.allow_descriptors()
    with running(server, python, size) as served:
        crowd = Clients(served.port, served.path, clients, size, deflate)
        try:
            crowd.first(served.publish)
            yield served, crowd
        finally:
            crowd.close()


@contextmanager
def running(name: str, python: str, size: int = 200) -> Iterator[Server]:
    """Start a server and connect its control port; its texts have so many characters."""
    if name == "nchan":
        with nginx(size) as served:
            yield served
        return
    with ExitStack() as stack:
        environment = dict(os.environ)
        if name == "django_web":
            environment |= stack.enter_context(broker("redis"))
        process = stack.enter_context(
            subprocess.Popen(
                [python, "-m", "benchmarks.servers", name, str(size)],
                env=environment,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
            )
        )
        stack.callback(process.kill)
        assert process.stdout is not None
        line = process.stdout.readline()
        if not line:
            raise RuntimeError(f"{name} did not start")
        address = json.loads(line)
        control = stack.enter_context(
            socket.create_connection(("127.0.0.1", address["control"]), timeout=30)
        )
        control.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        yield Server(
            address["port"],
            address["path"],
            (process.pid,),
            lambda count: control.sendall(bytes([count])),
        )


@contextmanager
def nginx(size: int) -> Iterator[Server]:
    """Run nginx with nchan: one worker, and POST to publish."""
    program = shutil.which("nginx")
    if program is None or not NCHAN.exists():
        raise RuntimeError("nchan is not installed (Debian: nginx-light libnginx-mod-nchan)")
    with tempfile.TemporaryDirectory() as folder, socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
        probe.close()
        config = Path(folder) / "nginx.conf"
        config.write_text(
            f"""\
load_module {NCHAN};
daemon off; worker_processes 1; pid {folder}/pid; error_log stderr crit;
events {{ worker_connections 65000; }}
http {{
    access_log off;
    keepalive_requests 1000000000;
    client_body_temp_path {folder}; proxy_temp_path {folder}; fastcgi_temp_path {folder};
    uwsgi_temp_path {folder}; scgi_temp_path {folder};
    server {{
        listen 127.0.0.1:{port} backlog=2048;
        nchan_channel_id news; nchan_message_buffer_length 100;
        location = /publish {{ nchan_publisher; }}
        location = /news {{ nchan_subscriber websocket; nchan_subscriber_first_message newest; }}
    }}
}}
""",
            "ascii",
        )
        process = subprocess.Popen([program, "-p", folder, "-c", str(config)])
        try:
            control = retry(lambda: socket.create_connection(("127.0.0.1", port)))
            [worker] = retry(lambda: children(process.pid))
            machine.pin("measured", worker)
            texts = Texts(size)
            head = (
                "POST /publish HTTP/1.1\r\nHost: x\r\nContent-Type: text/plain\r\n"
                f"Content-Length: {size}\r\n\r\n"
            )

            def publish(count: int) -> None:
                try:
                    control.recv(1 << 16, socket.MSG_DONTWAIT)
                except BlockingIOError:
                    pass
                control.sendall("".join(head + text for text in texts.take(count)).encode())

            yield Server(port, "/news", (worker,), publish)
            control.close()
        finally:
            process.terminate()
            process.wait()


def children(pid: int) -> list[int]:
    """Return the children of a process."""
    found = Path(f"/proc/{pid}/task/{pid}/children").read_text("ascii").split()
    if not found:
        raise ConnectionError("no worker yet")
    return [int(child) for child in found]


def retry(attempt: Callable[[], T]) -> T:
    """Try until it works, for some seconds."""
    deadline = time.monotonic() + 10
    while True:
        try:
            return attempt()
        except ConnectionError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.02)
