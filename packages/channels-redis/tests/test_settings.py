"""Ways in: URLs, clients, logins, sockets, TLS, and servers that are turned down."""

import asyncio
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
import redis
from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.asyncio.sentinel import Sentinel
from redis.backoff import ExponentialBackoff

from channels.core import (
    BackendRefused,
    BackendUnavailable,
    ChannelsBackend,
    ConfigurationError,
    Event,
    Message,
    NotRunningError,
    PayloadTooLarge,
    load_backend,
)
from channels.redis import RedisChannelsPubSubBackend, RedisChannelsStreamBackend
from kit import RedisServer, authority
from kit.economy import measured
from kit.fixtures import RedisSpace


async def round_trip(backend: ChannelsBackend) -> None:
    async with backend, backend.listen() as listener:
        await listener.subscribe(["news"])
        assert not isinstance((await backend.publish([Message("news", b"\xff")]))[0], Exception)
        (event,) = await asyncio.wait_for(anext(aiter(listener)), 5)
        assert isinstance(event, Event)
        assert event == b"\xff"


@pytest.mark.parametrize("protocol", [2, 3])
@pytest.mark.parametrize("kind", [RedisChannelsPubSubBackend, RedisChannelsStreamBackend])
async def test_client_of_either_protocol(
    redis_space: RedisSpace, kind: type, protocol: int
) -> None:
    client = Redis.from_url(
        redis_space.url,
        protocol=protocol,
        decode_responses=True,
        retry=Retry(ExponentialBackoff(), 10),
        health_check_interval=1,
        max_connections=1,
    )
    await client.ping()
    await round_trip(kind(redis=client, key_prefix=redis_space.key_prefix))
    await client.aclose()


WITHOUT_HIREDIS = """
import sys
sys.modules["hiredis"] = None  # as where it is not installed

import asyncio
from redis.asyncio import Redis
from channels.core import ChannelsPlugin
from channels.redis import RedisChannelsPubSubBackend, RedisChannelsStreamBackend

async def main(url, prefix):
    for kind in RedisChannelsPubSubBackend, RedisChannelsStreamBackend:
        for protocol in 2, 3:
            client = Redis.from_url(url, protocol=protocol, decode_responses=True)
            backend = kind(redis=client, key_prefix=prefix)
            async with ChannelsPlugin(backend, channels=["news"]) as plugin:
                async with plugin.start_subscription("news") as subscriber:
                    await plugin.wait_published(bytes([255]), "news")
                    print(bytes(await anext(subscriber.iter_events())))
            await client.aclose()

asyncio.run(main(*sys.argv[1:]))
"""


