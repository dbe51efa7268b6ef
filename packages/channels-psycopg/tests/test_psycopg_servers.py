import psycopg
import pytest
from psycopg_pool import AsyncConnectionPool

from channels.core import BackendException, BackendRefused, ChannelsPlugin
from channels.psycopg import PsycoPgChannelsBackend
from kit import eventually
from kit.fixtures import PostgresSpace
from postgres_suite.fixtures import postgres_role
from postgres_suite.makers import PsycopgMaker
from postgres_suite.servers import ServerSuite
from postgres_suite.tls import TlsSuite, tls_server

__all__ = ("postgres_role", "tls_server")  # fixtures


@pytest.mark.extended
class TestServers(PsycopgMaker, ServerSuite): ...


@pytest.mark.extended
class TestTls(PsycopgMaker, TlsSuite):
    async def test_a_mode_that_there_is_not(self) -> None:
        async with PsycoPgChannelsBackend("postgresql://localhost/app?sslmode=on") as backend:
            with pytest.raises(BackendRefused, match='invalid sslmode value: "on"'):
                async with backend.listen():
                    pass


class TestPools(PsycopgMaker):
    async def test_lent_connection_keeps_its_settings(self, postgres_space: PostgresSpace) -> None:
        """A connection of the pool that was listened on goes back to the application."""

        async def configure(connection: psycopg.AsyncConnection) -> None:
            await connection.execute("SET default_transaction_isolation = 'serializable'")
            await connection.commit()

        async with (
            AsyncConnectionPool(
                postgres_space.url, min_size=1, max_size=1, open=False, configure=configure
            ) as pool,
            self.make(pool=pool) as backend,
        ):
            async with backend.listen():
                pass
            async with pool.connection() as connection:
                shown = await connection.execute("SHOW default_transaction_isolation")
                assert await shown.fetchone() == ("serializable",)

    async def test_pool_with_another_encoding(self, postgres_space: PostgresSpace) -> None:
        async with AsyncConnectionPool(
            postgres_space.url,
            min_size=1,
            max_size=3,
            open=False,
            kwargs={"client_encoding": "latin1"},
        ) as pool:
            backend = PsycoPgChannelsBackend(pool=pool)
            async with ChannelsPlugin(backend, arbitrary_channels_allowed=True) as plugin:
                received: list[object] = []
                subscriber = await plugin.subscribe("caf\u00e9")
                subscriber.attach(lambda events: received.extend(events) is None)
                await plugin.wait_published("1", "caf\u00e9")
                await eventually(lambda: received == [b"1"], "the event")
                with pytest.raises(BackendException, match="client_encoding"):
                    await plugin.subscribe("\u20ac")
