"""A broker in one SQLite file, for the processes of one machine.

The file is the record. What wakes the listeners of all processes is a doorbell: each has a Unix
datagram socket in a folder, there while somebody listens; who published sends a byte to each.
"""

from __future__ import annotations

import asyncio
import fcntl
import hashlib
import secrets
import tempfile
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from socket import AF_UNIX, MSG_DONTWAIT, SOCK_DGRAM, socket
from sqlite3 import Connection, Error, connect
from typing import Self, TypeVar
from urllib.parse import unquote

from channels import core
from channels.core import Event, History, HistoryRequest, Message, Outcome, Position

T = TypeVar("T")
LAG = 1000  # events that stay beyond the history, for listeners that have not read them yet
SCHEMA = """PRAGMA journal_mode = WAL; PRAGMA synchronous = NORMAL;
    CREATE TABLE IF NOT EXISTS record (channel TEXT PRIMARY KEY, epoch TEXT, top INTEGER);
    CREATE TABLE IF NOT EXISTS event (
        id INTEGER PRIMARY KEY AUTOINCREMENT, channel TEXT, epoch TEXT, place INTEGER, data BLOB);
    CREATE UNIQUE INDEX IF NOT EXISTS places ON event (channel, place);"""
NEXT = """INSERT INTO record VALUES (?, ?, 1)
    ON CONFLICT (channel) DO UPDATE SET top = top + 1 RETURNING epoch, top"""
INSERT = "INSERT INTO event (channel, epoch, place, data) VALUES (?, ?, ?, ?)"
TRIM = "DELETE FROM event WHERE channel = ? AND place <= ?"
TOP = "SELECT epoch, top FROM record WHERE channel = ?"
KEPT = "SELECT place, data FROM event WHERE channel = ? AND place > ? ORDER BY place DESC LIMIT ?"
LAST = "SELECT coalesce(max(id), 0) FROM event"
NEWER = "SELECT id, channel, epoch, place, data FROM event WHERE id > ? ORDER BY id LIMIT 500"


