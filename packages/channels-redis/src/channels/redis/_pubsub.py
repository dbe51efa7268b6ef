"""Publish and subscribe without a record."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import ClassVar

from channels.core import Event, Message, Outcome
from channels.redis._backend import RedisBackend
from channels.redis._listener import RedisListener, Subscription
from channels.redis._resp import Reply, argument
from channels.redis._settings import Client
from channels.redis._wire import Pipeline

_MAX_PAYLOAD = 1024 * 1024


class RedisChannelsPubSubBackend(RedisBackend):
    """Redis or Valkey Pub/Sub: the lowest latency, and no history.

    What is published while a listener's connection is down does not reach it; the plugin then
    calls ``on_gap`` for each of its channels. Anybody can publish: ``PUBLISH`` to the topic
    ``channels:{name}:p0`` with the key prefix, the channel and the number of the database.

    A dead connection is noticed within twice ``heartbeat``; :meth:`publish` comes back within
    ``heartbeat + connect_timeout + timeout``.

    Args:
        url: ``redis://``, ``rediss://`` (TLS) or ``unix://``, with what redis-py takes in its
            query. Several hosts, separated by commas, for a cluster or Sentinels.
        redis: A client of ``redis.asyncio``, whose settings are used instead of a URL. Its
            connections, retries and decoding are not.
        cluster: Whether the URL names members of a cluster; Pub/Sub is sharded there.
        sentinel: The master's name, if the URL names Sentinels.
        sentinel_username: For the Sentinels' own login; the URL's is for the master.
        sentinel_password: The same.
        key_prefix: What keeps users of one server apart. Default "channels".
        connect_timeout: Seconds for making a connection. Default 5.
        timeout: Seconds for the replies to a batch. Default 5.
        heartbeat: Seconds between signs of life that a connection must give. Default 5.
        max_payload: The largest event in bytes. Default 1 MiB.

    Raises:
        ConfigurationError: The URL or client cannot be used, or options contradict each other.
    """

    keeps_history = False
    _schemes: ClassVar[tuple[str, ...]] = ("redis", "rediss", "unix")
    _needs_run_id: ClassVar[bool] = False

    def __init__(
        self,
        url: str | None = None,
        *,
        redis: Client | None = None,
        cluster: bool = False,
        sentinel: str | None = None,
        sentinel_username: str | None = None,
        sentinel_password: str | None = None,
        key_prefix: str = "channels",
        connect_timeout: float = 5.0,
        timeout: float = 5.0,
        heartbeat: float = 5.0,
        max_payload: int = _MAX_PAYLOAD,
    ) -> None:
        super().__init__(
            url,
            redis,
            cluster=cluster,
            sentinel=sentinel,
            sentinel_username=sentinel_username,
            sentinel_password=sentinel_password,
            key_prefix=key_prefix,
            connect_timeout=connect_timeout,
            timeout=timeout,
            heartbeat=heartbeat,
            max_payload=max_payload,
        )
        verb = "SPUBLISH" if self._is_cluster else "PUBLISH"
        self._verb = b"*3\r\n" + argument(verb)
        self._head = lru_cache(10_000)(self._make_head)

    def _make_head(self, channel: str) -> bytes:
        return self._verb + argument(self._keys.plain(channel))

    def _pack(self, pipeline: Pipeline, messages: Sequence[Message]) -> list[bytes]:
        head = self._head
        return [b"%b$%d\r\n%b\r\n" % (head(channel), len(data), data) for channel, data in messages]

    def _outcome(self, answer: Reply) -> Outcome:
        return None

    def _make_listener(self) -> RedisListener:
        return RedisListener(self._servers, self._timing.heartbeat, self._keys.plain, _read)


def _read(subscription: Subscription, data: bytes) -> Event:
    return Event(data, subscription.channel)
