"""Django Channels: a consumer in a group, over channels_redis' Pub/Sub layer, on uvicorn."""

from __future__ import annotations

import asyncio
import os
from typing import Any

import django
from django.conf import settings
from django.urls import path

from benchmarks.servers import harness
from benchmarks.servers.texts import Texts
from channels.consumer import AsyncConsumer
from channels.layers import get_channel_layer
from channels.routing import URLRouter


class Consumer(AsyncConsumer):  # type: ignore[misc]
    """Sends what its group gets."""

    async def websocket_connect(self, message: dict[str, Any]) -> None:
        await self.channel_layer.group_add("news", self.channel_name)
        await self.send({"type": "websocket.accept"})

    async def news_event(self, message: dict[str, Any]) -> None:
        await self.send({"type": "websocket.send", "text": message["text"]})


async def serve(texts: Texts) -> None:
    layer = {
        "BACKEND": "channels_redis.pubsub.RedisPubSubChannelLayer",
        "CONFIG": {"hosts": [os.environ["BENCHMARKS_BROKER"]]},
    }
    settings.configure(CHANNEL_LAYERS={"default": layer})
    django.setup()
    publishing: set[asyncio.Task[None]] = set()

    async def publish_all(count: int) -> None:
        for text in texts.take(count):
            await get_channel_layer().group_send("news", {"type": "news.event", "text": text})

    def publish(count: int) -> None:
        task = asyncio.create_task(publish_all(count))
        publishing.add(task)
        task.add_done_callback(publishing.discard)

    app = URLRouter([path("", Consumer.as_asgi())])
    await harness.serve_asgi(app, "/", publish, lifespan="off")
