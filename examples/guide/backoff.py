from channels.core.memory import MemoryChannelsBackend
from channels.litestar import ChannelsPlugin

channels = ChannelsPlugin(
    backend=MemoryChannelsBackend(),
    channels=["news"],
    max_backlog=1000,
    backlog_strategy="backoff",
)
