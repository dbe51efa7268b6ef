from collections.abc import Callable

from channels.core import ChannelsPlugin, Event


async def watch(channels: ChannelsPlugin, show: Callable[[Event], None]) -> None:
    async with channels.start_subscription("news", history=10) as subscriber:
        async for event in subscriber.iter_events():
            show(event)
