from collections.abc import Callable

from channels.core import ChannelsPlugin, Event


async def watch(channels: ChannelsPlugin, show: Callable[[Event], None]) -> None:
    subscriber = await channels.subscribe(["foo", "bar"])
    try:
        async for event in subscriber.iter_events():
            show(event)
            if event == b"the end of foo":
                await channels.unsubscribe(subscriber, ["foo"])
    finally:
        await channels.unsubscribe(subscriber)
