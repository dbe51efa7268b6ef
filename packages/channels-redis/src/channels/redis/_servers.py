"""Where commands and listeners go: one server, or the master that Sentinels name."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, NamedTuple, Protocol, TypeVar
from weakref import WeakSet

from channels.core import BackendException, BackendRefused, BackendUnavailable
from channels.redis._connect import ask, connect
from channels.redis._resp import ReplyError
from channels.redis._settings import Sentinels, Single, Target
from channels.redis._shared import SharedCall
from channels.redis._wire import Answer, NoReply, Pipeline, Server, Wire, is_error

W = TypeVar("W", bound=Wire)

Pack = Callable[[Pipeline, Sequence[int]], list[bytes]]
"""Make the commands for some places of a batch, for the pipeline that will get them."""


class Timing(NamedTuple):
    """Bounds in seconds."""

    connect: float
    reply: float
    heartbeat: float


class Replicas(NamedTuple):
    """How many replicas must confirm what a batch writes, and the command that waits for them."""

    wanted: int
    command: bytes


class Servers(Protocol):
    """All masters of a deployment; a hash tag tells which one a command belongs to."""

    sharded: bool
    """Whether Pub/Sub is by slot, as on a cluster."""

    async def run(
        self, tags: Sequence[bytes], pack: Pack, *, replicas: Replicas | None = None
    ) -> list[Answer]:
        """Run one command per tag and return the answers in their order.

        Commands with one tag keep their order. Those that write come with ``replicas``. Comes
        back within the heartbeat's, the connecting and the reply bound together.

        Raises:
            BackendException: No server is connected; nothing was sent.
        """
        ...

    async def locate(self, tags: Sequence[bytes]) -> Mapping[str, Sequence[int]]:
        """Group the places of ``tags`` by the address of the master they belong to."""
        ...

    def stale(self) -> None:
        """Note that slots have moved."""
        ...

    async def connect(self, address: str, make: Callable[[Server], W]) -> W:
        """Open a connection to a master that :meth:`locate` named."""
        ...

    async def pipelines(self) -> Sequence[Pipeline]:
        """Return the pipeline to each master."""
        ...

    async def close(self) -> None:
        """Close the pipelines."""
        ...


class Node:
    """The pipeline to one server, opened when it is needed and again when it broke."""

    def __init__(self, open_: Callable[[], Awaitable[Pipeline]], timing: Timing) -> None:
        self._open = open_
        self._timing = timing
        self._pipeline: Pipeline | None = None
        self._connect = SharedCall(self._connect_once)

    async def pipeline(self) -> Pipeline:
        """Return a pipeline to a server that was alive, and a master, a heartbeat ago.

        Raises:
            BackendException: No connection can be made.
        """
        pipeline = self._pipeline
        if pipeline is not None and pipeline.since_look() > self._timing.heartbeat:
            # A connection that died unnoticed would leave the next event in doubt.
            await pipeline.look(self._timing.heartbeat)
        if pipeline is None or pipeline.reason is not None:
            return await self._connect()
        return pipeline

    async def run(
        self, commands: list[bytes], pipeline: Pipeline, replicas: Replicas | None
    ) -> list[Answer]:
        """Run commands; with ``replicas`` a result counts only once they confirmed it."""
        if replicas is None:
            return await pipeline.run(commands, self._timing.reply)
        if replicas.wanted:
            commands = [*commands, replicas.command]
        answers = await pipeline.run(commands, self._timing.reply)
        confirmed = answers.pop() if replicas.wanted else 0
        if not is_error(answers[-1]):
            pipeline.wrote()
        have = confirmed if isinstance(confirmed, int) else 0
        if have >= replicas.wanted:
            return answers
        why = f": {confirmed}" if isinstance(confirmed, Exception) else ""
        doubt = NoReply(
            f"replicas that confirmed it: {have} of wait_replicas={replicas.wanted}{why}"
        )
        return [answer if is_error(answer) else doubt for answer in answers]

    async def close(self) -> None:
        await self._connect.close()
        if self._pipeline is not None:
            await self._pipeline.close()
            self._pipeline = None

    async def _connect_once(self) -> Pipeline:
        if self._pipeline is not None and self._pipeline.reason is not None:
            self._pipeline = None
        if self._pipeline is None:
            self._pipeline = await self._open()
        return self._pipeline


class OneServer:
    """A server at a fixed address, or at the one that Sentinels name at the moment."""

    sharded = False

    def __init__(self, deployment: Single | Sentinels, timing: Timing, *, run_id: bool) -> None:
        self._deployment = deployment
        self._timing = timing
        self._run_id = run_id
        self._node = Node(lambda: self.connect("", Pipeline), timing)
        self._wires: WeakSet[Wire] = WeakSet()

    async def run(
        self, tags: Sequence[bytes], pack: Pack, *, replicas: Replicas | None = None
    ) -> list[Answer]:
        pipeline = await self._node.pipeline()
        commands = pack(pipeline, range(len(tags)))
        answers = await self._node.run(commands, pipeline, replicas)
        if answers and isinstance(last := answers[-1], ReplyError) and last.code == "READONLY":
            pipeline.abort(f"{pipeline.server.address} is a replica now")
        return answers

    async def locate(self, tags: Sequence[bytes]) -> Mapping[str, Sequence[int]]:
        return {"": range(len(tags))}

    def stale(self) -> None:
        """Nothing to find out again: each connection looks the master up."""

    async def connect(self, address: str, make: Callable[[Server], W]) -> W:
        began = asyncio.get_running_loop().time()
        if isinstance(self._deployment, Single):
            target = self._deployment.target
        else:
            target = await find_master(self._deployment, self._timing.connect)
        left = self._timing.connect - (asyncio.get_running_loop().time() - began)
        wire = await connect(target, make, timeout=max(left, 0.05), run_id=self._run_id)
        # An old master may keep its connections. What is read there says nothing of events that
        # come from the new one, and the other way round.
        for other in self._wires:
            if other.server.run_id != wire.server.run_id:
                other.abort(f"{wire.server.address} has taken the place of the server")
        self._wires.add(wire)
        return wire

    async def pipelines(self) -> Sequence[Pipeline]:
        return [await self._node.pipeline()]

    async def close(self) -> None:
        await self._node.close()


async def find_master(deployment: Sentinels, timeout: float) -> Target:
    """Ask the Sentinels in turn where the master is; the first that knows is believed.

    Raises:
        BackendUnavailable: None answered, each being given its share of ``timeout`` seconds.
        BackendRefused: Some answered, none knows the name.
    """
    share = timeout / (len(deployment.sentinels) + 1)
    failures: list[BackendException] = []
    name = deployment.service
    for sentinel in deployment.sentinels:
        try:
            reply: Any = await ask(
                sentinel, "SENTINEL", "GET-MASTER-ADDR-BY-NAME", name, timeout=share
            )
        except BackendException as exc:
            failures.append(exc)
            continue
        if reply is not None:
            return deployment.target.at(reply[0].decode(), int(reply[1]))
    if len(failures) == len(deployment.sentinels):
        raise BackendUnavailable(
            f"no Sentinel tells where the master {name!r} is: {failures[0]}"
        ) from failures[0]
    raise BackendRefused(f"the Sentinels know no master named {name!r}")
