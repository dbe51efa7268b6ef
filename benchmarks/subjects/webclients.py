"""Many WebSocket clients in one process: plain sockets, as cheap as they can be.

The first event of each client is taken apart and looked at. After that most clients only count
bytes; some, spread among them, are watched: every frame that they get has to hold the next text in
full. In the end all must have got equally many bytes.

To see how much a server can send all are read as soon as something has come. To read them now and
then, many events at a time, would be cheaper, but the kernel would then acknowledge at other times,
partly at the server's expense, and join what a server with Nagle's algorithm sends. To see how fast
one event arrives, those who are not timed are read later.
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
BEHIND = 20
"""Events that wait, while others are timed, for clients that are not."""
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

        The watched clients are timed. The others are read when those have got what there is, or
        else their reading would be a part of what is measured.

        Args:
            events: How many.
            send: Has so many published.
            rate: How many per second.

        Returns:
            For each delivery to a watched client the seconds between publishing and arrival here.

        Raises:
            AssertionError: Something else came.
            TimeoutError: Something did not come.
        """
        sockets, watches = self._sockets, self._watches
        buffer, view = self._buffer, memoryview(self._buffer)
        latencies: list[float] = []
        begun: list[float] = []
        offset = self._published
        others_have = 0
        with select.epoll() as timed, select.epoll() as others:
            for descriptor in sockets:
                (timed if descriptor in watches else others).register(descriptor, select.EPOLLIN)
            started = time.perf_counter()
            while len(latencies) < events * len(watches):
                wait = TIMEOUT
                if len(begun) < events:
                    wait = started + len(begun) / rate - time.perf_counter()
                    if wait <= 0:
                        begun.append(time.perf_counter())
                        self._published += 1
                        send(1)
                        continue
                ready = timed.poll(wait, len(watches))
                if not ready and len(begun) == events:
                    raise TimeoutError(MISSING)
                for descriptor, _ in ready:
                    count = sockets[descriptor].recv_into(buffer)
                    now = time.perf_counter()
                    if not count:
                        raise ConnectionError(CLOSED)
                    self._received[descriptor] += count
                    watch = watches[descriptor]
                    seen = watch.events - offset
                    new = watch.feed(view[:count])
                    if watch.events > self._published:
                        raise AssertionError(TOO_MUCH)
                    latencies += [now - begun[event] for event in range(seen, seen + new)]
                all_have = len(latencies) == len(begun) * len(watches)
                if (all_have and others_have < len(begun)) or others_have < len(begun) - BEHIND:
                    others_have = len(begun)
                    self._read(others.poll(0, len(sockets)))
        self._drain()
        return latencies

    def _read(self, ready: list[tuple[int, int]]) -> None:
        """Read clients that are not watched."""
        for descriptor, _ in ready:
            count = self._sockets[descriptor].recv_into(self._buffer)
            if not count:
                raise ConnectionError(CLOSED)
            self._received[descriptor] += count

    def _ready(self) -> list[tuple[int, int]]:
        """Return what can be read, when there is something."""
        ready = self._poll.poll(TIMEOUT, len(self._sockets))
        if not ready:
            raise TimeoutError(MISSING)
        return ready

    def _drain(self) -> None:
        """Read what is under way to those that are not watched, and see that it is all."""
        (expected,) = {watch.bytes for watch in self._watches.values()}
        while min(self._received.values()) < expected:
            self._read(self._ready())
        if self._poll.poll(QUIET) or max(self._received.values()) != expected:
            raise AssertionError(TOO_MUCH)

    def close(self) -> None:
        """Disconnect all of them."""
        self._poll.close()
        for connected in self._sockets.values():
            connected.close()
