from collections.abc import Callable

from channels.core import ChannelsPlugin, Event


async def follow_invitations(channels: ChannelsPlugin, show: Callable[[Event], None]) -> None:
    async with channels.start_subscription("invitations") as subscriber:
        async for event in subscriber.iter_events():
            show(event)
            if event.channel == "invitations":
                await channels.subscribe(event.decode(), subscriber=subscriber)
