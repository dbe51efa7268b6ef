"""Channels with the shared frames of channels-uvicorn; otherwise as on stock uvicorn."""

from __future__ import annotations

from benchmarks.servers import channels_web
from benchmarks.servers.texts import Texts

WS = "channels.uvicorn:SansIOProtocol"


async def serve(texts: Texts) -> None:
    await channels_web.serve(texts, ws=WS)
