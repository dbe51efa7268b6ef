"""Statements over libpq itself, woken by the socket."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Callable, Sequence
from typing import Any

import psycopg
from psycopg import pq
from psycopg.pq.abc import PGresult

RawConnection = psycopg.AsyncConnection[Any]
Notified = Callable[[str, str], None]
Answer = asyncio.Future[list[PGresult] | psycopg.OperationalError]


class Wire:
    """Run statements on a connection, one after another, and hear what comes unasked.

    psycopg's cursors register with the loop for each answer and, cancelled in the middle of one,
    wait for the server, which may be what does not answer. Here the socket stays registered, and
    an answer that nobody waits for any more is read all the same.

    Invariants:
        * From sending until the whole answer is read, or the connection has ended, the
          connection's lock is held and ``_answer`` is set, whoever waits.
        * The loop watches a duplicate of the socket, open until the connection is found to have
          ended or :meth:`stop` is called: libpq may close the original at any time.

    Args:
        raw: The connection; while it is on the wire, psycopg itself sends nothing over it.
        encoding: Of what the server sends as text.
    """

    def __init__(self, raw: RawConnection, encoding: str) -> None:
        self._raw = raw
        self._pgconn = raw.pgconn
        self._encoding = encoding
        self._answer: Answer | None = None
        self._results: list[PGresult] = []
        self._notified: Notified | None = None
        self._lost: Callable[[], None] | None = None
        self._loop = asyncio.get_running_loop()
        self._fd: int | None = os.dup(raw.fileno())
        self._loop.add_reader(self._fd, self._readable)

    def watch(self, notified: Notified, lost: Callable[[], None]) -> None:
        """Hand over notifications from now on, and tell when the connection has ended."""
        self._notified = notified
        self._lost = lost

    def look(self) -> None:
        """Take notice of what has come, without waiting for the loop to say so."""
        for _ in range(2):  # the first may find the server's last words, the second the end
            if self._fd is not None:
                self._readable()

    @property
    def ended(self) -> bool:
        """Whether the connection is known to have ended, or was let go of."""
        return self._fd is None

    async def query(self, query: bytes, params: Sequence[bytes | None]) -> PGresult:
        """Run one statement; parameters as text, the result binary."""
        return await self._last(self._pgconn.send_query_params, query, params, None, None, 1)

    async def prepare(self, name: bytes, query: bytes) -> None:
        """Prepare a statement."""
        await self._last(self._pgconn.send_prepare, name, query)

    async def execute(self, name: bytes, params: Sequence[bytes | None]) -> PGresult:
        """Run a prepared statement; parameters as text, the result binary."""
        return await self._last(self._pgconn.send_query_prepared, name, params, None, 1)

    async def run(self, script: bytes) -> None:
        """Run statements without parameters."""
        await self._last(self._pgconn.send_query, script)

    def shut_down(self) -> None:
        """End the connection beneath libpq; who waits for an answer hears of it."""
        if self._fd is None:
            return
        try:
            with socket.socket(fileno=os.dup(self._fd)) as beneath:
                beneath.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass  # it has ended already

    async def settle(self) -> None:
        """Wait until no answer is outstanding."""
        async with self._raw.lock:
            pass

    def stop(self) -> None:
        """Let go of the socket."""
        if self._fd is not None:
            self._loop.remove_reader(self._fd)
            self._loop.remove_writer(self._fd)
            os.close(self._fd)
            self._fd = None

    async def _last(self, send: Callable[..., None], *args: object) -> PGresult:
        """Send, and return the last result of the answer.

        Raises:
            psycopg.Error: The server's, or the connection has ended.
        """
        await self._raw.lock.acquire()
        try:
            if self._fd is None:
                raise psycopg.OperationalError("the connection is closed")
            send(*args)
            unsent = self._pgconn.flush()
        except BaseException:
            self._raw.lock.release()
            raise
        if unsent:
            self._loop.add_writer(self._fd, self._writable)
        answer: Answer = self._loop.create_future()
        self._answer = answer
        results = await answer
        if isinstance(results, psycopg.OperationalError):
            raise results
        for result in results:
            if result.status == pq.ExecStatus.FATAL_ERROR:
                raise psycopg.errors.error_from_result(result, encoding=self._encoding)
        return results[-1]

    def _writable(self) -> None:
        try:
            unsent = self._pgconn.flush()
        except psycopg.OperationalError as exc:
            self._end(exc)
            return
        if not unsent and self._fd is not None:
            self._loop.remove_writer(self._fd)

    def _readable(self) -> None:
        pgconn = self._pgconn
        try:
            pgconn.consume_input()
            while not pgconn.is_busy() and (answer := self._answer) is not None:
                result = pgconn.get_result()
                if result is None:
                    self._finish(answer, self._results)
                else:
                    self._results.append(result)
        except psycopg.OperationalError as exc:
            self._end(exc)
            return
        if self._notified is not None:
            while (notify := pgconn.notifies()) is not None:
                self._notified(
                    notify.relname.decode(self._encoding), notify.extra.decode(self._encoding)
                )

    def _end(self, exc: psycopg.OperationalError) -> None:
        self.stop()
        if self._answer is not None:
            # A server that ends a session says why before it hangs up.
            said = any(result.status == pq.ExecStatus.FATAL_ERROR for result in self._results)
            self._finish(self._answer, self._results if said else exc)
        if self._lost is not None:
            self._lost()

    def _finish(self, answer: Answer, outcome: list[PGresult] | psycopg.OperationalError) -> None:
        self._answer, self._results = None, []
        self._raw.lock.release()
        if not answer.done():  # its caller may have been cancelled
            answer.set_result(outcome)
