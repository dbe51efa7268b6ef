import ssl

import asyncpg
import pytest

from channels.asyncpg import AsyncPgChannelsBackend
from channels.core import BackendUnavailable
from postgres_suite.fixtures import postgres_role
from postgres_suite.makers import AsyncpgMaker
from postgres_suite.servers import ServerSuite
from postgres_suite.tls import TlsSuite, tls_server

__all__ = ("postgres_role", "tls_server")  # fixtures


class TestServers(AsyncpgMaker, ServerSuite): ...


class TestTls(AsyncpgMaker, TlsSuite):
    async def test_a_certificate_that_was_turned_down(self) -> None:
        """By hand, because a server may hang up on what is sent before its reason is read."""

        async def connect() -> asyncpg.Connection:
            raise asyncpg.ConnectionDoesNotExistError("closed") from ssl.SSLError(
                "tlsv1 alert unknown ca"
            )

        async with AsyncPgChannelsBackend(make_connection=connect) as backend:
            with pytest.raises(BackendUnavailable, match=r"alert unknown ca.*; let sslcert"):
                async with backend.listen():
                    pass

    @pytest.mark.parametrize(
        ("mode", "option"), [("verify-ca", "sslrootcert"), ("require", "sslcert")]
    )
    async def test_a_file_that_is_missing(self, mode: str, option: str) -> None:
        """Of it asyncpg says what it says of a server's socket: no such file, and not which."""
        url = f"postgresql://localhost/app?sslmode={mode}&{option}=/nonexistent"
        async with AsyncPgChannelsBackend(url) as backend:
            with pytest.raises(BackendUnavailable, match=f"No such file .* {option}"):
                async with backend.listen():
                    pass
