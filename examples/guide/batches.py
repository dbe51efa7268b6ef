from collections.abc import Awaitable, Callable

from channels.core import ChannelsPlugin, Event


async def store(channels: ChannelsPlugin, insert: Callable[[list[Event]], Awaitable[None]]) -> None:
    async with channels.start_subscription("measurements") as subscriber:
        async for events in subscriber.iter_batches(max_events=500):
            await insert(events)  # meanwhile the next batch gathers
