"""Events as lines of an event stream."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable

from channels.core._event import Event, Gap
from channels.core.asgi._encoding import Encoding, Joined, gap_record, joined_record

logger = logging.getLogger("channels")


def block_encoder(encoding: Encoding) -> Callable[[Event], bytes]:
    """Return what turns an event into the lines of an event stream."""

    def encode(event: Event) -> bytes:
        if isinstance(event, Gap):
            return b"event: gap\ndata: " + json.dumps(gap_record(event)).encode() + b"\n\n"
        try:
            text = encoding.event(event)
        except Exception:
            logger.exception("an event cannot be encoded for clients; they get a gap")
            return encode(Gap(channel=event.channel))
        data = text.encode() if isinstance(text, str) else _as_text(text)
        data = data.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
        lines = b"data: " + data.replace(b"\n", b"\ndata: ") + b"\n\n"
        return lines if event.id is None else b"id: %b\n" % event.id.encode() + lines

    return encode


def _as_text(data: bytes) -> bytes:
    """Return bytes that are UTF-8, as event streams are; what is not is marked."""
    return data.decode("utf-8", "replace").encode()


def joined_lines(joined: Joined, identity: str | None) -> bytes:
    """Return the first event of a stream, which has the id to resume after until others come."""
    data = json.dumps(joined_record(joined)).encode()
    prefix = b"" if identity is None else b"id: %b\n" % identity.encode()
    return prefix + b"event: joined\ndata: " + data + b"\n\n"


def retry_line(seconds: float) -> bytes:
    """Return what tells an ``EventSource`` how long to wait before it connects again."""
    return b"retry: %d\n\n" % round(seconds * 1000)
