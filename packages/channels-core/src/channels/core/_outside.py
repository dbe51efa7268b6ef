"""Publishing from where no plugin runs: cron jobs, task queues, management scripts."""

from __future__ import annotations

import asyncio
import atexit
import concurrent.futures
import logging
import os
import threading
import weakref
from collections.abc import Coroutine, Iterable
from contextlib import suppress
from types import TracebackType
from typing import Any, Self, TypeVar

from channels.core._backend import ChannelsBackend, Message
from channels.core._encode import Encoder, TypeEncoders
from channels.core._errors import (
    BackendException,
    ConfigurationError,
    NotRunningError,
    PayloadTooLarge,
    PublishUnconfirmed,
)
from channels.core._lookup import as_backend
from channels.core._names import check_name, expand
from channels.core._publisher import Publisher
from channels.core._tasks import end

T = TypeVar("T")

logger = logging.getLogger("channels")

CLOSE_TIMEOUT = 10.0
"""Seconds that closing takes at most; backends promise to be done sooner."""


class AsyncPublisher:
    """Publish from an asyncio program that subscribes to nothing.

    ::

        async with AsyncPublisher("redis://localhost/0") as publisher:
            await publisher.publish({"state": "done"}, "jobs")

    Any channel may be named: which ones exist is known to those who subscribe.

    Args:
        backend: An instance, or a URL (see :func:`load_backend`).
        type_encoders: Functions that turn instances of a type into something JSON knows.
        encoder: What encodes instead. Default: one for ``type_encoders``.

    Raises:
        ConfigurationError: The URL names no backend.
    """

    def __init__(
        self,
        backend: ChannelsBackend | str,
        *,
        type_encoders: TypeEncoders | None = None,
        encoder: Encoder | None = None,
    ) -> None:
        self._backend = as_backend(backend)
        self._encoder = Encoder(type_encoders) if encoder is None else encoder
        self._publisher: Publisher | None = None

    async def __aenter__(self) -> Self:
        if self._publisher is not None:
            raise NotRunningError("the publisher is in use already")
        await self._backend.__aenter__()
        self._publisher = Publisher(self._backend, 1, False, _ignore)
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        publisher, self._publisher = self._publisher, None
        assert publisher is not None
        try:
            await publisher.close()
        finally:
            await self._backend.__aexit__(exc_type, exc, traceback)

    async def publish(self, data: object, channels: str | Iterable[str]) -> dict[str, str]:
        """Publish ``data`` to ``channels`` and wait until the broker has it.

        Concurrent calls share round trips.

        Returns:
            The new event's id for each channel; empty where the backend keeps no history.

        Raises:
            NotRunningError: Used outside of its context.
            InvalidChannelNameError: Something is no channel name; nothing was published.
            EncodeError: ``data`` cannot be encoded.
            PayloadTooLarge: It exceeds the backend's ``max_payload``.
            BackendUnavailable: The broker cannot be reached; it was not sent, and is not retried.
            PublishUnconfirmed: It was sent and the reply lost; it may have been published.
        """
        if self._publisher is None:
            raise NotRunningError("use the publisher inside 'async with publisher:'")
        names = [check_name(name) for name in expand(channels)]
        payload = self._encoder(data)
        if names and len(payload) > self._backend.max_payload:
            raise PayloadTooLarge(names[0], len(payload), self._backend.max_payload)
        messages = [Message(name, payload) for name in names]
        outcomes = await self._publisher.publish(messages) if messages else ()
        ids: dict[str, str] = {}
        for message, outcome in zip(messages, outcomes, strict=True):
            if isinstance(outcome, BackendException):
                raise outcome
            if outcome is not None:
                ids[message.channel] = str(outcome)
        return ids


