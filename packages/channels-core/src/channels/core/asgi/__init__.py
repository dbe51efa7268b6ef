"""WebSockets and event streams for browsers and other clients, over any ASGI server.

A :class:`Gateway` lets clients in: it checks origin, name and permission, subscribes, replays
history or resumes, delivers, and sends everybody away before the process ends.
"""

from channels.core.asgi._admission import Action, Authorize
from channels.core.asgi._codes import CloseCode
from channels.core.asgi._connection import ASGIApp, Connection, WebSocketConnection
from channels.core.asgi._encoding import Encoding, Envelope, Joined, Mode, Raw
from channels.core.asgi._event_stream import EventStream
from channels.core.asgi._gateway import Gateway
from channels.core.asgi._limits import Limits
from channels.core.asgi._websocket import WebSocketSession

__all__ = (
    "ASGIApp",
    "Action",
    "Authorize",
    "CloseCode",
    "Connection",
    "Encoding",
    "Envelope",
    "EventStream",
    "Gateway",
    "Joined",
    "Limits",
    "Mode",
    "Raw",
    "WebSocketConnection",
    "WebSocketSession",
)
