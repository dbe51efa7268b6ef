"""A private Redis with a replica, watched by Sentinels."""

from collections.abc import Sequence
from pathlib import Path
from secrets import token_hex
from types import TracebackType
from typing import ClassVar, Self

from kit._binaries import RedisFlavour
from kit._resp import ReplyError
from kit._wait import wait_until
from kit.redis import RedisServer

DOWN_AFTER_MS = 30_000
"""So long that no server seems to be down because the machine is busy."""
FAILOVER_TIMEOUT = 30.0


class SentinelNode(RedisServer):
    """One Sentinel; it begins with what its siblings would take seconds to tell it."""

    kind: ClassVar[str] = "sentinel"

    def __init__(self, flavour: RedisFlavour | None) -> None:
        super().__init__(flavour)
        self.id = token_hex(20)
        self.config: list[str] = []

    def _prepare(self) -> None:
        super()._prepare()
        (self.data / "sentinel.conf").write_text("\n".join((*self.config, "")))

    def _command(self) -> Sequence[str | Path]:
        return [self.program, self.data / "sentinel.conf", "--sentinel"]


class RedisSentinel:
    """A master, a replica and three Sentinels that replace the master when it is gone.

    Args:
        flavour: As `RedisServer`'s.
        password: Of master and replica; None wants none.

    Attributes:
        name: What the Sentinels call the master.
        master: The master of the moment.
        replica: The other one.
        sentinels: The Sentinels.
    """

    name = "main"

    def __init__(self, *, flavour: RedisFlavour | None = None, password: str | None = None) -> None:
        options: dict[str, object] = {"repl-timeout": 5, "replica-priority": 1}
        self.master = RedisServer(flavour, persistent=True, password=password, options=options)
        self.replica = RedisServer(
            flavour, persistent=True, password=password, replica_of=self.master, options=options
        )
        self.sentinels = [SentinelNode(flavour) for _ in range(3)]

    @property
    def addresses(self) -> list[tuple[str, int]]:
        """Host and port of every Sentinel, as `redis.sentinel.Sentinel` takes them."""
        return [(sentinel.host, sentinel.port) for sentinel in self.sentinels]

    def start(self) -> None:
        """Start all of them and wait until the Sentinels know everybody."""
        self.master.start()
        self.replica.start()
        self._wait_for_replica()
        for sentinel in self.sentinels:
            sentinel.config = self._config(sentinel)
            sentinel.start()
        wait_until(
            lambda: all(self._is_content(sentinel) for sentinel in self.sentinels),
            "the Sentinels to know everybody",
            FAILOVER_TIMEOUT,
        )

    def isolate_replica(self) -> None:
        """Cut the replica off: what is written from now on is lost in the next `fail_over`."""
        self.replica.freeze()
        self.master.command("CLIENT", "KILL", "TYPE", "replica")

    def fail_over(self) -> None:
        """Kill the master and wait until all Sentinels agree on the replica in its place.

        A Sentinel is told to begin rather than left to find out: one that finds out for itself may
        do so twice where a machine is busy. `master` and `replica` have changed places at the end.
        """
        self.master.kill()
        self.replica.thaw()
        wait_until(self._begins, "a Sentinel to begin the failover", FAILOVER_TIMEOUT)
        wait_until(
            lambda: (
                all(self._master_port(s) == self.replica.port for s in self.sentinels)
                and self.replica.info()["role"] == "master"
            ),
            "the failover",
            FAILOVER_TIMEOUT,
        )
        self.master, self.replica = self.replica, self.master
        self.master.replica_of, self.replica.replica_of = None, self.master

    def revive_replica(self) -> None:
        """Start the killed master again, as the replica it now is."""
        self.replica.start()
        self._wait_for_replica()

    def close(self) -> None:
        """End all of them and forget their data."""
        for server in (*self.sentinels, self.replica, self.master):
            server.close()

    def __enter__(self) -> Self:
        try:
            self.start()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def _wait_for_replica(self) -> None:
        def is_linked() -> bool:
            return self.replica.info().get("master_link_status") == "up"

        wait_until(is_linked, "the replica to follow its master", FAILOVER_TIMEOUT)

    def _config(self, own: SentinelNode) -> list[str]:
        name, password = self.name, self.master.password
        others = [sentinel for sentinel in self.sentinels if sentinel is not own]
        return [
            f"bind {own.host}",
            f"port {own.port}",
            f"unixsocket {own.unix_socket}",
            f"sentinel myid {own.id}",
            f"sentinel monitor {name} {self.master.host} {self.master.port} 2",
            f"sentinel down-after-milliseconds {name} {DOWN_AFTER_MS}",
            f"sentinel failover-timeout {name} 5000",
            *([f"sentinel auth-pass {name} {password}"] if password else []),
            f"sentinel known-replica {name} {self.replica.host} {self.replica.port}",
            *(f"sentinel known-sentinel {name} {s.host} {s.port} {s.id}" for s in others),
        ]

    def _is_content(self, sentinel: SentinelNode) -> bool:
        """Tell whether a Sentinel sees master, replica and siblings, and all are well."""
        state = _fields(sentinel.command("SENTINEL", "MASTER", self.name))
        replicas = sentinel.command("SENTINEL", "REPLICAS", self.name)
        assert isinstance(replicas, list)
        return (
            state[b"flags"] == b"master"
            and state[b"num-other-sentinels"] == b"2"
            and [_fields(replica)[b"flags"] for replica in replicas] == [b"slave"]
        )

    def _begins(self) -> bool:
        try:
            return self.sentinels[0].command("SENTINEL", "FAILOVER", self.name) == b"OK"
        except ReplyError:  # it knows of no replica that answers, yet
            return False

    def _master_port(self, sentinel: SentinelNode) -> int:
        address = sentinel.command("SENTINEL", "GET-MASTER-ADDR-BY-NAME", self.name)
        assert isinstance(address, list)
        assert isinstance(address[1], bytes)
        return int(address[1])


def _fields(reply: object) -> dict[object, object]:
    assert isinstance(reply, list)
    return dict(zip(reply[::2], reply[1::2], strict=True))
