"""The documented permissions are enough, and each of them is needed."""

import asyncio
import re
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path

import pytest

from channels.core import (
    BackendException,
    BackendRefused,
    ChannelsBackend,
    HistoryRequest,
    Message,
    Position,
)
from channels.redis import RedisChannelsPubSubBackend, RedisChannelsStreamBackend
from kit import RedisCluster, RedisServer

PAGE = Path(__file__).parents[3] / "docs" / "backends" / "redis.rst"
PASSWORD = "secret"

Try = Callable[[ChannelsBackend], Awaitable[None]]


def documented(user: str, option: str | None = None) -> list[str]:
    """Return the rules that the documentation gives a user, for an option besides."""
    page = PAGE.read_text("utf-8")
    found = re.search(rf"ACL SETUSER {user} on >{PASSWORD} (.+?)\n *\n", page, re.DOTALL)
    assert found is not None, user
    rules = found[1].split()
    if option is not None:
        found = re.search(rf"``{re.escape(option)}``(?: needs)? ``(\+[^`]+)``", page)
        assert found is not None, option
        rules += found[1].split()
    return rules


async def use(backend: ChannelsBackend) -> None:
    """Publish, listen, and read what was missed; raise what goes wrong."""
    async with backend, backend.listen() as listener:
        await listener.subscribe(["news"])
        for outcome in await backend.publish([Message("news", b"1"), Message("news", b"2")]):
            if isinstance(outcome, Exception):
                raise outcome
        received: list[object] = []
        async with asyncio.timeout(5):
            async for events in listener:
                received += events
                if len(received) >= 2:
                    break
        assert received == [b"1", b"2"]
        await listener.unsubscribe(["news"])
        if backend.keeps_history:
            top = Position("unheard", 1)
            requests = [HistoryRequest("news", 1), HistoryRequest("news", None, top)]
            newest, whole = await backend.get_history(requests)
            assert newest.events == [b"2"]
            assert whole.events[-2:] == [b"1", b"2"]


async def flush(backend: ChannelsBackend) -> None:
    assert isinstance(backend, RedisChannelsStreamBackend)
    async with backend:
        for outcome in await backend.publish([Message("news", b""), Message("news", b"")]):
            if isinstance(outcome, Exception):
                raise outcome
        assert await backend.flush_all() == 2


async def check(
    servers: list[RedisServer],
    make: Callable[[str], ChannelsBackend],
    rules: list[str],
    attempt: Try = use,
) -> None:
    """Show that the rules do, and that without any one of them something fails."""
    needed = [rule for rule in rules if rule.startswith("+") and rule != "+@connection"]
    for missing in (None, *needed, None):
        given = [rule for rule in rules if rule != missing]
        for server in servers:
            server.command("ACL", "SETUSER", "app", "reset", "on", f">{PASSWORD}", *given)
            server.command("FLUSHALL")
        backend = make(f"app:{PASSWORD}@")
        if missing is None:
            await attempt(backend)
            continue
        with pytest.raises(BackendException) as caught:
            await attempt(backend)
        assert isinstance(caught.value, BackendRefused), missing


@pytest.fixture
def server(make_redis: Callable[..., RedisServer]) -> RedisServer:
    return make_redis()


@pytest.fixture(scope="module")
def cluster() -> Iterator[RedisCluster]:
    with RedisCluster() as cluster:
        yield cluster


async def test_pubsub(server: RedisServer) -> None:
    def make(login: str) -> ChannelsBackend:
        return RedisChannelsPubSubBackend(f"redis://{login}127.0.0.1:{server.port}")

    await check([server], make, documented("live"))
    server.command("ACL", "SETUSER", "app", "reset", "on", f">{PASSWORD}", *documented("live"))
    async with RedisChannelsPubSubBackend(
        f"redis://app:{PASSWORD}@127.0.0.1:{server.port}", key_prefix="theirs"
    ) as backend:
        (outcome,) = await backend.publish([Message("news", b"")])
        assert isinstance(outcome, BackendRefused)
        async with backend.listen() as listener:
            with pytest.raises(BackendRefused, match="NOPERM"):
                await listener.subscribe(["news"])


