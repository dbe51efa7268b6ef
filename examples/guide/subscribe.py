from channels.core import ChannelsPlugin, Event


async def wait_for_event(channels: ChannelsPlugin) -> Event | None:
    subscriber = await channels.subscribe(["foo", "bar"])
    try:
        async for event in subscriber.iter_events():
            return event
        return None  # the plugin was stopped
    finally:
        await channels.unsubscribe(subscriber)
