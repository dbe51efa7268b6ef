"""What only the kit's PostgreSQL servers can: databases, roles, encodings, pgbouncer."""

from collections.abc import Iterator

import psycopg
import pytest

from kit import PgBouncer, PostgresServer
from kit._databases import Databases
from kit.fixtures import PostgresSpace

pytestmark = pytest.mark.extended


@pytest.fixture
def bouncer(postgres_server: PostgresServer) -> Iterator[PgBouncer]:
    with PgBouncer(postgres_server) as bouncer:
        yield bouncer


@pytest.mark.parametrize("turn", [1, 2])
def test_a_space_is_empty(postgres_space: PostgresSpace, turn: int) -> None:
    assert postgres_space.execute("SELECT to_regclass('mine')") == [(None,)]
    postgres_space.execute("CREATE TABLE mine (a int)")


def test_a_database_that_comes_back_is_emptied(postgres_databases: Databases) -> None:
    name = postgres_databases.take()
    with postgres_databases.connect(name) as connection:
        connection.execute("""
            CREATE SCHEMA other;
            CREATE TABLE other.b (id serial PRIMARY KEY);
            CREATE TYPE mood AS ENUM ('good');
            CREATE FUNCTION f() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END';
            CREATE TRIGGER t BEFORE INSERT ON other.b FOR EACH ROW EXECUTE FUNCTION f();
            SELECT lo_create(0);
            CREATE TABLE public.c ();
            DROP SCHEMA public CASCADE;
        """)
        connection.execute("CREATE SCHEMA public")
        connection.execute("BEGIN")
        connection.execute("CREATE TABLE prepared ()")
        connection.execute("PREPARE TRANSACTION 'left over'")
        with postgres_databases.connect(name) as busy:
            busy.execute("BEGIN")
            busy.execute("LOCK other.b")
            postgres_databases.give_back(name)
            with pytest.raises(psycopg.OperationalError):
                busy.execute("SELECT 1")
        assert postgres_databases.take() == name
    with postgres_databases.connect(name) as connection:
        tables = connection.execute("SELECT * FROM pg_tables WHERE schemaname !~ '^pg_|^info'")
        assert tables.fetchall() == []
        connection.execute("CREATE TABLE public.usable ()")
    postgres_databases.give_back(name)


def test_a_database_that_cannot_be_emptied_is_dropped(postgres_databases: Databases) -> None:
    name = postgres_databases.take()
    with postgres_databases.connect(name) as connection:
        connection.execute(f'ALTER DATABASE "{name}" SET search_path TO nowhere'.encode())
    postgres_databases.give_back(name)
    with pytest.raises(psycopg.OperationalError, match="does not exist"):
        postgres_databases.connect(name).__enter__()


def test_a_database_may_have_another_encoding(postgres_server: PostgresServer) -> None:
    url = postgres_server.create_database("latin", encoding="LATIN1")
    with psycopg.connect(url, client_encoding="utf8") as connection:
        assert connection.execute("SHOW server_encoding").fetchone() == ("LATIN1",)
        with pytest.raises(psycopg.errors.UntranslatableCharacter):
            connection.execute("SELECT '\u2713'")
    postgres_server.drop_database("latin")


def test_a_restricted_role_needs_its_password(postgres_space: PostgresSpace) -> None:
    server = postgres_space.server
    server.create_role("restricted", "se'cret")
    with (
        psycopg.connect(
            server.url_for(postgres_space.name, user="restricted", password="se'cret")
        ) as connection,
        pytest.raises(psycopg.errors.InsufficientPrivilege),
    ):
        connection.execute("CREATE TABLE refused ()")
    with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
        psycopg.connect(server.url_for(user="restricted", password="wrong"))
    server.execute("DROP ROLE restricted")


def test_pgbouncer_pools_by_transaction(bouncer: PgBouncer) -> None:
    with psycopg.connect(bouncer.url, autocommit=True) as listener:
        listener.execute("LISTEN channel")
        listener.execute("NOTIFY channel")
        # a client that keeps a server connection busy gives the listener another one
        assert listener.execute("SELECT 1").fetchone() == (1,)
        with psycopg.connect(bouncer.url) as busy:
            busy.execute("SELECT 1")
            with psycopg.connect(bouncer.url, autocommit=True) as third:
                [[first]] = [listener.execute("SELECT pg_backend_pid()").fetchone() or []]
                [[second]] = [third.execute("SELECT pg_backend_pid()").fetchone() or []]
                assert first == second


def test_pgbouncer_dies_and_comes_back(bouncer: PgBouncer) -> None:
    bouncer.restart()
    with psycopg.connect(bouncer.url) as connection:
        assert connection.execute("SELECT 1").fetchone() == (1,)
