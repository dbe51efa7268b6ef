"""A private Redis Cluster."""

from collections.abc import Sequence
from types import TracebackType
from typing import Self

from kit._binaries import RedisFlavour
from kit._ports import Port
from kit._wait import wait_until
from kit.redis import RedisServer

SLOTS = 16384
NODE_TIMEOUT_MS = 500
SETTLE_TIMEOUT = 20.0


class ClusterNode(RedisServer):
    """A Redis in cluster mode; `RedisCluster` makes a cluster of several."""

    kind = "redis-node"

    def __init__(self, flavour: RedisFlavour | None, *, password: str | None) -> None:
        self._bus_port = Port.claim()
        self.bus_port = self._bus_port.number
        super().__init__(
            flavour,
            persistent=True,
            password=password,
            options={
                "databases": 1,
                "cluster-enabled": "yes",
                "cluster-config-file": "nodes.conf",
                "cluster-port": self.bus_port,
                "cluster-node-timeout": NODE_TIMEOUT_MS,
                "cluster-replica-validity-factor": 0,  # a replica stands in however old its data
            },
        )

    @property
    def id(self) -> str:
        """Its name in the cluster."""
        return self._text("CLUSTER", "MYID")

    @property
    def cluster_info(self) -> dict[str, str]:
        """What CLUSTER INFO tells."""
        lines = self._text("CLUSTER", "INFO").splitlines()
        return {key: value for key, _, value in (line.partition(":") for line in lines)}

    @property
    def is_master(self) -> bool:
        """Whether it is a master, as it sees itself."""
        return self.info()["role"] == "master"

    def close(self) -> None:
        """End it and forget its data and its ports."""
        super().close()
        self._bus_port.release()

    def _text(self, *words: object) -> str:
        reply = self.command(*words)
        assert isinstance(reply, bytes)
        return reply.decode()


class RedisCluster:
    """Masters with replicas, sharing the slots evenly. Up in about 3 s.

    Args:
        masters: How many; Redis wants three.
        replicas: How many each master has; 0 halves the processes, and nobody stands in.
        flavour: As `RedisServer`'s.
        password: Of the default user; None wants none.

    Attributes:
        nodes: All of them, masters first; a failover changes roles and not this list.
    """

    def __init__(
        self,
        masters: int = 3,
        *,
        replicas: int = 0,
        flavour: RedisFlavour | None = None,
        password: str | None = None,
    ) -> None:
        self._masters = masters
        self.nodes: list[ClusterNode] = []
        try:
            for _ in range(masters * (1 + replicas)):
                self.nodes.append(ClusterNode(flavour, password=password))
        except BaseException:
            self.close()
            raise

    @property
    def url(self) -> str:
        """The first node that runs; clients learn of the others from it."""
        return self._running()[0].url

    @property
    def masters(self) -> list[ClusterNode]:
        """The running nodes that are masters now."""
        return [node for node in self._running() if node.is_master]

    def start(self) -> None:
        """Start all nodes, join them and wait until each agrees that the cluster is whole."""
        for node in self.nodes:
            node.start()
        masters, replicas = self.nodes[: self._masters], self.nodes[self._masters :]
        for index, node in enumerate(masters):
            first, beyond = (SLOTS * i // len(masters) for i in (index, index + 1))
            node.command("CLUSTER", "ADDSLOTSRANGE", first, beyond - 1)
            node.command("CLUSTER", "SET-CONFIG-EPOCH", index + 1)
        for node in self.nodes[1:]:
            for other in self.nodes[: self.nodes.index(node)]:
                node.command("CLUSTER", "MEET", other.host, other.port, other.bus_port)
        self.wait_until_whole()
        for index, replica in enumerate(replicas):
            replica.command("CLUSTER", "REPLICATE", masters[index % len(masters)].id)
        wait_until(
            lambda: all(node.info().get("master_link_status") == "up" for node in replicas),
            "the replicas of the cluster",
            SETTLE_TIMEOUT,
        )

    def close(self) -> None:
        """End all nodes and forget their data."""
        for node in self.nodes:
            node.close()

    def key_slot(self, key: str) -> int:
        """Return the slot a key belongs to."""
        slot = self._running()[0].command("CLUSTER", "KEYSLOT", key)
        assert isinstance(slot, int)
        return slot

    def owner(self, slot: int) -> ClusterNode:
        """Return the running master that serves a slot.

        Raises:
            LookupError: None does, or not all running nodes agree on it.
        """
        owners = {self._owner_seen_by(node, slot) for node in self._running()}
        for node in self._running():
            if owners == {node.port}:
                return node
        raise LookupError(f"slot {slot} has the owners {owners}")

    def move_slot(self, slot: int, target: ClusterNode) -> None:
        """Move a slot with its keys to another master while clients go on."""
        source = self.owner(slot)
        target.command("CLUSTER", "SETSLOT", slot, "IMPORTING", source.id)
        source.command("CLUSTER", "SETSLOT", slot, "MIGRATING", target.id)
        login = ["AUTH", source.password] if source.password else []
        while keys := source.command("CLUSTER", "GETKEYSINSLOT", slot, 1000):
            assert isinstance(keys, list)
            address = (target.host, target.port)
            source.command("MIGRATE", *address, "", 0, 5000, *login, "KEYS", *keys)
        owner = target.id
        target.command("CLUSTER", "SETSLOT", slot, "NODE", owner)
        source.command("CLUSTER", "SETSLOT", slot, "NODE", owner)
        wait_until(lambda: self._is_owner(slot, target), f"the move of slot {slot}")

    def kill_master(self, slot: int) -> ClusterNode:
        """Kill the master of a slot and return it; see `wait_failover`."""
        master = self.owner(slot)
        master.kill()
        return master

    def isolate_replica(self, slot: int) -> ClusterNode:
        """Freeze the replica of a slot's master: what is written from now on it will not have.

        Thaw the returned node once the master is killed, and it stands in.
        """
        master = self.owner(slot)
        replica = next(
            node for node in self._running() if node.info().get("master_port") == str(master.port)
        )
        replica.freeze()
        master.command("CLIENT", "KILL", "TYPE", "replica")
        return replica

    def wait_failover(self, slot: int) -> ClusterNode:
        """Wait until a replica serves the slot of a killed master, and return it."""

        def has_owner() -> bool:
            try:
                return self.owner(slot).is_master
            except LookupError:
                return False

        wait_until(has_owner, f"a new master for slot {slot}", SETTLE_TIMEOUT)
        self.wait_until_whole()
        return self.owner(slot)

    def wait_until_whole(self) -> None:
        """Wait until every running node says that all slots are served."""

        def is_whole() -> bool:
            infos = [node.cluster_info for node in self._running()]
            return all(
                info["cluster_state"] == "ok"
                and info["cluster_slots_ok"] == str(SLOTS)
                and int(info["cluster_known_nodes"]) == len(self.nodes)
                for info in infos
            )

        wait_until(is_whole, "the cluster to be whole", SETTLE_TIMEOUT)

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

    def _running(self) -> Sequence[ClusterNode]:
        return [node for node in self.nodes if node.is_running]

    def _is_owner(self, slot: int, node: ClusterNode) -> bool:
        try:
            return self.owner(slot) is node
        except LookupError:
            return False

    def _owner_seen_by(self, node: ClusterNode, slot: int) -> int | None:
        ranges = node.command("CLUSTER", "SLOTS")
        assert isinstance(ranges, list)
        for entry in ranges:
            match entry:
                case [int(first), int(last), [_, int(port), *_], *_] if first <= slot <= last:
                    return port
        return None
