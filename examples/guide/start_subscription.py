from channels.core import ChannelsPlugin, Event


async def wait_for_event(channels: ChannelsPlugin) -> Event | None:
    async with channels.start_subscription(["foo", "bar"]) as subscriber:
        async for event in subscriber.iter_events():
            return event
        return None  # the plugin was stopped
