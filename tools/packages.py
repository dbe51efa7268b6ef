"""The distributions of this repository, found as ``packages/*/pyproject.toml``."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
PREFIX = "channels-"


@dataclass(frozen=True)
class Package:
    """One distribution: a folder under ``packages/``."""

    folder: Path
    pyproject: Mapping[str, Any]

    @property
    def name(self) -> str:
        """Give the distribution's name, such as ``channels-core``."""
        return str(self.pyproject["project"]["name"])

    @property
    def version(self) -> str:
        """Give the version that its ``pyproject.toml`` states."""
        return str(self.pyproject["project"]["version"])

    @property
    def part(self) -> str:
        """Give the one folder it owns in the namespace, such as ``core``."""
        return self.name.removeprefix(PREFIX).replace("-", "_")

    @property
    def module(self) -> str:
        """Give the import package, such as ``channels.core``."""
        return f"channels.{self.part}"

    @property
    def source(self) -> Path:
        """Give the folder of the import package."""
        return self.folder / "src" / "channels" / self.part

    @property
    def dependencies(self) -> Sequence[str]:
        """Give what it requires, siblings included."""
        return list(self.pyproject["project"].get("dependencies", ()))

    @property
    def extras(self) -> Mapping[str, Sequence[str]]:
        """Give what each of its extras requires."""
        return dict(self.pyproject["project"].get("optional-dependencies", {}))

    @property
    def siblings(self) -> Sequence[str]:
        """Give the names of the distributions of this repository that it requires."""
        names = map(requirement_name, self.dependencies)
        return [name for name in names if name.startswith(PREFIX)]


def requirement_name(requirement: str) -> str:
    """Return the normalized distribution name at the head of a requirement."""
    match = re.match(r"[A-Za-z0-9._-]+", requirement)
    if match is None:
        raise ValueError(f"not a requirement: {requirement!r}")
    return re.sub(r"[-_.]+", "-", match[0]).lower()


def discover(root: Path = ROOT) -> dict[str, Package]:
    """Return every distribution by name; adding a folder is all it takes to be one."""
    files = sorted(root.glob("packages/*/pyproject.toml"))
    packages = [Package(file.parent, tomllib.loads(file.read_text("utf-8"))) for file in files]
    return {package.name: package for package in packages}


def closure(name: str, packages: Mapping[str, Package]) -> list[Package]:
    """Return a distribution and the siblings that it requires, itself first."""
    found: dict[str, Package] = {}
    wanted = [name]
    while wanted:
        package = packages[wanted.pop()]
        if package.name not in found:
            found[package.name] = package
            wanted.extend(package.siblings)
    return list(found.values())
