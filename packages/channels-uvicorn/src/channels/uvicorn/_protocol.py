"""What both WebSocket protocols of uvicorn get in addition."""

from __future__ import annotations

import asyncio
import logging
from functools import cache
from typing import TYPE_CHECKING, Any, Final, cast

from channels.uvicorn._connection import FrameConnection
from channels.uvicorn._transport import OrderedTransport

if TYPE_CHECKING:
    from collections.abc import Awaitable

    from uvicorn.config import Config
    from uvicorn.server import ServerState

    class UvicornProtocol(asyncio.Protocol):
        """All that is used of uvicorn's classes."""

        app: Any
        loop: asyncio.AbstractEventLoop
        transport: asyncio.Transport

        def __init__(
            self,
            config: Config,
            server_state: ServerState,
            app_state: dict[str, Any],
            _loop: asyncio.AbstractEventLoop | None = None,
        ) -> None: ...

        async def send(self, message: Any) -> None: ...
else:
    UvicornProtocol = asyncio.Protocol

logger = logging.getLogger("channels")

EXTENSION: Final = "channels.websocket.frames"
"""The extension's name in ``scope["extensions"]``."""

VERSION: Final = 1
"""The version of the extension that is offered."""


class SharedFrames(UvicornProtocol):
    """Offers the extension; mixed into a WebSocket protocol of uvicorn.

    Whatever uvicorn does stays as it is: frames that are shared go past it, straight to
    the transport, and the transport that uvicorn is given keeps both in order.
    """

    __slots__ = ("_application", "_connection")

    def __init__(
        self,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        super().__init__(config, server_state, app_state, _loop)
        self._connection: FrameConnection | None = None
        self._application = self.app
        self.app = self._offer

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        raw = cast("asyncio.Transport", transport)
        self._connection = FrameConnection(raw, self.loop)
        super().connection_made(OrderedTransport(raw, self._connection))

    def connection_lost(self, exc: Exception | None) -> None:
        if self._connection is not None:
            self._connection.lose()
        self.app = self._application
        super().connection_lost(exc)

    def pause_writing(self) -> None:
        super().pause_writing()
        if self._connection is not None:
            self._connection.pause()

    def resume_writing(self) -> None:
        super().resume_writing()
        if self._connection is not None:
            self._connection.resume()

    async def send(self, message: Any) -> None:
        """Send what the application sends; this accepts and closes the WebSocket."""
        await super().send(message)
        if self._connection is None:
            return
        if message["type"] == "websocket.accept" and not self.transport.is_closing():
            self._connection.open(self._shared_window_bits())
        elif message["type"] == "websocket.close":
            self._connection.shut()

    def _shared_window_bits(self) -> int:
        """Return the window bits of the compression that was negotiated, if it can be shared."""
        raise NotImplementedError

    def _offer(self, scope: Any, receive: Any, send: Any) -> Awaitable[object]:
        """Call the application, once, with the extension in its scope."""
        self.app = self._application
        if isinstance(self.transport, OrderedTransport):
            offer = {"version": VERSION, "connection": self._connection}
            scope.setdefault("extensions", {})[EXTENSION] = offer
        else:
            _note_change()
        calling: Awaitable[object] = self._application(scope, receive, send)
        return calling


@cache
def _note_change() -> None:
    logger.warning(
        "this release of uvicorn is not known to channels.uvicorn: frames are not shared"
    )
