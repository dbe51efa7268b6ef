"""A cluster: which master has which slot, and a pipeline to each."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

from channels.core import BackendException, BackendUnavailable
from channels.redis._connect import ask, connect
from channels.redis._keys import slot
from channels.redis._resp import ReplyError, command
from channels.redis._servers import Node, Pack, Replicas, Timing
from channels.redis._settings import ClusterSeeds, Target
from channels.redis._shared import SharedCall
from channels.redis._wire import Answer, NotSent, Pipeline, Server, Wire

W = TypeVar("W", bound=Wire)

_ASKED = 5
_REDIRECTIONS = 3
_ASKING = command("ASKING")


class Cluster:
    """Send each command to the master of its slot, and follow slots that move.

    A redirection says that the command was not run, so following it repeats nothing.
    """

    sharded = True

    def __init__(self, deployment: ClusterSeeds, timing: Timing, *, run_id: bool) -> None:
        self._deployment = deployment
        self._timing = timing
        self._run_id = run_id
        self._targets = {seed.address: seed for seed in deployment.seeds}
        self._nodes: dict[str, Node] = {}
        self._slots: dict[int, str] = {}
        self._refresh = SharedCall(self._refresh_once)

    async def run(
        self, tags: Sequence[bytes], pack: Pack, *, replicas: Replicas | None = None
    ) -> list[Answer]:
        answers: list[Answer] = [NotSent("not tried")] * len(tags)
        todo = {(at, False): places for at, places in (await self.locate(tags)).items()}
        for _ in range(1 + _REDIRECTIONS):
            results = await asyncio.gather(
                *(
                    self._run(address, places, pack, replicas, asking=asking)
                    for (address, asking), places in todo.items()
                )
            )
            redirected: dict[tuple[str, bool], list[int]] = {}
            for places, result in zip(todo.values(), results, strict=True):
                for place, answer in zip(places, result, strict=True):
                    answers[place] = answer
                    if (to := self._redirection(answer)) is not None:
                        redirected.setdefault(to, []).append(place)
            if not redirected:
                break
            todo = dict(redirected)
        return answers

    async def locate(self, tags: Sequence[bytes]) -> Mapping[str, Sequence[int]]:
        if not self._slots:
            await self._refresh()
        groups: dict[str, list[int]] = {}
        for place, tag in enumerate(tags):
            address = self._slots.get(slot(tag))
            if address is None:
                self.stale()
                raise BackendUnavailable(f"no master of the cluster has slot {slot(tag)}")
            groups.setdefault(address, []).append(place)
        return groups

    def stale(self) -> None:
        self._slots = {}

    async def connect(self, address: str, make: Callable[[Server], W]) -> W:
        target = self._targets.get(address)
        if target is None:
            self.stale()
            raise BackendUnavailable(f"{address} is no master of the cluster any more")
        try:
            return await connect(
                target,
                make,
                timeout=self._timing.connect,
                cluster=True,
                run_id=self._run_id,
            )
        except BackendUnavailable:
            self.stale()  # somebody else may be the master by now
            raise

    async def pipelines(self) -> Sequence[Pipeline]:
        await self._refresh()
        masters = dict.fromkeys(self._slots.values())
        return [await self._node(address).pipeline() for address in masters]

    async def close(self) -> None:
        await self._refresh.close()
        self._targets = {}  # who still runs something connects to nobody
        nodes, self._nodes = self._nodes, {}
        await asyncio.gather(*(node.close() for node in nodes.values()))

    async def _run(
        self,
        address: str,
        places: Sequence[int],
        pack: Pack,
        replicas: Replicas | None,
        *,
        asking: bool,
    ) -> Sequence[Answer]:
        node = self._node(address)
        try:
            pipeline = await node.pipeline()
        except BackendException as exc:
            return [NotSent(str(exc))] * len(places)
        commands = pack(pipeline, places)
        if asking:
            commands = [each for packed in commands for each in (_ASKING, packed)]
        answers = await node.run(commands, pipeline, replicas)
        if pipeline.reason is not None:
            self.stale()
        return answers[1::2] if asking else answers

    def _redirection(self, answer: Answer) -> tuple[str, bool] | None:
        """Return the address that an answer points to, and whether for this once only."""
        if not isinstance(answer, ReplyError) or answer.code not in ("MOVED", "ASK"):
            return None
        if answer.code == "MOVED":
            self.stale()
        host, _, port = str(answer).split(" ")[2].rpartition(":")
        if not host:
            return None  # the same host, which only CLUSTER SLOTS can tell
        return self._learn(host, int(port)), answer.code == "ASK"

    def _learn(self, host: str, port: int) -> str:
        target = self._deployment.target.at(host, port)
        self._targets[target.address] = target
        return target.address

    def _node(self, address: str) -> Node:
        node = self._nodes.get(address)
        if node is None:
            node = Node(lambda: self.connect(address, Pipeline), self._timing)
            self._nodes[address] = node
        return node

    async def _refresh_once(self) -> None:
        """Ask some members who has which slot; the first that answers is believed."""
        known = list(self._targets.values())
        asked = random.sample(known, min(_ASKED, len(known)))
        tasks = [asyncio.create_task(self._ask_slots(target)) for target in asked]
        try:
            failure: BackendException | None = None
            for next_ in asyncio.as_completed(tasks):
                try:
                    slots = await next_
                except BackendException as exc:
                    failure = exc
                    continue
                await self._adopt(slots)
                return
            raise failure or BackendUnavailable("no member of the cluster is known")
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)

    async def _ask_slots(self, target: Target) -> dict[int, str]:
        reply: Any = await ask(target, "CLUSTER", "SLOTS", timeout=self._timing.connect)
        slots: dict[int, str] = {}
        for first, last, master, *_ in reply:
            host = master[0].decode() if master[0] else str(target.arguments.get("host"))
            address = self._learn(host, int(master[1]))
            slots |= dict.fromkeys(range(first, last + 1), address)
        if not slots:
            raise BackendUnavailable(f"{target.address} knows of no slots")
        return slots

    async def _adopt(self, slots: dict[int, str]) -> None:
        self._slots = slots
        masters = set(slots.values())
        seeds = {seed.address for seed in self._deployment.seeds}
        self._targets = {k: v for k, v in self._targets.items() if k in masters | seeds}
        gone = [self._nodes.pop(address) for address in set(self._nodes) - masters]
        await asyncio.gather(*(node.close() for node in gone))
