"""What a client may send, right and wrong: the answers are those of uvicorn's own protocols.

After the cases of the Autobahn test suite for servers.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
from typing import Any
from urllib.parse import quote, unquote

import uvicorn.protocols.websockets.websockets_sansio_impl as stock_sansio
import uvicorn.protocols.websockets.wsproto_impl as stock_wsproto

from channels.uvicorn import SansIOProtocol

CONT, TEXT, BINARY, CLOSE, PING, PONG = 0x0, 0x1, 0x2, 0x8, 0x9, 0xA
FIN = 0x80

Piece = tuple[int, bytes]


def close(code: int, reason: bytes = b"") -> Piece:
    return FIN | CLOSE, code.to_bytes(2) + reason


CASES: dict[str, list[Piece]] = {
    "text of 0": [(FIN | TEXT, b"")],
    "text of 125": [(FIN | TEXT, b"*" * 125)],
    "text of 126": [(FIN | TEXT, b"*" * 126)],
    "text of 65535": [(FIN | TEXT, b"*" * 65535)],
    "binary of 127": [(FIN | BINARY, b"\xfe" * 127)],
    "ping empty": [(FIN | PING, b"")],
    "ping 125": [(FIN | PING, b"\xfe" * 125)],
    "ping too long": [(FIN | PING, b"\xfe" * 126)],
    "ten pings": [(FIN | PING, b"%d" % n) for n in range(10)],
    "pong unasked": [(FIN | PONG, b"hello"), (FIN | PING, b"there")],
    "ping in fragments": [(PING, b"a"), (FIN | CONT, b"b")],
    "reserved bit 1": [(FIN | 0x40 | TEXT, b"hello")],
    "reserved bit 2": [(FIN | TEXT, b"first"), (FIN | 0x20 | TEXT, b"hello")],
    "reserved bit 3 on ping": [(FIN | 0x10 | PING, b"hello")],
    "reserved opcode 3": [(FIN | 0x3, b"")],
    "reserved opcode 7": [(FIN | TEXT, b"first"), (FIN | 0x7, b"x")],
    "reserved control opcode 11": [(FIN | 0xB, b"")],
    "reserved control opcode 15": [(FIN | 0xF, b"x"), (FIN | PING, b"")],
    "two fragments": [(TEXT, b"frag"), (FIN | CONT, b"ment")],
    "empty fragments": [(TEXT, b""), (CONT, b""), (FIN | CONT, b"")],
    "ping between fragments": [(TEXT, b"frag"), (FIN | PING, b"p"), (FIN | CONT, b"ment")],
    "many fragments": [(BINARY, b"0"), *[(CONT, b"x")] * 30, (FIN | CONT, b"y")],
    "continuation of nothing": [(FIN | CONT, b"nothing")],
    "continuation after the end": [(TEXT, b"a"), (FIN | CONT, b"b"), (CONT, b"c")],
    "text amid fragments": [(TEXT, b"a"), (FIN | TEXT, b"b")],
    "UTF-8": [(FIN | TEXT, "κόσμε 𝄞".encode())],
    "UTF-8 cut between fragments": [
        (TEXT, b"\xce"),
        (CONT, b"\xba\xe1\xbd"),
        (FIN | CONT, b"\xb9"),
    ],
    "invalid UTF-8": [(FIN | TEXT, b"\xce\xba\xed\xa0\x80edited")],
    "invalid UTF-8 in a fragment": [(TEXT, b"ok"), (FIN | CONT, b"\xff")],
    "incomplete UTF-8": [(FIN | TEXT, b"\xce")],
    "overlong UTF-8": [(FIN | TEXT, b"\xc0\xaf")],
    "close": [close(1000)],
    "close with reason": [close(1000, b"*" * 123)],
    "close empty": [(FIN | CLOSE, b"")],
    "close of one byte": [(FIN | CLOSE, b"x")],
    "close too long": [close(1000, b"*" * 124)],
    "close with invalid UTF-8": [close(1000, b"\xce\xba\xed\xa0\x80")],
    **{f"close {code}": [close(code)] for code in (1001, 1003, 1007, 1011, 3000, 3999, 4999)},
    **{
        f"close {code}": [close(code)]
        for code in (0, 999, 1004, 1005, 1006, 1015, 1016, 2999, 5000)
    },
    "text after close": [close(1000), (FIN | TEXT, b"late")],
    "ping after close": [close(1000), (FIN | PING, b"late")],
    "close amid fragments": [(TEXT, b"a"), close(1000)],
    "not masked": [(-1, b"\x81\x05hello")],
    "too big": [(BINARY, b"x" * 1000), *[(CONT, b"x" * 1000)] * 70],
}


async def test_it_answers_as_uvicorn_does(ws: Any, kit_alone: Any) -> None:
    stock = (
        stock_sansio.WebSocketsSansIOProtocol if ws is SansIOProtocol else stock_wsproto.WSProtocol
    )
    expected = await converse_all(stock, kit_alone)
    found = await converse_all(ws, kit_alone)
    assert {name: found[name] for name in CASES if found[name] != expected[name]} == {
        name: expected[name] for name in CASES if found[name] != expected[name]
    }
    # The cases are what they are meant to be: some are answered, some are refused.
    assert expected["text of 126"]["data"][0].payload == b"*" * 126
    assert expected["reserved bit 1"]["application"][-1]["code"] == 1002
    assert expected["invalid UTF-8"]["application"][-1]["code"] == 1007


async def converse_all(ws: Any, kit: Any) -> dict[str, Any]:
    logs: dict[str, list[Any]] = {name: [] for name in CASES}

    async def echo(scope: Any, receive: Any, send: Any) -> None:
        log = logs[unquote(scope["query_string"].decode())]
        await receive()
        await send({"type": "websocket.accept"})
        while (message := await receive())["type"] == "websocket.receive":
            log.append(message)
            await send({**message, "type": "websocket.send"})
        log.append(message)

    async with kit.serving(echo, ws, ws_max_size=65535, date_header=False) as server:
        talks = [converse(server, name, pieces) for name, pieces in CASES.items()]
        answers = await asyncio.gather(*talks)
        await kit.until(
            lambda: all(log and log[-1]["type"][-4:] == "nect" for log in logs.values())
        )
    return {
        name: {**answer, "application": log}
        for (name, log), answer in zip(logs.items(), answers, strict=True)
    }


async def converse(server: Any, name: str, pieces: list[Piece]) -> dict[str, list[Any]]:
    """Return what the client got."""
    client = await server.connect(query=quote(name))
    for first, payload in pieces:
        if first < 0:
            client.writer.write(payload)
        else:
            client.send(first & 0x0F, payload, first=first & 0xF0)
    client.send(TEXT, b"the end")
    client.send(PING, b"the end")
    frames = []
    with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
        # Both marks come back, unless the connection is closed before.
        while sum(frame.payload == b"the end" for frame in frames) < 2:
            frames.append(await client.read())
    client.close()
    # A pong may overtake what the application is about to send.
    return {
        "handshake": [re.sub(rb"(?i)date: [^\r]*\r\n", b"", client.response)],
        "data": [frame for frame in frames if frame.opcode < CLOSE],
        "control": [frame for frame in frames if frame.opcode >= CLOSE],
    }
