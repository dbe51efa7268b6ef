import asyncio

from channels.core import ChannelsPlugin, MemoryChannelsBackend


async def main() -> None:
    async with ChannelsPlugin(MemoryChannelsBackend(), channels=["news"]) as channels:
        async with channels.start_subscription("news") as subscriber:
            channels.publish({"message": "Hello"}, "news")
            async for event in subscriber.iter_events():
                print(event.channel, event.decode())
                break


asyncio.run(main())