async def test_without_hiredis(redis_space: RedisSpace) -> None:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-W", "error", "-c", WITHOUT_HIREDIS),
        *(redis_space.url, redis_space.key_prefix),
        env=measured(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    printed, complained = await process.communicate()
    assert (printed.decode().split(), complained) == ([r"b'\xff'"] * 4, b"")


@pytest.mark.parametrize("kind", [RedisChannelsPubSubBackend, RedisChannelsStreamBackend])
async def test_unix_socket(make_redis: Callable[..., RedisServer], kind: type) -> None:
    server = make_redis(password="a/b")
    await round_trip(kind(f"unix://{server.unix_socket}?password=a%2Fb&db=1"))


@pytest.mark.parametrize("kind", [RedisChannelsPubSubBackend, RedisChannelsStreamBackend])
async def test_tls(make_redis: Callable[..., RedisServer], kind: type) -> None:
    server = make_redis(tls=True)
    trusted = f"ssl_ca_certs={authority().certificate.file}"
    await round_trip(kind(f"{server.url}?{trusted}"))
    async with kind(server.url) as distrustful:
        with pytest.raises(BackendUnavailable, match=r"(?i)certificate"):
            await distrustful.publish([Message("news", b"")])


async def test_no_permission_to_publish_leaves_no_record(
    make_redis: Callable[..., RedisServer],
) -> None:
    server = make_redis(password="root")
    server.command(
        *("ACL", "SETUSER", "app", "on", ">app", "~*", "resetchannels", "+@all", "-publish")
    )
    async with RedisChannelsStreamBackend(f"redis://app:app@127.0.0.1:{server.port}") as backend:
        (outcome,) = await backend.publish([Message("news", b"")])
        assert isinstance(outcome, BackendRefused)
        assert "PUBLISH" in str(outcome)
    assert server.command("DBSIZE") == 0


@pytest.mark.parametrize("kind", [RedisChannelsPubSubBackend, RedisChannelsStreamBackend])
async def test_wrong_login_or_database_is_refused(
    make_redis: Callable[..., RedisServer], kind: type
) -> None:
    server = make_redis(password="right")
    for url in (
        f"redis://:wrong@127.0.0.1:{server.port}",
        f"redis://127.0.0.1:{server.port}",
        f"redis://:right@127.0.0.1:{server.port}/99",
    ):
        async with kind(url) as backend:
            with pytest.raises(BackendRefused):
                async with backend.listen():
                    pass
            with pytest.raises(BackendRefused):
                await backend.publish([Message("news", b"")])


async def test_run_id_that_may_not_be_read_is_refused(
    make_redis: Callable[..., RedisServer],
) -> None:
    server = make_redis(password="root")
    server.command("ACL", "SETUSER", "app", "on", ">app", "~*", "&*", "+@all", "-info")
    url = f"redis://app:app@127.0.0.1:{server.port}"
    await round_trip(RedisChannelsPubSubBackend(url))
    async with RedisChannelsStreamBackend(url) as backend:
        with pytest.raises(BackendRefused, match="permission for INFO"):
            async with backend.listen():
                pass


@asynccontextmanager
async def pretender(greeting: bytes) -> AsyncIterator[int]:
    """A server that says only what it is."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while size := await reader.readline():
            words = [await reader.readline() for _ in range(2 * int(size[1:]))]
            writer.write(greeting if words[1] == b"HELLO\r\n" else b"+OK\r\n")
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        yield server.sockets[0].getsockname()[1]


def hello(name: str, version: str, mode: str = "standalone", role: str = "master") -> bytes:
    words = ["server", name, "version", version, "mode", mode, "role", role]
    return b"*8\r\n" + b"".join(b"$%d\r\n%b\r\n" % (len(w), w.encode()) for w in words)


@pytest.mark.parametrize(
    ("greeting", "error", "why"),
    [
        (b"-ERR unknown command `HELLO`\r\n", BackendRefused, "older than 6.0; needed is"),
        (hello("redis", "6.2.14"), BackendRefused, "is redis 6.2.14; needed is Redis 7.0"),
        (hello("valkey", "7.1.0"), BackendRefused, "is valkey 7.1.0"),
        (hello("redis", "7.0.0", "cluster"), BackendRefused, "pass cluster=True"),
        (hello("redis", "7.0.0", "sentinel"), BackendRefused, "is a Sentinel"),
        (hello("redis", "7.0.0", role="replica"), BackendUnavailable, "is a replica"),
        (b"-LOADING Redis is loading\r\n", BackendUnavailable, "loading"),
        (b"-ERR max number of clients reached\r\n", BackendUnavailable, "max number"),
    ],
    ids=["ancient", "old", "old valkey", "cluster", "sentinel", "replica", "loading", "full"],
)
async def test_server_that_will_not_do(greeting: bytes, error: type, why: str) -> None:
    async with (
        pretender(greeting) as port,
        RedisChannelsPubSubBackend(f"redis://127.0.0.1:{port}") as backend,
    ):
        with pytest.raises(error, match=why):
            async with backend.listen():
                pass


async def test_cluster_option_for_no_cluster(redis_space: RedisSpace) -> None:
    async with RedisChannelsPubSubBackend(redis_space.url, cluster=True) as backend:
        with pytest.raises(BackendRefused):
            await backend.publish([Message("news", b"")])


@pytest.mark.parametrize(
    ("url", "kind"),
    [
        ("redis://localhost/1", RedisChannelsPubSubBackend),
        ("rediss://localhost", RedisChannelsPubSubBackend),
        ("redis+stream://localhost/0?history=5&ttl=60&meta_ttl=90", RedisChannelsStreamBackend),
        ("rediss+stream://localhost?heartbeat=1.5", RedisChannelsStreamBackend),
        ("redis://a,b:26379?sentinel=main&sentinel_password=x", RedisChannelsPubSubBackend),
        ("redis+stream://a,b:7000?cluster=true", RedisChannelsStreamBackend),
        ("redis://localhost?socket_keepalive=1", RedisChannelsPubSubBackend),
    ],
)
def test_urls_of_entry_points(url: str, kind: type) -> None:
    assert type(load_backend(url)) is kind


@pytest.mark.parametrize(
    ("make", "why"),
    [
        (RedisChannelsPubSubBackend, "pass either a URL"),
        (lambda: RedisChannelsPubSubBackend("redis://x", redis=Redis()), "either a URL or redis="),
        (lambda: RedisChannelsPubSubBackend(redis=redis.Redis()), "redis.asyncio"),
        (lambda: RedisChannelsPubSubBackend("redis+stream://x"), "is no scheme of"),
        (lambda: RedisChannelsPubSubBackend("localhost"), "nothing is no scheme of"),
        (lambda: RedisChannelsPubSubBackend("redis://x?nonsense=1"), "^nonsense= is no option of"),
        (
            lambda: RedisChannelsPubSubBackend("redis://x?history=1"),
            "redis.stream:// keeps history",
        ),
        (lambda: load_backend("redis+stream://x/app?history=1"), "the database is a number"),
        (lambda: RedisChannelsPubSubBackend("redis://x?db=nonsense"), "no Redis URL"),
        (lambda: RedisChannelsPubSubBackend("redis://x,y"), "2 hosts"),
        (lambda: RedisChannelsPubSubBackend("redis://x", cluster=True, sentinel="m"), "exclude"),
        (lambda: RedisChannelsPubSubBackend(redis=Redis(), cluster=True), "the client says"),
        (lambda: RedisChannelsPubSubBackend("redis://x", heartbeat=0), "heartbeat=0"),
        (
            lambda: RedisChannelsPubSubBackend(redis=Sentinel([("x", 1)]).slave_for("main")),
            "master_for",
        ),
        (lambda: RedisChannelsStreamBackend("redis://x", history=0), "history=0"),
        (lambda: RedisChannelsStreamBackend("redis://x", ttl=0), "ttl=0"),
        (lambda: RedisChannelsStreamBackend("redis://x", ttl=9, meta_ttl=8), "less than ttl=9"),
        (lambda: RedisChannelsStreamBackend("redis://x", ttl=None, meta_ttl=8), "than ttl=None"),
        (lambda: RedisChannelsStreamBackend("redis://x", wait_replicas=-1), "wait_replicas=-1"),
        (lambda: RedisChannelsStreamBackend("redis://x", tops_interval=0), "tops_interval=0"),
        (lambda: load_backend("redis+stream://x?history=many"), "history='many'"),
    ],
)
def test_configuration_errors(make: Callable[[], object], why: str) -> None:
    with pytest.raises(ConfigurationError, match=why):
        make()


async def test_tls_on_one_side_only_is_named(make_redis: Callable[..., RedisServer]) -> None:
    plain, tls = make_redis(), make_redis(tls=True)
    urls = {
        f"rediss://127.0.0.1:{plain.port}?connect_timeout=0.3": "does it speak TLS",
        f"redis://127.0.0.1:{tls.port}": "does it want TLS",
    }
    for url, why in urls.items():
        async with load_backend(url) as backend:
            with pytest.raises(BackendUnavailable, match=why):
                await backend.publish([Message("news", b"")])


@pytest.mark.parametrize(
    ("option", "value", "takes"),
    [
        ("connect_timeout", None, "seconds above 0"),
        ("heartbeat", "5", "seconds above 0"),
        ("max_payload", 1.5, "a whole number of at least 1"),
        ("cluster", "no", "True or False"),
        ("key_prefix", None, "a text"),
        ("history", "100", "at least 1, or use Pub/Sub"),
        ("meta_ttl", "1", "seconds above 0, or None"),
        ("wait_replicas", None, "a whole number of at least 0"),
    ],
)
def test_option_of_a_wrong_type_is_named(option: str, value: Any, takes: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        RedisChannelsStreamBackend("redis://x", **{option: value})
    assert str(caught.value) == f"{option}={value!r}: pass {takes}"


async def test_password_is_in_no_error() -> None:
    async with RedisChannelsPubSubBackend("redis://u:hunter2@127.0.0.1:1") as backend:
        with pytest.raises(BackendUnavailable) as caught:
            await backend.publish([Message("news", b"")])
    assert "hunter2" not in f"{caught.value!r}{caught.value.__cause__!r}"


async def test_backend_that_is_not_open() -> None:
    backend = RedisChannelsPubSubBackend("redis://localhost")
    with pytest.raises(NotRunningError):
        await backend.publish([Message("news", b"")])


async def test_max_payload_concerns_one_message(redis_space: RedisSpace) -> None:
    async with RedisChannelsStreamBackend(redis_space.url, max_payload=3) as backend:
        outcomes = await backend.publish([Message("a", b"1234"), Message("a", b"123")])
        assert isinstance(outcomes[0], PayloadTooLarge)
        assert outcomes[1].offset == 1
