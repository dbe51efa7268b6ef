from litestar import Litestar

from channels.core.memory import MemoryChannelsBackend
from channels.litestar import ChannelsPlugin

channels_plugin = ChannelsPlugin(
    backend=MemoryChannelsBackend(history=10),  # how many are kept of each channel
    channels=["foo", "bar"],
    create_ws_route_handlers=True,
    ws_handler_send_history=10,
)

app = Litestar(plugins=[channels_plugin])
