from litestar import Litestar

from channels.core.memory import MemoryChannelsBackend
from channels.litestar import ChannelsPlugin

channels_plugin = ChannelsPlugin(
    backend=MemoryChannelsBackend(),
    arbitrary_channels_allowed=True,
    create_ws_route_handlers=True,
    ws_handler_base_path="/ws",
)

app = Litestar(plugins=[channels_plugin])
