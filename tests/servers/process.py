"""An application served by a real server, in a process of its own."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

import httpx
import pytest

from kit import Port
from tools.packages import ROOT

PYTHON = [sys.executable, "-W", "ignore", "-m"]
COMMANDS = {
    "uvicorn-websockets": [*PYTHON, "uvicorn", "--ws", "websockets", "--port"],
    "uvicorn-sansio": [*PYTHON, "uvicorn", "--ws", "websockets-sansio", "--port"],
    "uvicorn-wsproto": [*PYTHON, "uvicorn", "--ws", "wsproto", "--port"],
    "uvicorn-shared": [*PYTHON, "uvicorn", "--ws", "channels.uvicorn:SansIOProtocol", "--port"],
    "uvicorn-wsproto-shared": [
        *PYTHON,
        "uvicorn",
        "--ws",
        "channels.uvicorn.wsproto:WSProtoProtocol",
        "--port",
    ],
    "hypercorn": [*PYTHON, "hypercorn", "--workers", "0", "--graceful-timeout", "5", "--bind"],
    "granian": [*PYTHON, "granian", "--interface", "asgi", "--port"],
}


def on_servers(*usual: str) -> list[object]:
    """Return parameters for all servers; those that are not ``usual`` are for the extended run."""
    extended = pytest.mark.extended
    return [name if name in usual else pytest.param(name, marks=extended) for name in COMMANDS]


@dataclass
class Served:
    """A running server."""

    port: int
    process: asyncio.subprocess.Process

    @property
    def http(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def ws(self) -> str:
        return f"ws://127.0.0.1:{self.port}"

    def terminate(self) -> None:
        self.process.send_signal(signal.SIGTERM)

    async def ended(self, seconds: float = 10) -> int:
        async with asyncio.timeout(seconds):
            return await self.process.wait()


@asynccontextmanager
async def serving(server: str, app: str, **environment: str) -> AsyncIterator[Served]:
    """Serve ``app`` until the end, when the process is killed if it still runs."""
    port = Port.claim()
    address = f"127.0.0.1:{port.number}" if server == "hypercorn" else str(port.number)
    process = await asyncio.create_subprocess_exec(
        *COMMANDS[server],
        address,
        app,
        cwd=ROOT,
        env=environment or None,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        start_new_session=True,
    )
    assert process.stdout is not None
    output = bytearray()
    reader = asyncio.create_task(_read(process.stdout, output))
    served = Served(port.number, process)
    try:
        await _answers(served, output)
        yield served
    except BaseException:
        sys.stderr.write(output.decode(errors="replace"))
        raise
    finally:
        with contextlib.suppress(ProcessLookupError):  # the whole group: it may have workers
            os.killpg(process.pid, signal.SIGKILL)
        await process.wait()
        await reader
        port.release()


async def _read(stream: asyncio.StreamReader, output: bytearray) -> None:
    while data := await stream.read(65536):
        output += data


async def _answers(served: Served, output: bytearray) -> None:
    async with asyncio.timeout(15), httpx.AsyncClient(trust_env=False) as client:
        while True:
            assert served.process.returncode is None, output.decode(errors="replace")
            with contextlib.suppress(httpx.TransportError):
                await client.get(f"{served.http}/nothing-here")
                return
            await asyncio.sleep(0.02)
