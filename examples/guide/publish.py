from litestar import Litestar, post
from litestar.di import NamedDependency

from channels.core.memory import MemoryChannelsBackend
from channels.litestar import ChannelsPlugin


@post("/greet")
async def greet(channels: NamedDependency[ChannelsPlugin]) -> None:
    channels.publish({"message": "Hello"}, "general")


app = Litestar([greet], plugins=[ChannelsPlugin(MemoryChannelsBackend(), channels=["general"])])
