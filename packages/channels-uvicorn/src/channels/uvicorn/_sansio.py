"""Shared frames for uvicorn's ``websockets-sansio`` protocol."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from websockets.extensions.permessage_deflate import (
    PerMessageDeflate,
    ServerPerMessageDeflateFactory,
)

from channels.uvicorn._frames import UNCOMPRESSED
from channels.uvicorn._protocol import SharedFrames

if TYPE_CHECKING:
    from asyncio import AbstractEventLoop

    from uvicorn.config import Config
    from uvicorn.server import ServerState


class SansIOProtocol(SharedFrames, WebSocketsSansIOProtocol):
    """uvicorn's protocol over the ``websockets`` library, with shared frames.

    ``uvicorn --ws channels.uvicorn:SansIOProtocol``, or ``ws=SansIOProtocol`` in code.
    """

    def __init__(
        self,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: AbstractEventLoop | None = None,
    ) -> None:
        super().__init__(config, server_state, app_state, _loop)
        for factory in self.conn.available_extensions or ():
            if isinstance(factory, ServerPerMessageDeflateFactory):
                factory.server_no_context_takeover = True

    def _shared_window_bits(self) -> int:
        for extension in self.conn.extensions:
            if isinstance(extension, PerMessageDeflate) and extension.local_no_context_takeover:
                return extension.local_max_window_bits
        return UNCOMPRESSED
