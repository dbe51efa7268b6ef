"""One broker's connection to a plugin: its publisher, supervisor and router."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass

from channels.core._backend import ChannelsBackend, Message
from channels.core._errors import BackendException, NotRunningError
from channels.core._patience import Patience
from channels.core._publisher import Publisher
from channels.core._router import Router
from channels.core._supervisor import Supervisor
from channels.core._tasks import call

logger = logging.getLogger("channels")


@dataclass(frozen=True, kw_only=True)
class LinkOptions:
    """What a link is told by its plugin; times in seconds."""

    connect_timeout: float
    subscribe_timeout: float
    shutdown_timeout: float
    require_broker: bool
    max_pending: int
    retry_unconfirmed: bool
    on_gap: Callable[[str], None]
    on_publish_error: Callable[[Message, BackendException], None]


class Link:
    """From start to stop of a plugin on one event loop; made anew for the next start."""

    def __init__(self, backend: ChannelsBackend, options: LinkOptions) -> None:
        self.loop = asyncio.get_running_loop()
        self.backend = backend
        self._options = options
        self.router = Router(backend, options.on_gap, self._connected)
        self.patience = Patience(options.subscribe_timeout)
        self.publisher = Publisher(
            backend, options.max_pending, options.retry_unconfirmed, options.on_publish_error
        )
        self._supervisor = Supervisor(backend, self.router, options.connect_timeout)

    @property
    def outage(self) -> Exception | None:
        """Why there is no connection, None where there is one."""
        return self._supervisor.outage

    def _connected(self) -> None:
        self.publisher.nudge()

    async def open(self) -> None:
        """Enter the backend and connect.

        Raises:
            BackendException: The broker refuses, or is required and not there.
        """
        async with AsyncExitStack() as opened:
            opened.push_async_callback(self.publisher.close)
            await opened.enter_async_context(self.backend)
            opened.push_async_callback(self._supervisor.stop)
            await self._supervisor.start(require_broker=self._options.require_broker)
            opened.pop_all()

    async def close(self) -> None:
        """Send what is queued, end the streams, close; all within one deadline.

        Nothing stays open where a part fails, hangs or is cancelled.
        """
        self.publisher.refuse()
        deadline = self.loop.time() + self._options.shutdown_timeout
        async with AsyncExitStack() as steps:  # the last one first
            for step in (
                self._leave_backend,
                self.router.close,
                self._supervisor.stop,
                self._end_streams,
                self._end_publisher,
            ):
                steps.push_async_callback(self._finish, step, deadline)
            try:
                async with asyncio.timeout_at(deadline):
                    await self.publisher.drain()
            except TimeoutError:
                pass

    async def _finish(self, step: Callable[[], Awaitable[None]], deadline: float) -> None:
        try:
            # At least a moment: connections are closed even where nothing could be sent.
            async with asyncio.timeout_at(max(deadline, self.loop.time() + 1.0)):
                await call(step())
        except TimeoutError:
            logger.error("stopping: %s did not end within the deadline", step.__name__)
        except Exception:
            logger.exception("stopping: %s failed", step.__name__)

    async def _end_publisher(self) -> None:
        unsent = await self.publisher.close()
        if unsent:
            logger.error("stopped with %d events that could not be published", unsent)

    async def _end_streams(self) -> None:
        self.router.end_streams(NotRunningError("the plugin stopped"))
        self.patience.close()

    async def _leave_backend(self) -> None:
        await self.backend.__aexit__(None, None, None)
