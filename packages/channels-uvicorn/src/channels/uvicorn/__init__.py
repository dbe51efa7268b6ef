"""WebSocket protocols for uvicorn that offer shared frames to the application.

A message that goes to many connections is encoded, framed and compressed once, and written to
each of them as the same bytes. See the ASGI extension ``channels.websocket.frames`` in the
documentation.
"""

from channels.uvicorn._connection import FrameConnection
from channels.uvicorn._frames import Frames
from channels.uvicorn._group import Group, Source
from channels.uvicorn._protocol import EXTENSION, VERSION
from channels.uvicorn._sansio import SansIOProtocol

__all__ = (
    "EXTENSION",
    "FrameConnection",
    "Frames",
    "Group",
    "SansIOProtocol",
    "Source",
    "VERSION",
)
