from litestar import Litestar, WebSocket, websocket
from litestar.di import NamedDependency

from channels.core.memory import MemoryChannelsBackend
from channels.litestar import ChannelsPlugin


@websocket("/ws")
async def handler(socket: WebSocket, channels: NamedDependency[ChannelsPlugin]) -> None:
    await socket.accept()

    async with channels.start_subscription(["some_channel"]) as subscriber:
        async for message in subscriber.iter_events():
            await socket.send_text(message)


app = Litestar(
    [handler],
    plugins=[ChannelsPlugin(MemoryChannelsBackend(), channels=["some_channel"])],
)
