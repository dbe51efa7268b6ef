from collections.abc import Callable

from channels.core import ChannelsPlugin, Event, Subscriber


async def watch(channels: ChannelsPlugin, show: Callable[[Event], None]) -> None:
    subscriber = Subscriber(max_backlog=40, backlog_strategy="dropleft")
    await channels.subscribe("news", subscriber=subscriber)
    try:
        async for event in subscriber.iter_events():
            show(event)
    finally:
        await channels.unsubscribe(subscriber)
