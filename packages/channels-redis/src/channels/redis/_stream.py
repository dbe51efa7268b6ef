"""Publish to a record that readers can go back to."""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from functools import lru_cache
from typing import ClassVar

from channels.core import (
    BackendException,
    ConfigurationError,
    Event,
    History,
    HistoryRequest,
    Listener,
    Message,
    Outcome,
    Position,
)
from channels.core.options import check_count, check_flag, check_seconds
from channels.redis import _record
from channels.redis._backend import RedisBackend
from channels.redis._errors import why_failed
from channels.redis._listener import RedisListener, Subscription
from channels.redis._resp import Reply, argument, long_command
from channels.redis._script import HISTORY, PUBLISH
from channels.redis._settings import Client
from channels.redis._wire import Pipeline

_MAX_PAYLOAD = 1024 * 1024
_WEEK = 7 * 24 * 3600.0
_TOPS_AT_ONCE = 1000
_logger = logging.getLogger("channels.redis")


class RedisChannelsStreamBackend(RedisBackend):
    """Redis or Valkey streams: history, positions, and resuming after a lost connection.

    A stream is each channel's record. The script that appends an event to it also publishes it,
    so readers never poll; a reader that was away reads on in the record.

    What ``publish`` gave a position for is in the record. A server that comes back without its
    last writes (a failover, a crash with lax persistence) makes the record go on under a new
    epoch, and readers that had gone further are told of a gap; ``wait_replicas`` narrows
    what a failover can lose.

    A dead connection is noticed within twice ``heartbeat``, a message that the server failed
    to pass on within ``tops_interval``; :meth:`publish` comes back within
    ``heartbeat + connect_timeout + timeout``.

    Args:
        url: ``redis+stream://``, ``rediss+stream://`` (TLS) or ``unix://``, with what redis-py
            takes in its query; without ``+stream`` too. Several hosts, separated by commas, for
            a cluster or Sentinels.
        redis: A client of ``redis.asyncio``, whose settings are used instead of a URL. Its
            connections, retries and decoding are not.
        history: How many events to keep per channel. Default 100.
        ttl: Seconds that a channel's events are kept after the last one. None keeps them for
            ever. Default one hour.
        meta_ttl: Seconds that a channel's position is kept after its last event (about 100 bytes
            per channel), so that readers who come back later than ``ttl`` know whether they
            missed something. Default ``ttl`` and a week; not less than ``ttl``.
        cap_streams_approximate: Let the server trim where it is cheap, in whole nodes, and keep up
            to a hundred events more (``stream-node-max-entries``). False keeps exactly
            ``history``, at about half the rate. Default True.
        wait_replicas: How many replicas must have an event before ``publish`` gives it a
            position; where they have not within half of ``timeout`` the outcome is
            ``PublishUnconfirmed``. Default 0.
        cluster: Whether the URL names members of a cluster; Pub/Sub is sharded there.
        sentinel: The master's name, if the URL names Sentinels.
        sentinel_username: For the Sentinels' own login; the URL's is for the master.
        sentinel_password: The same.
        key_prefix: What keeps users of one server apart. Default "channels".
        connect_timeout: Seconds for making a connection. Default 5.
        timeout: Seconds for the replies to a batch. Default 5.
        heartbeat: Seconds between signs of life that a connection must give. Default 5.
        tops_interval: Seconds between two looks at the records' tops. Default 60.
        max_payload: The largest event in bytes. Default 1 MiB.

    Raises:
        ConfigurationError: The URL or client cannot be used, or options contradict each other.
    """

    keeps_history = True
    _schemes: ClassVar[tuple[str, ...]] = (
        "redis+stream",
        "rediss+stream",
        "redis",
        "rediss",
        "unix",
    )
    _needs_run_id: ClassVar[bool] = True

    def __init__(
        self,
        url: str | None = None,
        *,
        redis: Client | None = None,
        history: int = 100,
        ttl: float | None = 3600.0,
        meta_ttl: float | None = None,
        cap_streams_approximate: bool = True,
        wait_replicas: int = 0,
        cluster: bool = False,
        sentinel: str | None = None,
        sentinel_username: str | None = None,
        sentinel_password: str | None = None,
        key_prefix: str = "channels",
        connect_timeout: float = 5.0,
        timeout: float = 5.0,
        heartbeat: float = 5.0,
        tops_interval: float = 60.0,
        max_payload: int = _MAX_PAYLOAD,
    ) -> None:
        check_count(1, takes="at least 1, or use Pub/Sub", history=history)
        check_seconds(or_none=True, ttl=ttl, meta_ttl=meta_ttl)
        check_flag(cap_streams_approximate=cap_streams_approximate)
        if meta_ttl is None:
            meta_ttl = None if ttl is None else ttl + _WEEK
        elif ttl is None or meta_ttl < ttl:
            raise ConfigurationError(f"meta_ttl={meta_ttl} must not be less than ttl={ttl}")
        check_count(0, wait_replicas=wait_replicas)
        check_seconds(tops_interval=tops_interval)
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
            wait_replicas=wait_replicas,
        )
        self._tops_interval = tops_interval
        trim = "~" if cap_streams_approximate else "="
        self._constants = b"".join(
            argument(word) for word in (trim, history, _milliseconds(ttl), _milliseconds(meta_ttl))
        )
        self._verb = argument("SPUBLISH" if self._is_cluster else "PUBLISH")
        self._metas_per_command = 1 if self._is_cluster else _TOPS_AT_ONCE  # a slot each
        self._head = lru_cache(10_000)(self._make_head)
        self._own_arguments = lru_cache(100)(self._make_own_arguments)

    async def get_history(self, requests: Sequence[HistoryRequest]) -> Sequence[History]:
        tags = [self._keys.tag(request.channel) for request in requests]
        answers = await self._servers.run(
            tags, lambda pipeline, chosen: self._pack_history([requests[at] for at in chosen])
        )
        histories: list[History] = []
        for request, answer in zip(requests, answers, strict=True):
            if (error := why_failed(answer)) is not None:
                raise error
            histories.append(_record.read_history(request, answer))
        return histories

    @asynccontextmanager
    async def listen(self) -> AsyncGenerator[Listener]:
        async with super().listen() as listener:
            assert isinstance(listener, RedisListener)
            watch = asyncio.create_task(self._watch_tops(listener))
            try:
                yield listener
            finally:
                watch.cancel()
                await asyncio.wait([watch])

    async def flush_all(self) -> int:
        """Remove the records of all channels under this key prefix, and nothing else.

        Subscribers are told of a gap when their channel's next event comes. Visits all keys of
        the database a thousand at a time; meant for administration and tests.

        Returns:
            How many keys were removed.

        Raises:
            BackendUnavailable: A server cannot be reached; keys may have been removed.
            BackendException: A server refused.
        """
        return sum(
            [
                await _record.flush(pipeline, self._keys, self._timing.reply)
                for pipeline in await self._servers.pipelines()
            ]
        )

    def _pack(self, pipeline: Pipeline, messages: Sequence[Message]) -> list[bytes]:
        _, run_id, replication_id = pipeline.server
        if not pipeline.was_master_throughout():
            replication_id = b""  # the script is to ask for it
        head, own = self._head, self._own_arguments(run_id + replication_id)
        begin = PUBLISH.first
        commands: list[bytes] = []
        for channel, data in messages:
            commands.append(b"%b%b%b$%d\r\n%b\r\n" % (begin, head(channel), own, len(data), data))
            begin = PUBLISH.next
        return commands

    def _make_head(self, channel: str) -> bytes:
        keys = self._keys
        words = (keys.meta(channel), keys.stream(channel), keys.doorbell(channel))
        return b"".join(map(argument, words)) + self._verb

    def _make_own_arguments(self, life: bytes) -> bytes:
        return argument(life) + argument(secrets.token_hex(4)) + self._constants

    def _outcome(self, answer: Reply) -> Outcome:
        if not isinstance(answer, bytes):
            return BackendException(f"publishing was answered with {answer!r:.100}")
        return _record.read_position(answer)

    def _pack_history(self, requests: Sequence[HistoryRequest]) -> list[bytes]:
        begin = HISTORY.first
        commands: list[bytes] = []
        for channel, limit, since in requests:
            epoch, offset = since or _record.START
            keys = argument(self._keys.meta(channel)) + argument(self._keys.stream(channel))
            after = argument(epoch) + argument(offset)
            commands.append(begin + keys + after + argument(-1 if limit is None else limit))
            begin = HISTORY.next
        return commands

    def _make_listener(self) -> RedisListener:
        return RedisListener(
            self._servers,
            self._timing.heartbeat,
            self._keys.doorbell,
            self._read_doorbell,
            self._note_tops,
        )

    def _read_doorbell(self, subscription: Subscription, frame: bytes) -> Event | None:
        event = _record.read_doorbell(subscription.channel, frame)
        if event is None:
            self.unknown_frames += 1
            if self.unknown_frames == 1:
                _logger.warning(
                    "dropped a message of an unknown version for channel %r; is another "
                    "version of channels-redis publishing? Further ones are only counted",
                    subscription.channel,
                )
        else:
            subscription.position = event.position
        return event

    async def _note_tops(self, subscriptions: Sequence[Subscription]) -> Sequence[Position | None]:
        tops: list[Position | None] = []
        metas = await self._read_metas(subscriptions)
        for subscription, meta in zip(subscriptions, metas, strict=True):
            subscription.seen = meta
            subscription.position = None if meta is None else _record.read_meta(meta)
            tops.append(subscription.position)
        return tops

    async def _watch_tops(self, listener: RedisListener) -> None:
        """Find events whose message was lost on a connection that lives.

        A command at a time: with many channels the loop runs in between.
        """
        try:
            while True:
                await asyncio.sleep(self._tops_interval)
                subscriptions = listener.subscriptions
                moved: list[tuple[Subscription, bytes]] = []
                for start in range(0, len(subscriptions), _TOPS_AT_ONCE):
                    some = subscriptions[start : start + _TOPS_AT_ONCE]
                    metas = await self._read_metas(some)
                    moved += [
                        (subscription, meta)
                        for subscription, meta in zip(some, metas, strict=True)
                        if meta is not None and meta != subscription.seen
                    ]
                if moved:
                    await listener.catch_up()
                    listener.lose(_find_behind(moved))
        except BackendException as exc:
            listener.fail(exc)

    async def _read_metas(self, subscriptions: Sequence[Subscription]) -> list[bytes | None]:
        """Read records' tops, many in each command where they may share one."""
        count = self._metas_per_command
        keys = self._keys.metas([each.topic for each in subscriptions])
        answers = await self._servers.run(
            [each.tag for each in subscriptions[::count]],
            lambda pipeline, chosen: [
                long_command(b"MGET", keys[at * count : (at + 1) * count]) for at in chosen
            ],
        )
        metas: list[bytes | None] = []
        for answer in answers:
            if (error := why_failed(answer)) is not None:
                raise error
            metas += answer  # type: ignore[arg-type]
        return metas


def _find_behind(moved: Sequence[tuple[Subscription, bytes]]) -> list[str]:
    """Return the channels whose records go beyond what has arrived, and note that it was seen."""
    behind: list[str] = []
    for subscription, meta in moved:
        subscription.seen = meta
        if _record.is_behind(subscription.position, _record.read_meta(meta)):
            behind.append(subscription.channel)
    return behind


def _milliseconds(seconds: float | None) -> int:
    """Return at least one, as 0 means for ever."""
    return 0 if seconds is None else max(1, round(seconds * 1000))
