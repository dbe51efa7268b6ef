"""The guide's snippets that publish from outside of an application, each of them run."""

import asyncio
import subprocess
import sys

import asyncpg

from channels.asyncpg import AsyncPgChannelsBackend
from channels.core import ChannelsPlugin
from examples.guide import cron, outside, publish_in_transaction
from kit.fixtures import PostgresSpace, RedisSpace

from .running import until


def run_cron(broker: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-W", "error", cron.__file__, broker]
    return subprocess.run(command, capture_output=True, check=False, text=True, timeout=20)


def test_the_cron_job_says_what_is_wrong() -> None:
    done = run_cron("redis://127.0.0.1:1/0")
    assert done.returncode == 1
    assert done.stderr.startswith("not published: 127.0.0.1:1 cannot be reached")


async def test_jobs_reach_another_process(redis_space: RedisSpace) -> None:
    broker = f"redis+stream://{redis_space.url.partition('://')[2]}"
    broker += f"?history=10&key_prefix={redis_space.key_prefix}"
    names = ["reports", "news", "imports"]
    async with (
        ChannelsPlugin(broker, channels=names) as channels,
        channels.start_subscription(names) as subscriber,
    ):
        done = await asyncio.to_thread(run_cron, broker)
        assert (done.returncode, done.stderr) == (0, "")
        await outside.import_rows(broker, ["a"])
        await until(lambda: subscriber.qsize == 3)
        events = subscriber.iter_events()
        received = [(await anext(events)).decode() for _ in range(3)]
    assert received == ['{"report":"ready"}', '{"imported":"a"}', '{"imported":"a"}']


async def test_a_transaction_publishes_when_it_commits(postgres_space: PostgresSpace) -> None:
    postgres_space.execute("CREATE TABLE orders (item text)")
    backend = AsyncPgChannelsBackend(postgres_space.url, history=10, create_schema=True)
    connection = await asyncpg.connect(postgres_space.url)
    try:
        async with (
            ChannelsPlugin(backend, channels=["orders"]) as channels,
            channels.start_subscription("orders") as subscriber,
        ):
            await publish_in_transaction.order(backend, connection, "tea")
            event = await anext(subscriber.iter_events())
    finally:
        await connection.close()
    assert event == b'{"item":"tea"}'
