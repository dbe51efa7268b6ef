"""What all connections of one gateway share."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence

from channels.core._errors import NotRunningError
from channels.core._event import Event
from channels.core._plugin import ChannelsPlugin
from channels.core.asgi._admission import Admission
from channels.core.asgi._connections import Connections
from channels.core.asgi._encoding import Encoding, LastRun, Once
from channels.core.asgi._limits import Limits
from channels.core.asgi._lines import block_encoder
from channels.core.asgi._messages import (
    Messages,
    Messenger,
    Prototype,
    body_message,
    websocket_message,
)
from channels.core.asgi._shared_frames import EXTENSION, FrameConnection, SharedMessages

logger = logging.getLogger("channels")


class Context:
    """What a connection needs to know of its gateway.

    Args:
        plugin: Whose channels.
        admission: Decides who gets in.
        encoding: What clients see of events.
        limits: What they may use.
        retry: Seconds after which an ``EventSource`` connects again.

    Attributes:
        messages: Makes messages of events.
        blocks: Makes lines of an event stream of events.
        bodies: Makes messages of such lines of events.
        running: Who is connected; None outside ``async with gateway:``.
    """

    def __init__(
        self,
        plugin: ChannelsPlugin,
        admission: Admission,
        encoding: Encoding,
        limits: Limits,
        retry: float,
    ) -> None:
        self.plugin = plugin
        self.admission = admission
        self.encoding = encoding
        self.limits = limits
        self.retry = retry
        self.running: Connections | None = None
        self.messages = Messenger(encoding, websocket_message)
        self.blocks = LastRun(_each_once(block_encoder(encoding)))
        self.bodies = LastRun(self._body)
        self._is_unshared = False
        self._shared: dict[object, SharedMessages] = {}

    @property
    def connections(self) -> Connections:
        """Who is connected.

        Raises:
            NotRunningError: The gateway was not entered.
        """
        if self.running is None:
            raise NotRunningError("the gateway does not run: use it inside 'async with gateway:'")
        return self.running

    def _body(self, events: Sequence[Event]) -> Messages[Prototype]:
        return Messages([body_message(b"".join(self.blocks(events)))], None)

    def shared(self, server: FrameConnection) -> SharedMessages:
        """Return the messages as frames of the server that ``server`` is a connection of."""
        messages = self._shared.get(server.encode)
        if messages is None:
            messages = SharedMessages(Messenger(self.encoding, server.encode), server.join)
            self._shared[server.encode] = messages
        return messages

    def note_unshared(self) -> None:
        """Say once that the server does not offer to share frames."""
        if not self._is_unshared:
            self._is_unshared = True
            logger.info(
                "the ASGI server does not offer %s: each WebSocket is sent messages of its own",
                EXTENSION,
            )


def _each_once(encode: Callable[[Event], bytes]) -> Callable[[Sequence[Event]], Sequence[bytes]]:
    once = Once(encode)
    return lambda events: [once(event) for event in events]