async def test_streams(server: RedisServer) -> None:
    def make(login: str) -> ChannelsBackend:
        return RedisChannelsStreamBackend(f"redis://{login}127.0.0.1:{server.port}")

    await check([server], make, documented("kept"))


async def test_waiting_for_replicas_needs_no_more(
    server: RedisServer, make_redis: Callable[..., RedisServer]
) -> None:
    make_redis(replica_of=server)
    server.command("ACL", "SETUSER", "app", "on", f">{PASSWORD}", *documented("kept"))
    url = f"redis://app:{PASSWORD}@127.0.0.1:{server.port}"
    await use(RedisChannelsStreamBackend(url, wait_replicas=1, timeout=10))


async def test_flushing(server: RedisServer) -> None:
    def make(login: str) -> ChannelsBackend:
        return RedisChannelsStreamBackend(f"redis://{login}127.0.0.1:{server.port}")

    unused = ("+mget", "+xrange", "+xrevrange", "+subscribe", "+unsubscribe")
    await check(
        [server],
        make,
        [rule for rule in documented("kept", "flush_all()") if rule not in unused],
        flush,
    )


@pytest.mark.extended
@pytest.mark.parametrize("kind", [RedisChannelsPubSubBackend, RedisChannelsStreamBackend])
async def test_cluster(cluster: RedisCluster, kind: type) -> None:
    def make(login: str) -> ChannelsBackend:
        return kind(f"redis://{login}127.0.0.1:{cluster.nodes[0].port}", cluster=True)

    user = "sharded" if kind is RedisChannelsPubSubBackend else "spread"
    await check(list(cluster.nodes), make, documented(user))


async def test_login_that_may_do_nothing(server: RedisServer) -> None:
    server.command("ACL", "SETUSER", "app", "reset", "on", f">{PASSWORD}")
    async with RedisChannelsStreamBackend(
        f"redis://app:{PASSWORD}@127.0.0.1:{server.port}"
    ) as backend:
        with pytest.raises(BackendRefused):
            async with backend.listen():
                pass


async def test_permission_that_was_taken_away_for_a_while(server: RedisServer) -> None:
    """The record goes on, and what may be missing from it shows."""
    rules = documented("kept")
    server.command("ACL", "SETUSER", "app", "reset", "on", f">{PASSWORD}", *rules)
    url = f"redis://app:{PASSWORD}@127.0.0.1:{server.port}"
    async with RedisChannelsStreamBackend(url) as backend:
        (first,) = await backend.publish([Message("news", b"1")])
        for command in ("set", "xadd"):
            server.command("ACL", "SETUSER", "app", f"-{command}")
            (outcome,) = await backend.publish([Message("news", b"refused")])
            assert isinstance(outcome, BackendRefused)
            server.command("ACL", "SETUSER", "app", f"+{command}")
        (after,) = await backend.publish([Message("news", b"2")])
        assert isinstance(first, Position)
        assert isinstance(after, Position)
        (history,) = await backend.get_history([HistoryRequest("news", None, first)])
        assert history.events == [b"2"]
        assert history.complete is (after.offset == 2)


async def test_a_channel_whose_record_may_not_be_read_leaves_no_subscription(
    private_redis: RedisServer,
) -> None:
    rules = ("on", f">{PASSWORD}", "+@all", "&*", "~channels:{may}:*")
    private_redis.command("ACL", "SETUSER", "app", *rules)
    url = private_redis.url.replace("//", f"//app:{PASSWORD}@")
    async with RedisChannelsStreamBackend(url) as backend, backend.listen() as listener:
        with pytest.raises(BackendRefused):
            await listener.subscribe(["may not", "may"])
        assert private_redis.command("PUBSUB", "CHANNELS") == []
        assert await listener.subscribe(["may"]) == {"may": None}
        assert len(private_redis.command("PUBSUB", "CHANNELS")) == 1  # type: ignore[arg-type]
