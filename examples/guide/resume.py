from collections.abc import Callable

from channels.core import ChannelsPlugin, Event


class Reader:
    """Reads the news, can stop at any time, and goes on where it stopped."""

    def __init__(self, channels: ChannelsPlugin, show: Callable[[str], None]) -> None:
        self.channels = channels
        self.show = show
        self.last_seen: str | None = None

    async def read(self) -> None:
        subscription = self.channels.start_subscription("news", since=self.last_seen)
        async with subscription as subscriber:
            if subscriber.recovered is False:
                self.show("(some news are no longer kept)")
            async for event in subscriber.iter_events():
                self.take(event)

    def take(self, event: Event) -> None:
        self.show(event.decode())
        self.last_seen = event.id
