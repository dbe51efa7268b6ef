"""Redis and Valkey as brokers: Pub/Sub for the lowest latency, streams for history."""

from channels.redis._pubsub import RedisChannelsPubSubBackend
from channels.redis._stream import RedisChannelsStreamBackend

__all__ = ("RedisChannelsPubSubBackend", "RedisChannelsStreamBackend")
