"""A private pgbouncer in front of a PostgreSQL."""

import signal
import socket
from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar, Literal

from kit._binaries import pgbouncer_program
from kit._server import Server
from kit._user import Credentials, hand_over, unprivileged
from kit.postgres import PostgresServer


class PgBouncer(Server):
    """A connection pooler; only Debian brings it.

    Args:
        server: What it stands in front of; every database, as superuser.
        pool_mode: "transaction" (a server connection belongs to a client for one transaction,
            so what LISTEN hears goes nowhere), "session" or "statement".
    """

    kind: ClassVar[str] = "pgbouncer"
    stop_signal: ClassVar[signal.Signals] = signal.SIGTERM

    def __init__(
        self,
        server: PostgresServer,
        pool_mode: Literal["transaction", "session", "statement"] = "transaction",
    ) -> None:
        self._program = pgbouncer_program()
        super().__init__()
        self._server = server
        self._pool_mode = pool_mode

    @property
    def url(self) -> str:
        """The maintenance database, through it."""
        return self.url_for()

    def url_for(self, database: str = "postgres", *, scheme: str = "postgresql") -> str:
        """Return the URL of a database, through it."""
        return self._server.url_for(database, port=self.port, scheme=scheme)

    def _prepare(self) -> None:
        self.data.mkdir()
        users = self.data / "users.txt"
        users.write_text('"postgres" ""\n')
        (self.data / "pgbouncer.ini").write_text(
            f"""\
[databases]
* = host={self._server.host} port={self._server.port}
[pgbouncer]
listen_addr = {self.host}
listen_port = {self.port}
unix_socket_dir =
auth_type = trust
auth_file = {users}
pool_mode = {self._pool_mode}
default_pool_size = 20
ignore_startup_parameters = extra_float_digits,search_path
"""
        )
        for path in (self.data, *self.data.iterdir()):
            hand_over(path)

    def _command(self) -> Sequence[str | Path]:
        return [self._program, self.data / "pgbouncer.ini"]

    def _is_ready(self) -> bool:
        with socket.socket() as probe:
            return probe.connect_ex((self.host, self.port)) == 0

    def _credentials(self) -> Credentials:
        return unprivileged()
