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
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median, quantiles
from typing import TypeVar

from benchmarks import machine
from benchmarks.runner import broker
from benchmarks.servers.harness import PAYLOAD
from benchmarks.subjects.webclients import Clients

NCHAN = Path("/usr/lib/nginx/modules/ngx_nchan_module.so")
WARM_UP = 10
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
    burst: int = 1,
    ahead: int = 1,
    pause: float = 0.0,
    python: str = sys.executable,
) -> dict[str, float]:
    """Publish to clients of a server.

    Returns:
        ``us`` of CPU time of the server per delivery, deliveries per ``second``, and the
        milliseconds until half (``p50``) and 99 of 100 (``p99``) of the deliveries have arrived.
    """
    with running(server, python) as served:
        crowd = Clients(served.port, served.path, clients)
        try:
            served.publish(1)
            crowd.check_first(PAYLOAD.encode())
            crowd.receive(WARM_UP * burst * ahead, served.publish, burst, ahead)
            cpu, started = machine.cpu_seconds(*served.pids), time.perf_counter()
            if pause:
                latencies = []
                for _ in range(events):
                    latencies += crowd.receive(1, served.publish, 1, 1)
                    time.sleep(pause)
            else:
                latencies = crowd.receive(events, served.publish, burst, ahead)
            elapsed = time.perf_counter() - started
            spent = machine.cpu_seconds(*served.pids) - cpu
        finally:
            crowd.close()
    deliveries = clients * events
    return {
        "us": spent * 1e6 / deliveries,
        "second": deliveries / elapsed,
        "p50": median(latencies) * 1e3,
        "p99": quantiles(latencies, n=100)[-1] * 1e3,
    }


def connection(server: str, clients: int) -> dict[str, float]:
    """Connect clients that then wait.

    Returns:
        The ``bytes`` of the server's memory that each of them takes, after some that are not
        counted.
    """
    with running(server, sys.executable) as served:
        first = Clients(served.port, served.path, clients // 10)
        before = served.resident_bytes()
        crowd = Clients(served.port, served.path, clients)
        time.sleep(0.2)
        taken = served.resident_bytes() - before
        first.close()
        crowd.close()
    return {"bytes": taken / clients}


@contextmanager
def running(name: str, python: str) -> Iterator[Server]:
    """Start a server and connect its control port."""
    if name == "nchan":
        with nginx() as served:
            yield served
        return
    with ExitStack() as stack:
        environment = dict(os.environ)
        if name == "django_web":
            environment |= stack.enter_context(broker("redis"))
        process = stack.enter_context(
            subprocess.Popen(
                [python, "-m", "benchmarks.servers", name],
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
def nginx() -> Iterator[Server]:
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
            post = (
                f"POST /publish HTTP/1.1\r\nHost: x\r\nContent-Type: text/plain\r\n"
                f"Content-Length: {len(PAYLOAD)}\r\n\r\n{PAYLOAD}".encode()
            )

            def publish(count: int) -> None:
                try:
                    control.recv(1 << 16, socket.MSG_DONTWAIT)
                except BlockingIOError:
                    pass
                control.sendall(post * count)

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
