"""A backend that leaves the work to another one."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager

from channels.core import (
    ChannelsBackend,
    History,
    HistoryRequest,
    Listener,
    Message,
    Outcome,
)


class BackendWrapper(ChannelsBackend):
    """Behaves as the backend inside; a subclass changes what it wants to be different.

    Args:
        inner: The backend that does the work. It is entered and left with this one.
    """

    def __init__(self, inner: ChannelsBackend) -> None:
        self.inner = inner
        self.keeps_history = inner.keeps_history
        self.max_payload = inner.max_payload

    async def open(self) -> None:
        await self.inner.__aenter__()

    async def close(self) -> None:
        await self.inner.__aexit__(None, None, None)

    async def publish(self, messages: Sequence[Message]) -> Sequence[Outcome]:
        return await self.inner.publish(messages)

    def listen(self) -> AbstractAsyncContextManager[Listener]:
        return self.inner.listen()

    async def get_history(self, requests: Sequence[HistoryRequest]) -> Sequence[History]:
        return await self.inner.get_history(requests)
