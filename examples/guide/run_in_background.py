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
        async for message in socket.iter_data("text"):
            channels.publish(message, "some_channel")


app = Litestar(
    [handler],
    plugins=[ChannelsPlugin(MemoryChannelsBackend(), channels=["some_channel"])],
)