class SyncPublisher:
    """Publish from code without an event loop, from any thread.

    ::

        publisher = SyncPublisher("redis://localhost/0")  # at import, if you like


        @celery.task
        def work() -> None:
            publisher.publish({"state": "done"}, "jobs")

    Connects at the first :meth:`publish`, in a thread of its own, which it keeps until
    :meth:`close` or the end of the program. In a process that was forked it connects anew.

    Args:
        backend: A URL, or an instance that no event loop uses besides.
        type_encoders: Functions that turn instances of a type into something JSON knows.
        encoder: What encodes instead. Default: one for ``type_encoders``.

    Raises:
        ConfigurationError: The URL names no backend.
    """

    def __init__(
        self,
        backend: ChannelsBackend | str,
        *,
        type_encoders: TypeEncoders | None = None,
        encoder: Encoder | None = None,
    ) -> None:
        self._backend = backend
        self._encoder = Encoder(type_encoders) if encoder is None else encoder
        self._publisher = AsyncPublisher(backend, encoder=self._encoder)
        self._thread: _LoopThread | None = None
        self._lock = threading.Lock()
        _publishers.add(self)

    def publish(self, data: object, channels: str | Iterable[str]) -> dict[str, str]:
        """Publish ``data`` to ``channels`` and block until the broker has it.

        Returns:
            The new event's id for each channel; empty where the backend keeps no history.

        Raises:
            PublishUnconfirmed: Another thread closed the publisher meanwhile.
            ChannelsException: As :meth:`AsyncPublisher.publish`.
        """
        try:
            return self._running().run(self._publisher.publish(data, channels))
        except concurrent.futures.CancelledError:
            raise PublishUnconfirmed("the publisher was closed before the reply came") from None

    def close(self) -> None:
        """Disconnect, and end the thread; the next :meth:`publish` connects again."""
        with self._lock:
            thread, self._thread = self._thread, None
            _connected.discard(self)
            if thread is not None:
                try:
                    thread.run(self._publisher.__aexit__(None, None, None), CLOSE_TIMEOUT)
                finally:
                    thread.stop()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def _running(self) -> _LoopThread:
        with self._lock:
            if self._thread is None:
                thread = _LoopThread()
                try:
                    thread.run(self._publisher.__aenter__())
                except BaseException:
                    thread.stop()
                    raise
                self._thread = thread
                _connected.add(self)
            return self._thread

    def _begin_after_fork(self) -> None:
        """Leave connections and lock to the parent process, whose they are."""
        self._lock = threading.Lock()
        _connected.discard(self)
        if self._thread is None:
            return
        self._thread = None
        if isinstance(self._backend, str):
            self._publisher = AsyncPublisher(self._backend, encoder=self._encoder)
        else:
            self._publisher = _Forked(self._backend)


class _Forked(AsyncPublisher):
    """Stands where a backend's instance belongs to the parent process."""

    async def __aenter__(self) -> Self:
        raise ConfigurationError(
            "the backend was connected before this process was forked: give SyncPublisher a URL"
        )


class _LoopThread:
    """An event loop in a thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._stopping = False
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(
            target=self._loop.run_forever, name="channels-sync-publisher", daemon=True
        )
        self._thread.start()

    def run(self, work: Coroutine[Any, Any, T], timeout: float | None = None) -> T:
        """Wait for ``work``, or until the thread is stopped.

        Raises:
            NotRunningError: It was stopped before.
            concurrent.futures.CancelledError: It was stopped meanwhile.
        """
        with self._lock:
            if self._stopping:
                work.close()
                raise NotRunningError("the publisher was closed by another thread")
            running = asyncio.run_coroutine_threadsafe(work, self._loop)
        return running.result(timeout)

    def stop(self) -> None:
        """Cancel what still runs, whose callers would wait for ever, and end the thread."""
        with self._lock:
            self._stopping = True
        with suppress(TimeoutError):
            asyncio.run_coroutine_threadsafe(_cancel_others(), self._loop).result(CLOSE_TIMEOUT)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()


async def _cancel_others() -> None:
    await end(*(task for task in asyncio.all_tasks() if task is not asyncio.current_task()))


_publishers: weakref.WeakSet[SyncPublisher] = weakref.WeakSet()
# Kept from the garbage collector: a thread cannot be waited for there.
_connected: set[SyncPublisher] = set()


def _close_all_at_exit() -> None:
    for publisher in list(_connected):
        try:
            publisher.close()
        except Exception:
            logger.exception("a publisher failed to close")


atexit.register(_close_all_at_exit)


def _begin_all_after_fork() -> None:
    for publisher in list(_publishers):
        publisher._begin_after_fork()


def _ignore(message: Message, error: BackendException) -> None:
    """Nothing is queued, so nothing of the queue is given up."""


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_begin_all_after_fork)
