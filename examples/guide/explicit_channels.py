from channels.core.memory import MemoryChannelsBackend
from channels.litestar import ChannelsPlugin

channels_plugin = ChannelsPlugin(MemoryChannelsBackend(), channels=["foo", "bar"])