class SQLiteChannelsBackend(core.ChannelsBackend):
    """Publish through a file, which any number of processes may share.

    Args:
        path: The database, made if missing. By URL: ``sqlite:///path``. Waits 5 s for others.
        history: How many events to keep per channel. Default 100.
    """

    keeps_history = True

    def __init__(self, path: str | Path, *, history: int = 100) -> None:
        self._path = Path(path).absolute()
        self._history = history
        digest = hashlib.sha256(bytes(self._path)).hexdigest()
        self._doorbells = Path(tempfile.gettempdir(), f"channels-{digest[:16]}")
        self._thread: ThreadPoolExecutor | None = None
        self._database: Connection | None = None  # belongs to the thread

    @classmethod
    def _from_url(cls, url: str, options: Mapping[str, object]) -> Self:
        return super()._from_url(unquote(url.removeprefix("sqlite://")), options)

    async def open(self) -> None:
        self._thread = ThreadPoolExecutor(1, "sqlite")

    async def close(self) -> None:
        if self._thread is not None:
            self._thread.shutdown()
        if self._database is not None:
            self._database.close()
        self._thread = self._database = None

    async def run(self, work: Callable[..., T], *arguments: object) -> T:
        """Call ``work`` with the database, in its thread, one at a time and in order."""
        if self._thread is None:
            raise core.NotRunningError("the backend is not entered")
        loop = asyncio.get_running_loop()
        try:
            return await loop.run_in_executor(self._thread, self._connected, work, *arguments)
        except (Error, OSError) as exc:
            raise core.BackendUnavailable(f"{self._path}: {exc}") from exc

    def _connected(self, work: Callable[..., T], *arguments: object) -> T:
        if self._database is None:
            database = connect(self._path, isolation_level=None, check_same_thread=False)
            with Path(f"{self._path}.lock").open("w") as lock:  # here SQLite waits for nobody
                fcntl.flock(lock, fcntl.LOCK_EX)
                database.executescript(SCHEMA)
            self._database = database
        return work(self._database, *arguments)

    async def publish(self, messages: Sequence[Message]) -> Sequence[Outcome]:
        return await self.run(self._publish, messages)

    def _publish(self, database: Connection, messages: Sequence[Message]) -> Sequence[Outcome]:
        with database:  # commits, or rolls back
            database.execute("BEGIN IMMEDIATE")
            outcomes = [self._write(database, *message) for message in messages]
        self._ring()
        return outcomes

    def _write(self, database: Connection, channel: str, data: bytes) -> Outcome:
        if len(data) > self.max_payload:
            return core.PayloadTooLarge(channel, len(data), self.max_payload)
        [place] = database.execute(NEXT, (channel, secrets.token_hex(8)))
        position = Position(*place)
        database.execute(INSERT, (channel, *position, data))
        database.execute(TRIM, (channel, position.offset - self._history - LAG))
        return position

    def _ring(self) -> None:
        with suppress(FileNotFoundError), socket(AF_UNIX, SOCK_DGRAM) as sender:  # nobody listens
            for doorbell in self._doorbells.iterdir():
                try:
                    sender.sendto(b"!", MSG_DONTWAIT, str(doorbell))
                except OSError as exc:
                    if not isinstance(exc, BlockingIOError):  # else it rings already
                        doorbell.unlink(missing_ok=True)  # of a process that was killed

    async def get_history(self, requests: Sequence[HistoryRequest]) -> Sequence[History]:
        return await self.run(self._read_all, requests)

    def _read_all(self, database: Connection, requests: Sequence[HistoryRequest]) -> list[History]:
        with database:
            database.execute("BEGIN")
            return [self._read(database, request) for request in requests]

    def _read(self, database: Connection, request: HistoryRequest) -> History:
        channel, limit, since = request
        top = read_top(database, channel)
        if top is None:
            return History((), None, since is None or since == core.BEGINNING)
        known = since is not None and (since == core.BEGINNING or since.epoch == top.epoch)
        after = since.offset if since is not None and known else 0
        start = max(after, top.offset - self._history)
        rows = database.execute(KEPT, (channel, start, -1 if limit is None else limit)).fetchall()
        events = [Event(data, channel, Position(top.epoch, place)) for place, data in rows[::-1]]
        return History(events, top, since is None or (known and len(rows) == top.offset - after))

    @asynccontextmanager
    async def listen(self) -> AsyncIterator[core.Listener]:
        last = await self.run(lambda database: database.execute(LAST).fetchone()[0])
        doorbell = self._doorbells / secrets.token_hex(8)
        with socket(AF_UNIX, SOCK_DGRAM) as receiver:
            receiver.setblocking(False)
            await self.run(lambda _: self._doorbells.mkdir(mode=0o700, exist_ok=True))
            await self.run(lambda _: receiver.bind(str(doorbell)))
            try:
                yield SQLiteListener(self, receiver, last)
            finally:
                doorbell.unlink(missing_ok=True)
                with suppress(OSError):  # others listen
                    self._doorbells.rmdir()


class SQLiteListener:
    """Reads what is new whenever the doorbell rings. Its state belongs to the backend's thread."""

    def __init__(self, backend: SQLiteChannelsBackend, doorbell: socket, last: int) -> None:
        self._backend = backend
        self._doorbell = doorbell
        self._last = last
        self._tops: dict[str, Position | None] = {}

    async def subscribe(self, channels: Sequence[str]) -> dict[str, Position | None]:
        return await self._backend.run(self._subscribe, channels)

    def _subscribe(self, database: Connection, names: Sequence[str]) -> dict[str, Position | None]:
        self._tops |= (tops := {name: read_top(database, name) for name in names})
        return tops

    async def unsubscribe(self, channels: Sequence[str]) -> None:
        await self._backend.run(lambda _: [self._tops.pop(name, None) for name in channels])

    async def __aiter__(self) -> AsyncIterator[Sequence[Event]]:
        while True:
            if arrived := await self._backend.run(self._read):
                yield arrived
            else:
                await asyncio.get_running_loop().sock_recv(self._doorbell, 1)

    def _read(self, database: Connection) -> Sequence[Event]:
        events: list[Event] = []
        while not events and (rows := database.execute(NEWER, (self._last,)).fetchall()):
            self._last = rows[-1][0]
            for _, channel, epoch, place, data in rows:
                if channel not in self._tops:
                    continue
                top = self._tops[channel]  # what was there before subscribing is history's
                if top is None or epoch != top.epoch or place > top.offset:
                    events.append(Event(data, channel, Position(epoch, place)))
        return events


def read_top(database: Connection, channel: str) -> Position | None:
    row = database.execute(TOP, (channel,)).fetchone()
    return None if row is None else Position(*row)
