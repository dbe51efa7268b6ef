"""Many WebSocket clients in one process: plain sockets, as cheap as they can be.

The first event of each client is taken apart and looked at. After that most clients only count
bytes; some, spread among them, are watched: every frame that they get has to hold the next text in
full. In the end all must have got equally many bytes.

All are read as soon as something has come. To read them now and then, many events at a time, would
be cheaper, but the kernel would then acknowledge at other times, partly at the server's expense,
and join what a server with Nagle's algorithm sends.
"""

from __future__ import annotations

import select
import time
from collections.abc import Callable

from benchmarks.subjects.webframes import CLOSED, DEFLATE, TIMEOUT, Watch, connect

TOO_MUCH = "somebody has got more than was published"
MISSING = "not every event has reached everybody"
WATCHED = 20
"""How many clients are watched."""
QUIET = 0.05
"""Seconds after the last event in which nothing more may come."""


class Clients:
    """Connected clients, each of which gets every event.

    Args:
        port: Where the server listens.
        path: What is asked for.
        count: How many.
        size: Of the texts that will come.
        deflate: Whether they ask for compression.
    """

    def __init__(
        self, port: int, path: str, count: int, size: int = 0, deflate: bool = False
    ) -> None:
        sockets = [connect(port, path, DEFLATE if deflate else "") for _ in range(count)]
        self._sockets = {connected.fileno(): connected for connected in sockets}
        self._watches = {descriptor: Watch(size, deflate) for descriptor in self._sockets}
        self._received = dict.fromkeys(self._sockets, 0)
        self._published = 0
        self._buffer = bytearray(max(1 << 16, 4 * size))
        self._poll = select.epoll()
        for connected in sockets:
            connected.setblocking(False)
            self._poll.register(connected, select.EPOLLIN)

    def first(self, send: Callable[[int], None]) -> None:
        """Have the first event published, look at what each client gets, go on to watch a few."""
        self.flow(1, send, 1, 1)
        step = max(1, (len(self._sockets) - 1) // (WATCHED - 1))
        descriptors = list(self._sockets)
        watched = {*descriptors[::step], descriptors[-1]}
        self._watches = {each: self._watches[each] for each in watched}

    def flow(self, events: int, send: Callable[[int], None], burst: int, ahead: int) -> None:
        """Have events published, more when the watched clients have some, until all have all.

        Args:
            events: How many in all.
            send: Has so many published.
            burst: How many at once.
            ahead: How many bursts are under way at the same time.

        Raises:
            AssertionError: Something else came.
            TimeoutError: Something did not come.
        """
        sockets, received, watches = self._sockets, self._received, self._watches
        buffer, view = self._buffer, memoryview(self._buffer)
        first = self._published
        missing = [len(watches)] * events
        begun = done = 0
        while done < events:
            while begun < min(events, (done // burst + ahead) * burst):
                begun += burst
                self._published += burst
                send(burst)
            for descriptor, _ in self._ready():
                count = sockets[descriptor].recv_into(buffer)
                if not count:
                    raise ConnectionError(CLOSED)
                received[descriptor] += count
                watch = watches.get(descriptor)
                if watch is not None:
                    seen = watch.events - first
                    new = watch.feed(view[:count])
                    if watch.events > self._published:
                        raise AssertionError(TOO_MUCH)
                    for event in range(seen, seen + new):
                        missing[event] -= 1
                        done += not missing[event]
        self._drain()

    def timed(self, events: int, send: Callable[[int], None], rate: float) -> list[float]:
        """Have one event after the other published at a rate, whatever becomes of them.

        Args:
            events: How many.
            send: Has so many published.
            rate: How many per second.

        Returns:
            For each delivery the seconds between the publishing and its arrival here.

        Raises:
            AssertionError: Something else came.
            TimeoutError: Something did not come.
        """
        (size,) = {watch.bytes // watch.events for watch in self._watches.values()}
        sockets, watches, arrived = self._sockets, self._watches, dict(self._received)
        buffer, view = self._buffer, memoryview(self._buffer)
        latencies: list[float] = []
        begun: list[float] = []
        offset = self._published
        started = time.perf_counter()
        while len(latencies) < events * len(sockets):
            wait = None
            if len(begun) < events:
                wait = started + len(begun) / rate - time.perf_counter()
                if wait <= 0:
                    begun.append(time.perf_counter())
                    self._published += 1
                    send(1)
                    continue
            for descriptor, _ in self._ready(wait):
                count = sockets[descriptor].recv_into(buffer)
                now = time.perf_counter()
                if not count:
                    raise ConnectionError(CLOSED)
                before = arrived[descriptor]
                after = arrived[descriptor] = before + count
                latencies += [
                    now - begun[event - offset] for event in range(before // size, after // size)
                ]
                if descriptor in watches:
                    watches[descriptor].feed(view[:count])
        self._received = arrived
        self._drain()
        return latencies

    def _ready(self, wait: float | None = None) -> list[tuple[int, int]]:
        """Return what can be read, after ``wait`` seconds perhaps nothing; None waits for some."""
        ready = self._poll.poll(TIMEOUT if wait is None else wait, len(self._sockets))
        if not ready and wait is None:
            raise TimeoutError(MISSING)
        return ready

    def _drain(self) -> None:
        """Read what is under way to those that are not watched, and see that it is all."""
        (expected,) = {watch.bytes for watch in self._watches.values()}
        while min(self._received.values()) < expected:
            for descriptor, _ in self._ready():
                count = self._sockets[descriptor].recv_into(self._buffer)
                if not count:
                    raise ConnectionError(CLOSED)
                self._received[descriptor] += count
        if self._poll.poll(QUIET) or max(self._received.values()) != expected:
            raise AssertionError(TOO_MUCH)

    def close(self) -> None:
        """Disconnect all of them."""
        self._poll.close()
        for connected in self._sockets.values():
            connected.close()
