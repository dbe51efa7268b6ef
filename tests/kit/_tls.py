"""A throw-away certificate authority."""

import shutil
import subprocess
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from kit._binaries import missing
from kit._home import home


@dataclass(frozen=True)
class Certificate:
    """A certificate with its key, both as PEM files."""

    file: Path
    key: Path


class Authority:
    """An authority nobody else knows, made by the ``openssl`` program.

    A client that is to trust it gets `certificate.file`; one that gets another authority's
    must refuse to talk.
    """

    def __init__(self) -> None:
        self._directory = home.make_directory("tls")
        self.certificate = self._make(
            "authority",
            "/CN=Test authority",
            ["basicConstraints=critical,CA:TRUE", "keyUsage=critical,keyCertSign,cRLSign"],
        )

    def issue(self, name: str, *, hosts: tuple[str, ...] = ("127.0.0.1", "::1")) -> Certificate:
        """Issue a certificate for ``localhost`` and some addresses."""
        names = ",".join(("DNS:localhost", *(f"IP:{host}" for host in hosts)))
        return self._make(
            name,
            f"/CN={name}",
            ["basicConstraints=critical,CA:FALSE", f"subjectAltName={names}"],
            "-CA",
            self.certificate.file,
            "-CAkey",
            self.certificate.key,
        )

    def _make(
        self, name: str, subject: str, extensions: list[str], *options: str | Path
    ) -> Certificate:
        made = Certificate(self._directory / f"{name}.pem", self._directory / f"{name}.key")
        command = [
            *("openssl", "req", "-x509", "-nodes", "-newkey", "ec"),
            *("-pkeyopt", "ec_paramgen_curve:prime256v1", "-days", "2", "-subj", subject),
            *("-out", made.file, "-keyout", made.key, *options),
            *(part for extension in extensions for part in ("-addext", extension)),
        ]
        if shutil.which("openssl") is None:
            missing("no openssl on PATH (Debian package openssl)")
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            raise RuntimeError(f"openssl failed:\n{done.stderr}")
        return made


@cache
def authority() -> Authority:
    """Return the run's authority."""
    return Authority()


@cache
def server_certificate() -> Certificate:
    """Return the certificate of all the run's servers."""
    return authority().issue("server")
