from litestar import Litestar, post

from channels.core.memory import MemoryChannelsBackend
from channels.litestar import ChannelsPlugin


@post("/greet")
async def greet(channels: ChannelsPlugin) -> None:
    channels.publish({"message": "Hello"}, "general")


app = Litestar([greet], plugins=[ChannelsPlugin(MemoryChannelsBackend(), channels=["general"])])
