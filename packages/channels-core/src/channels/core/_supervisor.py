"""Keeping one listener open, and the broker's subscriptions equal to what is wanted."""

from __future__ import annotations

import asyncio
import logging

from channels.core._backend import ChannelsBackend, Listener, Lost
from channels.core._backoff import Backoff
from channels.core._errors import (
    BackendException,
    BackendRefused,
    BackendUnavailable,
    ConfigurationError,
)
from channels.core._event import Event
from channels.core._outage import OutageLog
from channels.core._router import Router
from channels.core._tasks import call, end, give_way

logger = logging.getLogger("channels")

RETRY_REFUSED = 30.0
"""Seconds after which a channel that the broker refused is asked for again."""


PATIENCE = 1.05
"""How much longer an attempt may take than was asked for, and then the start.

A backend's own limit is as long by default. It shall come first, as it can say what it waited for.
"""


class Supervisor:
    """Keep one listener open, and open another when it breaks; nothing else reconnects.

    Args:
        backend: Makes the listeners.
        router: Knows what is wanted, and takes what arrives.
        connect_timeout: Seconds that one attempt to connect may take.
    """

    def __init__(
        self,
        backend: ChannelsBackend,
        router: Router,
        connect_timeout: float,
    ) -> None:
        self._backend = backend
        self._router = router
        self._connect_timeout = connect_timeout
        self._backoff = Backoff()
        self._task: asyncio.Task[None] | None = None
        self.outage: Exception | None = None
        """Why the last attempt to connect failed; None before the first and while connected."""

    async def start(self, *, require_broker: bool) -> None:
        """Connect; if that takes too long, go on trying in the background, until :meth:`stop`.

        Raises:
            BackendRefused: The broker will not have us.
            ConfigurationError: The backend finds only now that an option is wrong.
            BackendUnavailable: Not connected in time, and ``require_broker`` is set.
        """
        first = asyncio.get_running_loop().create_future()
        self._task = asyncio.create_task(self._run(first), name="channels-supervisor")
        try:
            async with asyncio.timeout(self._connect_timeout * PATIENCE**2):
                await asyncio.shield(first)
        except TimeoutError:
            reason = "" if self.outage is None else f": {self.outage}"
            message = f"no connection to the broker within {self._connect_timeout:g} s{reason}"
            if require_broker:
                raise BackendUnavailable(message) from self.outage
            logger.error("%s; going on without, and trying again", message)
        finally:
            first.cancel()  # nobody waits for it any more

    async def stop(self) -> None:
        """Close the connection and stop trying."""
        if self._task is not None:
            await end(self._task)
            self._task = None

    async def _run(self, first: asyncio.Future[None]) -> None:
        log = OutageLog(logger, asyncio.get_running_loop().time)
        while True:
            try:
                await call(self._connect_and_serve(first, log))
            except Exception as exc:
                if isinstance(exc, BackendRefused | ConfigurationError) and not first.done():
                    first.set_exception(exc)
                    return
                log.failed(exc)
                self.outage = exc
            give_way()
            await self._backoff.pause()

    async def _connect_and_serve(self, first: asyncio.Future[None], log: OutageLog) -> None:
        listening = self._backend.listen()
        try:
            async with asyncio.timeout(self._connect_timeout * PATIENCE):
                listener = await listening.__aenter__()
        except TimeoutError:
            raise BackendUnavailable(f"no connection within {self._connect_timeout:g} s") from None
        connection = Connection(listener, self._router, self._backoff)
        try:
            self._router.connect()
            self.outage = None
            log.connected()
            if not first.done():
                first.set_result(None)
            await connection.serve()
        finally:
            self._router.disconnect()
            await listening.__aexit__(None, None, None)


class Connection:
    """One listener's life: read what arrives, and make its subscriptions equal to what is wanted.

    Invariants:
        * ``_actual`` holds the names that the broker has confirmed on this connection, less
          those that it was told to drop.
    """

    def __init__(self, listener: Listener, router: Router, backoff: Backoff) -> None:
        self._listener = listener
        self._router = router
        self._backoff = backoff
        self._actual: set[str] = set()
        self._retries: dict[str, asyncio.TimerHandle] = {}
        self._lost: set[str] = set()

    async def serve(self) -> None:
        """Run until the connection is gone.

        Raises:
            BackendException: Why it is.
        """
        reader = asyncio.create_task(self._read(), name="channels-reader")
        reconciler = asyncio.create_task(self._reconcile(), name="channels-reconciler")
        try:
            await asyncio.wait({reader, reconciler}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for retry in self._retries.values():
                retry.cancel()
            await end(reader, reconciler)
            errors = [task.exception() for task in (reader, reconciler) if not task.cancelled()]
        raise next(filter(None, errors), BackendUnavailable("the listener ended"))

    async def _read(self) -> None:
        async for arrived in self._listener:
            events = arrived
            if Lost in map(type, arrived):
                events = [item for item in arrived if not self._is_lost(item)]
            if events:
                await self._router.take(events)  # type: ignore[arg-type]

    def _is_lost(self, item: Event | Lost) -> bool:
        if not isinstance(item, Lost):
            return False
        self._actual.difference_update(item.channels)
        self._lost.update(item.channels)
        self._router.unconfirm(item.channels)
        self._router.change(item.channels)
        return True

    async def _reconcile(self) -> None:
        router = self._router
        while True:
            while not router.changed:
                self._backoff.reset()
                await router.wake
            changed, router.changed = router.changed, {}
            add: list[str] = []
            drop: list[str] = []
            for name in changed:
                channel = router.channels.get(name)
                if channel is not None and channel.is_wanted:
                    if name not in self._actual:
                        add.append(name)
                    continue
                if channel is not None:
                    router.forget(channel)
                if name in self._actual:
                    drop.append(name)
            self._actual.difference_update(drop)
            if drop:
                await self._listener.unsubscribe(drop)
            if add:
                await self._subscribe(add)

    async def _subscribe(self, names: list[str]) -> None:
        self._lost.clear()
        try:
            tops = await self._listener.subscribe(names)
        except BackendUnavailable:
            raise
        except BackendException as exc:
            if len(names) > 1:
                middle = len(names) // 2
                await self._subscribe(names[:middle])
                await self._subscribe(names[middle:])
            else:
                self._refused(names[0], exc)
            return
        # Who left while this was under way is in `changed` again; the next pass drops it. So is
        # what was lost meanwhile, maybe just after it was subscribed; the next pass adds it.
        self._actual.update(names)
        if self._lost:
            self._actual -= self._lost
            tops = {name: top for name, top in tops.items() if name not in self._lost}
        self._router.confirm(tops)

    def _refused(self, name: str, error: BackendException) -> None:
        self._router.refuse(name, error)
        if (retry := self._retries.get(name)) is not None:
            retry.cancel()
        self._retries[name] = asyncio.get_running_loop().call_later(
            RETRY_REFUSED, self._try_again, name
        )

    def _try_again(self, name: str) -> None:
        del self._retries[name]
        self._router.change((name,))
