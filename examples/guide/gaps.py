from collections.abc import Callable

from channels.core import ChannelsPlugin, Gap


async def watch(channels: ChannelsPlugin, show: Callable[[str], None]) -> None:
    async with channels.start_subscription("news", gaps=True) as subscriber:
        async for event in subscriber.iter_events():
            if isinstance(event, Gap):
                show("(news are missing here)")
            else:
                show(event.decode())
