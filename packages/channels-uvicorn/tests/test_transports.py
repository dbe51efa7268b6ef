"""What is relied on of transports that are written past: see ``_CLOSE_LAST``."""

from __future__ import annotations

import asyncio
import os
import socket
import struct
from collections.abc import Callable
from typing import Any, cast

import pytest

from channels.uvicorn import FrameConnection


class Watch(asyncio.Protocol):
    """Looks at its socket in the last moment in which it may be written to."""

    def __init__(self) -> None:
        self.made = asyncio.Event()
        self.lost = asyncio.Event()
        self.is_open = False
        self.on_data: Callable[[], object] = lambda: None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)
        descriptor = FrameConnection(self.transport, asyncio.get_running_loop()).shared_writer
        assert descriptor is not None, "this transport is not gone past"
        self.descriptor = descriptor
        self.inode = os.fstat(descriptor).st_ino
        self.made.set()

    def data_received(self, data: bytes) -> None:
        self.on_data()

    def connection_lost(self, exc: Exception | None) -> None:
        try:
            self.is_open = os.fstat(self.descriptor).st_ino == self.inode
        finally:
            self.lost.set()


def reset(peer: socket.socket) -> None:
    peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    peer.close()


def close(watch: Watch, peer: socket.socket) -> None:
    watch.transport.close()


def close_with_something_to_send(watch: Watch, peer: socket.socket) -> None:
    watch.transport.write(b"x" * 10_000_000)
    watch.transport.close()
    peer.settimeout(5)
    left = 10_000_000
    asyncio.get_running_loop().run_in_executor(None, read, peer, left)


def read(peer: socket.socket, left: int) -> None:
    while left:
        left -= len(peer.recv(1 << 20))


def abort(watch: Watch, peer: socket.socket) -> None:
    watch.transport.abort()


def end_by_peer(watch: Watch, peer: socket.socket) -> None:
    peer.close()


def reset_by_peer(watch: Watch, peer: socket.socket) -> None:
    reset(peer)


def reset_while_writing(watch: Watch, peer: socket.socket) -> None:
    watch.transport.pause_reading()
    reset(peer)
    watch.transport.write(b"x")
    watch.transport.write(b"x")


def close_twice(watch: Watch, peer: socket.socket) -> None:
    watch.transport.close()
    watch.transport.abort()


def abort_with_something_to_send(watch: Watch, peer: socket.socket) -> None:
    watch.transport.write(b"x" * 10_000_000)
    watch.transport.abort()


def reset_while_closing(watch: Watch, peer: socket.socket) -> None:
    watch.transport.write(b"x" * 10_000_000)
    watch.transport.close()
    reset(peer)


def reset_once_it_is_written_past(watch: Watch, peer: socket.socket) -> None:
    """The error is told to who writes, and the transport learns of it by other means."""
    watch.transport.pause_reading()
    reset(peer)
    with pytest.raises(OSError, match=r"(reset|Broken)"):
        os.write(watch.descriptor, b"x")
    watch.transport.write(b"x")


def end_output(watch: Watch, peer: socket.socket) -> None:
    watch.transport.write_eof()
    peer.close()


def abort_when_it_reads(watch: Watch, peer: socket.socket) -> None:
    watch.on_data = watch.transport.abort
    peer.send(b"x")


def fail_when_it_reads(watch: Watch, peer: socket.socket) -> None:
    def fail() -> None:
        raise ValueError("a mistake")

    watch.on_data = fail
    asyncio.get_running_loop().set_exception_handler(lambda loop, context: None)
    peer.send(b"x")


def reset_with_something_to_send(watch: Watch, peer: socket.socket) -> None:
    watch.transport.write(b"x" * 10_000_000)
    reset(peer)


@pytest.mark.parametrize(
    "end",
    [
        close,
        close_with_something_to_send,
        close_twice,
        abort,
        abort_with_something_to_send,
        abort_when_it_reads,
        fail_when_it_reads,
        end_output,
        end_by_peer,
        reset_by_peer,
        reset_while_closing,
        reset_while_writing,
        reset_once_it_is_written_past,
        reset_with_something_to_send,
    ],
)
@pytest.mark.parametrize("family", [socket.AF_INET, socket.AF_UNIX], ids=["tcp", "unix"])
def test_a_socket_is_open_until_its_protocol_knows_that_it_is_lost(
    run: Any, end: Callable[[Watch, socket.socket], object], family: int, tmp_path: Any
) -> None:
    address: Any = ("127.0.0.1", 0) if family == socket.AF_INET else str(tmp_path / "socket")

    async def scenario() -> None:
        loop = asyncio.get_running_loop()
        watch = Watch()
        with socket.socket(family) as listening, socket.socket(family) as peer:
            listening.bind(address)
            if family == socket.AF_INET:
                server = await loop.create_server(lambda: watch, sock=listening)
            else:
                server = await loop.create_unix_server(lambda: watch, sock=listening)
            peer.connect(listening.getsockname())
            async with asyncio.timeout(5):
                await watch.made.wait()
                end(watch, peer)
                await watch.lost.wait()
            assert watch.is_open
            server.close()
            await server.wait_closed()

    run(scenario())
