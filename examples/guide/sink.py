import asyncio
from collections.abc import Sequence

from channels.core import ChannelsPlugin, Event, Subscriber


class Feed(asyncio.Protocol):
    """Writes events to a connection, without a task, at the pace of whoever reads it."""

    def __init__(self, subscriber: Subscriber) -> None:
        self.subscriber = subscriber
        self.is_paused = False
        self.closed = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.WriteTransport)
        self.transport = transport
        self.subscriber.attach(self.take, on_end=transport.close)

    def take(self, events: Sequence[Event]) -> bool:
        if self.is_paused:
            return False  # not taken: they wait in the backlog
        self.transport.write(b"".join(event + b"\n" for event in events))
        return True

    def pause_writing(self) -> None:
        self.is_paused = True

    def resume_writing(self) -> None:
        self.is_paused = False
        self.subscriber.ready()

    def connection_lost(self, exc: Exception | None) -> None:
        self.closed.set_result(None)


async def feed(channels: ChannelsPlugin, host: str, port: int) -> None:
    loop = asyncio.get_running_loop()
    async with channels.start_subscription("news") as subscriber:
        transport, protocol = await loop.create_connection(lambda: Feed(subscriber), host, port)
        try:
            await protocol.closed
        finally:
            transport.abort()
