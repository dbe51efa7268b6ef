"""What all connections of one gateway share."""

from __future__ import annotations

from collections.abc import Sequence

from channels.core._errors import NotRunningError
from channels.core._event import Event, Gap
from channels.core._plugin import ChannelsPlugin
from channels.core.asgi._admission import Admission
from channels.core.asgi._connections import Connections
from channels.core.asgi._encoding import Encoding, Once
from channels.core.asgi._limits import Limits
from channels.core.asgi._lines import block_encoder


class Context:
    """What a connection needs to know of its gateway.

    Args:
        plugin: Whose channels.
        admission: Decides who gets in.
        encoding: What clients see of events.
        limits: What they may use.
        retry: Seconds after which an ``EventSource`` connects again.
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
        self._messages = Once(self._encode)
        self._blocks = Once(block_encoder(encoding))

    @property
    def connections(self) -> Connections:
        """Who is connected.

        Raises:
            NotRunningError: The gateway was not entered.
        """
        if self.running is None:
            raise NotRunningError("the gateway does not run: use it inside 'async with gateway:'")
        return self.running

    def messages(self, events: Sequence[Event]) -> Sequence[str | bytes | None]:
        """Return the messages for events; None for a gap that the encoding cannot tell."""
        return self._messages(events)

    def blocks(self, events: Sequence[Event]) -> Sequence[bytes]:
        """Return the lines of an event stream for events."""
        return self._blocks(events)

    def _encode(self, event: Event) -> str | bytes | None:
        if isinstance(event, Gap):
            return self.encoding.gap(event)
        return self.encoding.event(event)
