"""Raw ASGI on the protocol of channels-uvicorn, for what a connection costs without a library."""

from __future__ import annotations

from benchmarks.servers import asgi_web, frames_web
from benchmarks.servers.texts import Texts


async def serve(texts: Texts) -> None:
    await asgi_web.serve(texts, ws=frames_web.WS)
