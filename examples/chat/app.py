"""The application: the page, and one WebSocket for each tab in a room."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from urllib.parse import urlsplit

import msgspec
from litestar import Litestar, WebSocket, websocket
from litestar.datastructures import MutableScopeHeaders, State
from litestar.di import NamedDependency
from litestar.exceptions import WebSocketDisconnect
from litestar.params import FromPath
from litestar.static_files import create_static_files_router
from litestar.types import Message, Scope

from channels.core import ChannelsException
from channels.litestar import ChannelsPlugin
from examples.chat.conversation import ROOMS, Conversation, flood_channel
from examples.chat.presence import CHANNEL, Presence

STATIC = Path(__file__).parent / "static"
HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; "
        "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}
REFUSED = 1008


def create_app(backend: str = "memory://?history=1000") -> Litestar:
    """Return the chat over a backend, given by its URL."""
    channels = ChannelsPlugin(
        backend, channels=[CHANNEL, *ROOMS, *(flood_channel(room) for room in ROOMS)]
    )

    @asynccontextmanager
    async def with_presence(app: Litestar) -> AsyncIterator[None]:
        app.state.presence = Presence(channels)
        async with app.state.presence.running():
            yield

    async def add_headers(message: Message, scope: Scope) -> None:
        if message["type"] == "http.response.start":
            MutableScopeHeaders.from_message(message).update(HEADERS)

    page = create_static_files_router("/", [STATIC], html_mode=True)
    return Litestar(
        [converse, page],
        plugins=[channels],
        lifespan=[with_presence],
        before_send=[add_headers],
        openapi_config=None,
        logging_config=None,
    )


@websocket("/rooms/{room:str}")
async def converse(
    socket: WebSocket,
    room: FromPath[str],
    channels: NamedDependency[ChannelsPlugin],
    state: State,
) -> None:
    """Let a browser into a room."""
    if room not in ROOMS or not comes_from_our_page(socket):
        await socket.close(REFUSED)
        return
    await socket.accept()
    try:
        await Conversation(socket, channels, state.presence, room).run()
    except WebSocketDisconnect:
        pass
    except (ChannelsException, msgspec.MsgspecError, TimeoutError) as exc:
        await socket.close(REFUSED, str(exc)[:100])


def comes_from_our_page(socket: WebSocket) -> bool:
    """Tell whether no other site's page opened this; browsers let every page open a WebSocket."""
    origin = socket.headers.get("origin")
    return origin is None or urlsplit(origin).netloc == socket.headers.get("host")
