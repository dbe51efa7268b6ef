"""Shared frames for uvicorn's ``wsproto`` protocol; needs the ``wsproto`` library."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from uvicorn.protocols.websockets.wsproto_impl import WSProtocol
from wsproto import ConnectionType, WSConnection
from wsproto.events import AcceptConnection, Event
from wsproto.extensions import PerMessageDeflate

from channels.uvicorn._frames import UNCOMPRESSED
from channels.uvicorn._protocol import SharedFrames

if TYPE_CHECKING:
    from asyncio import AbstractEventLoop

    from uvicorn.config import Config
    from uvicorn.server import ServerState

__all__ = ("WSProtoProtocol",)


class WSProtoProtocol(SharedFrames, WSProtocol):
    """uvicorn's protocol over the ``wsproto`` library, with shared frames.

    ``uvicorn --ws channels.uvicorn.wsproto:WSProtoProtocol``, or ``ws=WSProtoProtocol`` in code.
    """

    __slots__ = ("_deflating",)

    def __init__(
        self,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: AbstractEventLoop | None = None,
    ) -> None:
        super().__init__(config, server_state, app_state, _loop)
        self.conn = self._deflating = _Connection(ConnectionType.SERVER)

    def _shared_window_bits(self) -> int:
        deflate = self._deflating.deflate
        if deflate is None or not deflate.enabled():
            return UNCOMPRESSED
        return deflate.server_max_window_bits


class _Connection(WSConnection):
    """Compresses each message by itself, if the client wants compression."""

    deflate: PerMessageDeflate | None = None

    def send(self, event: Event) -> bytes:
        if isinstance(event, AcceptConnection):
            for extension in event.extensions:
                if isinstance(extension, PerMessageDeflate):
                    extension.server_no_context_takeover = True
                    self.deflate = extension
        return super().send(event)
