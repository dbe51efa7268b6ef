"""TLS that the two sides do not agree on."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from channels.core import BackendException, BackendRefused, BackendUnavailable, Message
from kit import Authority, authority
from kit.postgres import PostgresServer
from postgres_suite._maker import Maker, send


@pytest.fixture
def tls_server(make_postgres: Callable[..., PostgresServer]) -> PostgresServer:
    server = make_postgres(tls=True)
    server.create_role("certified")
    return server


class TlsSuite(Maker):
    """What is missing is named, with what to do about it."""

    async def fails(self, url: str) -> BackendException:
        """Return what connecting raises, and see that publishing gives the same."""
        async with self.make(url) as backend:
            with pytest.raises(BackendException) as caught:
                async with backend.listen():
                    pass
            [outcome] = await backend.publish([Message("a", b"1")])
        assert isinstance(outcome, BackendException)
        assert (type(outcome), str(outcome)) == (caught.type, str(caught.value))
        return caught.value

    async def test_a_server_that_has_none(self, postgres_server: PostgresServer) -> None:
        error = await self.fails(f"{postgres_server.url}?sslmode=require")
        assert isinstance(error, BackendUnavailable)
        assert "SSL" in str(error)
        assert "it speaks no TLS" in str(error)

    async def test_a_server_that_cannot_be_trusted(self, tls_server: PostgresServer) -> None:
        """Neither one of an authority of its own, nor one that is called otherwise."""
        unknown = Authority().certificate.file
        error = await self.fails(f"{tls_server.url}?sslmode=verify-full&sslrootcert={unknown}")
        assert isinstance(error, BackendUnavailable)
        assert "certificate verify failed" in str(error)
        assert "let sslrootcert name the authority" in str(error)
        url = tls_server.url.replace("127.0.0.1", "0.0.0.0")
        trusted = authority().certificate.file
        error = await self.fails(f"{url}?sslmode=verify-full&sslrootcert={trusted}")
        assert isinstance(error, BackendUnavailable)
        assert "0.0.0.0" in str(error)
        assert "connect by a name that is in its certificate" in str(error)
        assert "let sslrootcert" not in str(error)
        async with self.make(f"{url}?sslmode=verify-ca&sslrootcert={trusted}") as backend:
            await send(backend, "a", b"1")

    async def test_a_server_that_wants_a_certificate(self, tls_server: PostgresServer) -> None:
        url = f"{tls_server.url_for(user='certified')}?sslmode="
        error = await self.fails(f"{url}require")
        assert isinstance(error, BackendRefused)
        assert "let sslcert and sslkey name" in str(error)
        error = await self.fails(f"{url}disable")
        assert isinstance(error, BackendRefused)
        assert "sslmode=require" in str(error)
        client = authority().issue("certified")
        async with self.make(f"{url}require&sslcert={client.file}&sslkey={client.key}") as backend:
            await send(backend, "a", b"1")
