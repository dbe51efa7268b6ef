"""A private PostgreSQL."""

import os
import shutil
import signal
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar
from urllib.parse import quote

from kit._binaries import PostgresVersion, postgres_programs
from kit._home import home
from kit._server import Server, copy_tree
from kit._shm import remove_shared_memory
from kit._tls import authority, server_certificate
from kit._user import Credentials, hand_over, unprivileged

if TYPE_CHECKING:
    from psycopg import Connection

SETTINGS = {
    "listen_addresses": "127.0.0.1",
    "unix_socket_directories": "",
    "dynamic_shared_memory_type": "mmap",  # in the data directory: kill -9 leaves none behind
    "shared_buffers": "16MB",
    "shared_preload_libraries": "plpgsql",  # once, and not by each connection that needs it
    "fsync": "off",  # what is written survives kill -9 without it
    "full_page_writes": "off",
    "max_prepared_transactions": "20",
    "log_line_prefix": "%m [%p] ",
    "timezone": "UTC",
    "log_timezone": "UTC",
}
# The superuser comes in without a password; everybody else needs his, so that a wrong one fails.
ACCESS = """\
host all postgres 127.0.0.1/32 trust
host all all 127.0.0.1/32 scram-sha-256
"""
# With TLS: who has this name shows a certificate and needs no password.
CERTIFIED = """\
hostssl all certified 127.0.0.1/32 trust clientcert=verify-ca
hostnossl all certified 127.0.0.1/32 reject
"""


class PostgresServer(Server):
    """A PostgreSQL alone; its superuser is ``postgres``, without a password.

    Args:
        version: 15 (Debian), 16 or 18 (wheel), or None, whichever there is.
        settings: Server settings, as ``{"max_connections": 20}``.
        tls: Offer TLS, with a certificate of the kit's `authority`; the role ``certified`` has to
            show one of its own. Only Debian's 15 can.
    """

    kind: ClassVar[str] = "postgres"
    stop_signal: ClassVar[signal.Signals] = signal.SIGINT  # fast: waits for nobody

    def __init__(
        self,
        version: PostgresVersion | None = None,
        *,
        settings: dict[str, object] | None = None,
        tls: bool = False,
    ) -> None:
        self._programs = _readable(postgres_programs(15 if tls else version))
        super().__init__()
        self._settings: dict[str, object] = {
            **SETTINGS,
            **(settings or {}),
            "port": self.port,
        }
        self._tls = tls
        hand_over(self.directory)

    @property
    def url(self) -> str:
        """The maintenance database ``postgres``, as superuser."""
        return self.url_for()

    def url_for(
        self,
        database: str = "postgres",
        *,
        user: str = "postgres",
        password: str | None = None,
        port: int | None = None,
        scheme: str = "postgresql",
    ) -> str:
        """Return a URL for a database, a user, another port (a proxy's) or scheme."""
        login = f"{user}:{quote(password, safe='')}" if password else user
        return f"{scheme}://{login}@{self.host}:{port or self.port}/{database}"

    def execute(self, query: str, *args: object, database: str = "postgres") -> list[Any]:
        """Run SQL as superuser on a connection of its own and return the rows, if any.

        Args:
            query: A statement with ``%s`` for each of ``args``, or without any several
                statements, which then are one transaction.
            args: Parameters.
            database: Where.
        """
        with self.connect(database) as connection:
            cursor = connection.execute(query.encode(), args or None)
            return cursor.fetchall() if cursor.description else []

    def connect(self, database: str = "postgres") -> "AbstractContextManager[Connection[Any]]":
        """Open a psycopg connection in autocommit mode as superuser."""
        return connect(self.url, database)

    def create_database(
        self, name: str, *, encoding: str = "UTF8", template: str = "template0"
    ) -> str:
        """Create a database and return its URL."""
        self.execute(f'CREATE DATABASE "{name}" TEMPLATE "{template}" ENCODING {encoding}')
        return self.url_for(name)

    def drop_database(self, name: str) -> None:
        """Drop a database with all its connections."""
        self.execute(f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)')

    def create_role(self, name: str, password: str = "secret") -> None:
        """Create a role that may log in and nothing else; see ``url_for(user=, password=)``."""
        quoted = password.replace("'", "''")
        self.execute(f"""CREATE ROLE "{name}" LOGIN PASSWORD '{quoted}'""")

    def terminate_backends(self, where: str = "true", *args: object) -> int:
        """End the client connections that match and return how many.

        Args:
            where: A condition over ``pg_stat_activity``, as ``query LIKE 'LISTEN%%'``.
            args: Its parameters.
        """
        rows = self.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            f" WHERE backend_type = 'client backend' AND pid <> pg_backend_pid() AND ({where})",
            *args,
        )
        return len(rows)

    def stop_immediately(self) -> None:
        """Stop like ``pg_ctl -m immediate``: clients are cut off, the next start recovers."""
        self._end(signal.SIGQUIT)

    def kill_postmaster(self) -> None:
        """Kill the postmaster alone; its children notice and end, each in its own time."""
        self._signal(signal.SIGKILL, self.pid)
        self._reap()

    def wipe(self) -> None:
        """Throw the data of a server that is not running away."""
        if not self.is_running:
            remove_shared_memory(self.data)
        super().wipe()

    def close(self) -> None:
        """End it and forget its data and its port."""
        if self.is_running:
            self.stop_immediately()  # unlike a kill it removes its shared memory
        remove_shared_memory(self.data)
        super().close()

    def _prepare(self) -> None:
        copy_tree(_template(self._programs), self.data)
        if self._tls:
            self._prepare_tls()

    def _prepare_tls(self) -> None:
        certificate = server_certificate()
        files = {
            "ssl_cert_file": certificate.file,
            "ssl_key_file": certificate.key,
            "ssl_ca_file": authority().certificate.file,
        }
        self._settings["ssl"] = "on"
        for setting, file in files.items():
            copy = self._settings[setting] = self.directory / setting
            copy.write_bytes(file.read_bytes())
            copy.chmod(0o600)
            hand_over(copy)
        (self.data / "pg_hba.conf").write_text(CERTIFIED + ACCESS)

    def _command(self) -> Sequence[str | Path]:
        settings = (part for k, v in self._settings.items() for part in ("-c", f"{k}={v}"))
        return [self._programs / "postgres", "-D", self.data, *settings]

    def _is_ready(self) -> bool:
        try:
            lines = (self.data / "postmaster.pid").read_text().splitlines()
        except FileNotFoundError:
            return False
        return len(lines) >= 8 and lines[0] == str(self.pid) and lines[7].strip() == "ready"

    def _may_start_again(self) -> bool:
        return "is still in use" in self.log()  # by the last children of a killed postmaster

    def _credentials(self) -> Credentials:
        return unprivileged()


