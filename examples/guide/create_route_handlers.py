from litestar import Litestar

from channels.core.memory import MemoryChannelsBackend
from channels.litestar import ChannelsPlugin

channels_plugin = ChannelsPlugin(
    backend=MemoryChannelsBackend(),
    channels=["foo", "bar"],
    create_ws_route_handlers=True,
)

app = Litestar(plugins=[channels_plugin])
