from channels.core.memory import MemoryChannelsBackend
from channels.litestar import ChannelsPlugin

channels_plugin = ChannelsPlugin(MemoryChannelsBackend(), arbitrary_channels_allowed=True)
