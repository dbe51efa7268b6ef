"""The bare write loop: a frame made once per event, written to each transport."""

from __future__ import annotations

import asyncio
import base64
import hashlib
from typing import cast

from benchmarks.servers import harness
from benchmarks.servers.texts import Texts

MAGIC = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"


def frame(text: str) -> bytes:
    """Return the frame of a text."""
    data = text.encode()
    if len(data) < 126:
        return bytes([0x81, len(data)]) + data
    if len(data) < 1 << 16:
        return bytes([0x81, 126]) + len(data).to_bytes(2, "big") + data
    return bytes([0x81, 127]) + len(data).to_bytes(8, "big") + data


class Connection(asyncio.Protocol):
    """Answers a handshake and then only sends."""

    def __init__(self, transports: dict[asyncio.Transport, None]) -> None:
        self._transports = transports
        self._request = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # uvloop's is none by its class

    def data_received(self, data: bytes) -> None:
        if self._transport in self._transports:
            return
        self._request += data
        if not self._request.endswith(b"\r\n\r\n"):
            return
        headers = dict(line.split(b": ", 1) for line in self._request.split(b"\r\n")[1:-2])
        accept = base64.b64encode(hashlib.sha1(headers[b"Sec-WebSocket-Key"] + MAGIC).digest())
        self._transport.write(
            b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            b"Sec-WebSocket-Accept: " + accept + b"\r\n\r\n"
        )
        self._transports[self._transport] = None

    def connection_lost(self, exc: Exception | None) -> None:
        self._transports.pop(self._transport, None)


async def serve(texts: Texts) -> None:
    transports: dict[asyncio.Transport, None] = {}

    def publish(count: int) -> None:
        for text in texts.take(count):
            data = frame(text)
            for transport in transports:
                transport.write(data)

    listening = harness.listen()
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: Connection(transports), sock=listening)
    await harness.announce("/", listening, publish)
    await server.serve_forever()
