"""Runs of events as what WebSockets are sent."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import Any, Generic, NamedTuple, TypeVar

from channels.core._event import Event, Gap
from channels.core.asgi._codes import CloseCode, Closing
from channels.core.asgi._encoding import Encoding, LastRun, Once

T = TypeVar("T")

Prototype = dict[str, Any]
"""An ASGI message of which each connection sends a copy: whoever is given one may change it."""

logger = logging.getLogger("channels")


class Messages(NamedTuple, Generic[T]):
    """What a client is sent of a run, and why it is closed after that, if it is."""

    ready: Sequence[T]
    closing: Closing | None


def websocket_message(data: str | bytes) -> Prototype:
    """Return the ASGI message that sends ``data``."""
    kind = "text" if isinstance(data, str) else "bytes"
    return {"type": "websocket.send", kind: data}


def body_message(body: bytes) -> Prototype:
    """Return the ASGI message that sends ``body`` as a part of a response, not the last one."""
    return {"type": "http.response.body", "body": body, "more_body": True}


class Messenger(LastRun[Messages[T]], Generic[T]):
    """Makes the messages of a run of events, once for all clients.

    Args:
        encoding: What clients see of an event.
        form: What a message becomes.
    """

    def __init__(self, encoding: Encoding, form: Callable[[str | bytes], T]) -> None:
        super().__init__(self._encode_run)
        self._encoding = encoding
        self._form = form
        self._message = Once(self._encode)

    def _encode_run(self, events: Sequence[Event]) -> Messages[T]:
        ready: list[T] = []
        for event in events:
            try:
                message = self._message(event)
            except Exception:
                logger.exception("an event cannot be encoded for clients; they are closed")
                return Messages(ready, Closing(CloseCode.INTERNAL_ERROR, "internal error"))
            if message is not None:
                ready.append(message)
            elif not (isinstance(event, Gap) and event.dropped):
                return Messages(ready, Closing(CloseCode.GAP, "events are missing"))
        return Messages(ready, None)

    def _encode(self, event: Event) -> T | None:
        encoding = self._encoding
        message = encoding.gap(event) if isinstance(event, Gap) else encoding.event(event)
        return None if message is None else self._form(message)
