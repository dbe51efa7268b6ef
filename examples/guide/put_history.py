from litestar import Litestar, WebSocket, websocket
from litestar.di import NamedDependency

from channels.core.memory import MemoryChannelsBackend
from channels.litestar import ChannelsPlugin


@websocket("/ws")
async def handler(socket: WebSocket, channels: NamedDependency[ChannelsPlugin]) -> None:
    await socket.accept()

    async with (
        channels.start_subscription(["some_channel"]) as subscriber,
        subscriber.run_in_background(socket.send_text),
    ):
        await channels.put_subscriber_history(subscriber, ["some_channel"], limit=10)
        async for message in socket.iter_data("text"):
            channels.publish(message, "some_channel")


app = Litestar(
    [handler],
    plugins=[ChannelsPlugin(MemoryChannelsBackend(history=10), channels=["some_channel"])],
)
