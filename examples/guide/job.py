from channels.core import AsyncPublisher


async def run(broker: str) -> None:
    async with AsyncPublisher(broker) as publisher:
        for step in range(1, 4):
            ...  # work
            await publisher.publish({"step": step}, "progress")
