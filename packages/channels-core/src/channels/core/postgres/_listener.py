"""A listening connection."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence

from channels.core._backend import Lost
from channels.core._errors import BackendException, BackendRefused
from channels.core._event import Event, Position
from channels.core._tasks import end
from channels.core.postgres._arrivals import Arrivals, Resolve
from channels.core.postgres._frame import UnknownFrameError, notify_name, read
from channels.core.postgres._lane import ask, close, deadline
from channels.core.postgres._port import Connection, ConnectionLost
from channels.core.postgres._schema import Server

_AT_ONCE = 1_000

Tops = Callable[[Connection, Sequence[str]], Awaitable[Mapping[str, Position | None]]]


class NotifiedListener:
    """LISTEN on a connection of its own; the server wakes it, and while idle it asks for life.

    Args:
        connection: New; it is closed with the listener.
        server: What is on its other end.
        resolve: Reads payloads that did not fit a notification.
        tops: Reads where channels stand; None without history.
        unknown_frame: Told of each frame that this release cannot read.
        heartbeat: Seconds between two signs of life while nothing arrives; the next must come
            within as many again.
        seconds: How long a statement may take.
    """

    def __init__(
        self,
        connection: Connection,
        server: Server,
        *,
        resolve: Resolve,
        tops: Tops | None,
        unknown_frame: Callable[[str, UnknownFrameError], None],
        heartbeat: float,
        seconds: float,
    ) -> None:
        self._connection = connection
        self._server = server
        self._tops = tops
        self._unknown_frame = unknown_frame
        self._heartbeat = heartbeat
        self._seconds = seconds
        self._loop = asyncio.get_running_loop()
        self._arrivals = Arrivals(resolve)
        self._lock = asyncio.Lock()
        self._heard = self._loop.time()
        self._proof: asyncio.Future[None] | None = None
        self._alive: asyncio.Task[None] | None = None

    async def start(self, notify: Callable[[str], Awaitable[None]]) -> None:
        """Prove that notifications come through, then watch over the connection.

        A pooler in transaction mode answers to LISTEN and delivers nothing. What such a session
        sends to itself may come through all the same, so behind a pooler another one sends it.

        Args:
            notify: Sends an empty notification from another session.

        Raises:
            BackendUnavailable: The connection is gone.
            BackendRefused: Nothing came.
        """
        self._connection.watch(self._notified, self._lost)
        probe = f"$probe{secrets.token_hex(8)}"
        self._proof = self._loop.create_future()
        with deadline(self._connection, self._seconds):
            await self._connection.listen([probe])
            if self._server.direct:
                await self._connection.run(f"NOTIFY {_quoted(probe)}")
        try:
            if not self._server.direct:
                await notify(probe)
            async with asyncio.timeout(min(2.0, self._seconds)):
                await self._proof
        except TimeoutError as exc:
            raise BackendRefused(
                "PostgreSQL: LISTEN was confirmed, but a notification did not come through. This "
                "is what a pooler in transaction mode does (pgbouncer): listen on a direct "
                "connection, or through one with pool_mode=session"
            ) from exc
        with deadline(self._connection, self._seconds):
            await self._connection.unlisten([probe])
        self._proof = None
        self._alive = asyncio.create_task(self._stay_alive(), name="channels-postgres-heartbeat")

    async def close(self) -> None:
        """End the connection, within about a second."""
        if self._alive is not None:
            await end(self._alive)
        await self._arrivals.close()
        await close(self._connection)

    async def subscribe(self, channels: Sequence[str]) -> Mapping[str, Position | None]:
        async with self._lock:
            for some in _portions(self._listened(channels)):
                with deadline(self._connection, self._seconds):
                    await self._connection.listen(some)
            if self._tops is None:
                return dict.fromkeys(channels)
            return await self._tops(self._connection, channels)

    async def unsubscribe(self, channels: Sequence[str]) -> None:
        async with self._lock:
            for some in _portions(self._listened(channels)):
                with deadline(self._connection, self._seconds):
                    await self._connection.unlisten(some)

    def __aiter__(self) -> AsyncIterator[Sequence[Event | Lost]]:
        return aiter(self._arrivals)

    def _listened(self, channels: Sequence[str]) -> list[str]:
        return [notify_name(channel, self._server.utf8) for channel in channels]

    def _notified(self, listened: str, payload: str) -> None:
        self._heard = self._loop.time()
        if self._proof is not None:
            if not self._proof.done():
                self._proof.set_result(None)
            return
        try:
            self._arrivals.add(read(listened, payload))
        except UnknownFrameError as exc:
            self._unknown_frame(listened, exc)

    def _lost(self) -> None:
        self._arrivals.fail(ConnectionLost("PostgreSQL: the listening connection is gone"))

    async def _stay_alive(self) -> None:
        try:
            while True:
                quiet = self._loop.time() - self._heard
                if quiet < self._heartbeat:
                    await asyncio.sleep(self._heartbeat - quiet)
                    continue
                async with self._lock:
                    await ask(self._connection, self._heartbeat, "SELECT 1")
                self._heard = self._loop.time()
        except BackendException as exc:
            self._arrivals.fail(exc)


def _portions(names: list[str]) -> list[list[str]]:
    return [names[start : start + _AT_ONCE] for start in range(0, len(names), _AT_ONCE)]


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'
