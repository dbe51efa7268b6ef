"""A transport that keeps the order between what uvicorn writes and what is shared."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Any

from channels.uvicorn._connection import FrameConnection


class OrderedTransport(asyncio.Transport):
    """The transport that uvicorn's protocol sees.

    Frames that the connection holds are written before anything else is, and before the end.
    """

    __slots__ = ("_connection", "_transport")

    def __init__(self, transport: asyncio.Transport, connection: FrameConnection) -> None:
        super().__init__()
        self._transport = transport
        self._connection = connection

    def write(self, data: bytes | bytearray | memoryview[Any]) -> None:
        self._connection.flush()
        self._transport.write(data)
        self._connection.check()

    def writelines(self, list_of_data: Iterable[bytes | bytearray | memoryview[Any]]) -> None:
        self._connection.flush()
        self._transport.writelines(list_of_data)
        self._connection.check()

    def write_eof(self) -> None:
        self._connection.shut()
        self._connection.flush()
        self._transport.write_eof()

    def close(self) -> None:
        self._connection.shut()
        self._connection.flush()
        self._transport.close()

    def abort(self) -> None:
        self._connection.abort()

    def can_write_eof(self) -> bool:
        return self._transport.can_write_eof()

    def is_closing(self) -> bool:
        return self._transport.is_closing()

    def is_reading(self) -> bool:
        return self._transport.is_reading()

    def pause_reading(self) -> None:
        self._transport.pause_reading()

    def resume_reading(self) -> None:
        self._transport.resume_reading()

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return self._transport.get_extra_info(name, default)

    def get_write_buffer_size(self) -> int:
        return self._connection.buffered

    def get_write_buffer_limits(self) -> tuple[int, int]:
        return self._transport.get_write_buffer_limits()

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        self._transport.set_write_buffer_limits(high, low)

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        self._transport.set_protocol(protocol)

    def get_protocol(self) -> asyncio.BaseProtocol:
        return self._transport.get_protocol()
