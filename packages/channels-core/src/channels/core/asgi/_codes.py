"""Why a client is refused, and why its connection is closed."""

from __future__ import annotations

from enum import IntEnum
from typing import NamedTuple


class CloseCode(IntEnum):
    """Why a WebSocket was closed by this side.

    Codes below 4000 are those of RFC 6455; of the others the last three digits are those of the
    HTTP status that says the same. After 1012, 1013 and 4408 a client does well to connect
    again, after a moment, and to resume; after 4410 it must load its state anew first; after the
    others it would be refused again.
    """

    NORMAL = 1000
    """The handler has ended."""
    TOO_BIG = 1009
    """A message from the client exceeds ``max_message_bytes``."""
    INTERNAL_ERROR = 1011
    """The handler or the encoding has failed."""
    RESTART = 1012
    """The process is going away."""
    TRY_LATER = 1013
    """Refused for now: too many connections, draining, or the broker is away."""
    BAD_REQUEST = 4400
    """Refused: ``since`` is not the id of an event."""
    FORBIDDEN = 4403
    """Refused: by ``authorize``, or because of the origin."""
    UNKNOWN_CHANNEL = 4404
    """Refused: there is no such channel."""
    TOO_SLOW = 4408
    """The client did not take what was sent, or its backlog is full (``"disconnect"``)."""
    GAP = 4410
    """Events are missing, and the encoding has no record that could say so."""
    TOO_FAST = 4429
    """The client sends more messages than ``max_messages_per_second``."""


class Refusal(NamedTuple):
    """Why a client does not get in: an HTTP status, and the code where a server knows no status."""

    status: int
    code: CloseCode
    reason: str


BAD_SINCE = Refusal(400, CloseCode.BAD_REQUEST, "since is not the id of an event")
BAD_ORIGIN = Refusal(403, CloseCode.FORBIDDEN, "origin not allowed")
FORBIDDEN = Refusal(403, CloseCode.FORBIDDEN, "not allowed")
UNKNOWN_CHANNEL = Refusal(404, CloseCode.UNKNOWN_CHANNEL, "no such channel")
CROWDED = Refusal(503, CloseCode.TRY_LATER, "too many connections")
DRAINING = Refusal(503, CloseCode.TRY_LATER, "the server is going away")
NO_BROKER = Refusal(503, CloseCode.TRY_LATER, "not available now")


class Closing(Exception):
    """Ends what is sent to a client, with a code for it."""

    def __init__(self, code: CloseCode, reason: str) -> None:
        super().__init__(code, reason)
        self.code = code
        self.reason = reason
