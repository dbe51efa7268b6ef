"""Channels with the shared frames of channels-uvicorn; otherwise as on stock uvicorn."""

from __future__ import annotations

from benchmarks.servers import channels_web


async def serve() -> None:
    await channels_web.serve(ws="channels.uvicorn:SansIOProtocol")
