from litestar import Litestar, post
from litestar.di import NamedDependency
from litestar.params import JSONBody

from channels.core.memory import MemoryChannelsBackend
from channels.litestar import ChannelsPlugin


@post("/reports", sync_to_thread=True)
def report(data: JSONBody[dict[str, int]], channels: NamedDependency[ChannelsPlugin]) -> None:
    channels.publish({"total": sum(data.values())}, "reports")


app = Litestar([report], plugins=[ChannelsPlugin(MemoryChannelsBackend(), channels=["reports"])])
