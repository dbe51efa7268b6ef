from litestar import Litestar, post

from channels.core.memory import MemoryChannelsBackend
from channels.litestar import ChannelsPlugin


@post("/reports", sync_to_thread=True)
def report(data: dict[str, int], channels: ChannelsPlugin) -> None:
    channels.publish({"total": sum(data.values())}, "reports")


app = Litestar([report], plugins=[ChannelsPlugin(MemoryChannelsBackend(), channels=["reports"])])