@contextmanager
def connect(url: str, database: str | None = None) -> Iterator["Connection[Any]"]:
    """Open a psycopg connection in autocommit mode, to another database than the URL's if named."""
    import psycopg  # here, so that tests of Redis alone can do without

    target = psycopg.conninfo.make_conninfo(url, dbname=database, connect_timeout=5)
    with psycopg.connect(target, autocommit=True) as connection:
        yield connection


@cache
def _readable(programs: Path) -> Path:
    """Return the programs' folder, or a copy where the other user cannot reach it."""
    try:
        _run([programs / "postgres", "--version"], Path("/"))
    except (OSError, RuntimeError):
        # A wheel's programs find their libraries in a folder beside the package.
        install, package, site = programs.parents[0], programs.parents[1], programs.parents[2]
        copy = home.make_directory("programs")
        for folder in (install, site / f"{package.name}.libs"):
            if folder.exists():
                shutil.copytree(folder, copy / folder.relative_to(site), symlinks=True)
        return copy / programs.relative_to(site)
    return programs


@cache
def _template(programs: Path) -> Path:
    """Run ``initdb`` once per version."""
    directory = home.make_directory("initdb")
    hand_over(directory)
    command: list[str | Path] = [
        *(programs / "initdb", "--pgdata", directory / "data", "--username", "postgres"),
        *("--encoding", "UTF8", "--locale", "C", "--no-sync", "--wal-segsize", "1"),
    ]
    _run(command, directory)
    (directory / "data/pg_hba.conf").write_text(ACCESS)
    return directory / "data"


def _run(command: Sequence[str | Path], directory: Path) -> None:
    done = subprocess.run(
        command,
        capture_output=True,
        text=True,
        cwd=directory,
        env={"PATH": os.defpath, "LC_ALL": "C"},
        check=False,
        **unprivileged(),
    )
    if done.returncode:
        raise RuntimeError(f"{command[0]} failed:\n{done.stdout}\n{done.stderr}")
