"""What both backends share: their servers, their bounds and their listener."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from typing import ClassVar
from urllib.parse import urlsplit

from channels.core import (
    ChannelsBackend,
    ConfigurationError,
    Listener,
    Message,
    NotRunningError,
    Outcome,
    PayloadTooLarge,
)
from channels.core.options import check_count, check_flag, check_seconds, check_type
from channels.redis._cluster import Cluster
from channels.redis._errors import why_failed
from channels.redis._keys import Keys
from channels.redis._listener import RedisListener
from channels.redis._resp import Reply, command
from channels.redis._servers import OneServer, Replicas, Servers, Timing
from channels.redis._settings import Client, ClusterSeeds, from_client, from_url
from channels.redis._wire import Pipeline


class RedisBackend(ChannelsBackend):
    """Own the pipelines to the servers while the backend is open."""

    _schemes: ClassVar[tuple[str, ...]]
    _needs_run_id: ClassVar[bool]

    def __init__(
        self,
        url: str | None,
        redis: Client | None,
        *,
        cluster: bool,
        sentinel: str | None,
        sentinel_username: str | None,
        sentinel_password: str | None,
        key_prefix: str,
        connect_timeout: float,
        timeout: float,
        heartbeat: float,
        max_payload: int,
        wait_replicas: int = 0,
    ) -> None:
        check_seconds(connect_timeout=connect_timeout, timeout=timeout, heartbeat=heartbeat)
        check_count(1, max_payload=max_payload)
        check_flag(cluster=cluster)
        check_type(str, "a text", key_prefix=key_prefix)
        if (url is None) is (redis is None):
            raise ConfigurationError("pass either a URL or redis=client")
        if url is not None:
            scheme = urlsplit(url).scheme
            if scheme not in self._schemes:
                raise ConfigurationError(
                    f"{f'{scheme}://' if scheme else 'nothing'} is no scheme of "
                    f"{type(self).__name__}; it takes "
                    f"{', '.join(f'{each}://' for each in self._schemes)}"
                )
            self._deployment = from_url(
                url,
                cluster=cluster,
                sentinel=sentinel,
                sentinel_username=sentinel_username,
                sentinel_password=sentinel_password,
            )
        else:
            if cluster or sentinel or sentinel_username or sentinel_password:
                raise ConfigurationError("with redis=, the client says cluster and Sentinel")
            self._deployment = from_client(redis)
        self._is_cluster = isinstance(self._deployment, ClusterSeeds)
        self.max_payload = max_payload
        self.unknown_frames = 0
        """How many messages were dropped as being of a version that is not known here."""
        self._timing = Timing(connect_timeout, timeout, heartbeat)
        self._keys = Keys(key_prefix, self._deployment.target.database)
        patience = max(1, int(timeout / 2 * 1000))
        self._replicas = Replicas(wait_replicas, command("WAIT", wait_replicas, patience))
        self._running: Servers | None = None

    async def open(self) -> None:
        if isinstance(self._deployment, ClusterSeeds):
            self._running = Cluster(self._deployment, self._timing, run_id=self._needs_run_id)
        else:
            self._running = OneServer(self._deployment, self._timing, run_id=self._needs_run_id)

    async def close(self) -> None:
        servers, self._running = self._running, None
        if servers is not None:
            await servers.close()

    async def publish(self, messages: Sequence[Message]) -> Sequence[Outcome]:
        outcomes: list[Outcome] = [None] * len(messages)
        places: list[int] = []
        for place, (channel, data) in enumerate(messages):
            if len(data) > self.max_payload:
                outcomes[place] = PayloadTooLarge(channel, len(data), self.max_payload)
            else:
                places.append(place)
        if not places:
            return outcomes
        servers, tag = self._servers, self._keys.tag
        answers = await servers.run(
            [tag(messages[place].channel) for place in places],
            lambda pipeline, chosen: self._pack(pipeline, [messages[places[at]] for at in chosen]),
            replicas=self._replicas,
        )
        for place, answer in zip(places, answers, strict=True):
            error = why_failed(answer, publishing=True)
            outcomes[place] = self._outcome(answer) if error is None else error  # type: ignore[arg-type]
        return outcomes

    @asynccontextmanager
    async def listen(self) -> AsyncGenerator[Listener]:
        listener = self._make_listener()
        try:
            await listener.open()
            yield listener
        finally:
            await listener.close()

    @property
    def _servers(self) -> Servers:
        if self._running is None:
            raise NotRunningError(f"{type(self).__name__} is not open: use it in `async with`")
        return self._running

    @abstractmethod
    def _pack(self, pipeline: Pipeline, messages: Sequence[Message]) -> list[bytes]:
        """Make the commands that publish."""

    @abstractmethod
    def _outcome(self, answer: Reply) -> Outcome:
        """Read a reply to one of them."""

    @abstractmethod
    def _make_listener(self) -> RedisListener:
        """Make a listener that is not open yet."""
