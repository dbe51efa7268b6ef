"""Check what was built: ``python -m tools.wheels dist``.

Each distribution must have exactly one sdist and one wheel, and both must hold its own part of the
namespace and nothing of anybody else's.
"""

from __future__ import annotations

import re
import sys
import tarfile
import zipfile
from collections.abc import Iterator
from email import message_from_bytes
from pathlib import Path

from tools.packages import PREFIX, Package, discover, requirement_name


def check(dist: Path) -> Iterator[str]:
    """Yield one sentence for each thing that is wrong in the folder of built files."""
    packages = discover()
    expected = {file for package in packages.values() for file in _file_names(package)}
    found = {file.name for file in dist.iterdir()}
    yield from (f"{name} was not built" for name in sorted(expected - found))
    yield from (f"{name} should not be there" for name in sorted(found - expected))
    for package in packages.values():
        sdist, wheel = _file_names(package)
        if sdist in found:
            yield from (f"{sdist}: {fault}" for fault in _check_sdist(dist / sdist, package))
        if wheel in found:
            yield from (f"{wheel}: {fault}" for fault in _check_wheel(dist / wheel, package))


def wheel_name(package: Package) -> str:
    """Return the file name of a distribution's wheel."""
    return _file_names(package)[1]


def _file_names(package: Package) -> tuple[str, str]:
    stem = f"{package.name.replace('-', '_')}-{package.version}"
    return f"{stem}.tar.gz", f"{stem}-py3-none-any.whl"


def _sources(package: Package) -> set[str]:
    """Return the files of the import package as the wheel should name them."""
    src = package.folder / "src"
    files = (file for file in package.source.rglob("*") if file.is_file())
    return {file.relative_to(src).as_posix() for file in files if "__pycache__" not in file.parts}


def _check_sdist(sdist: Path, package: Package) -> Iterator[str]:
    with tarfile.open(sdist) as archive:
        members = archive.getmembers()
    yield from (f"{member.name} is a link" for member in members if not member.isfile())
    names = {member.name.partition("/")[2] for member in members}
    wanted = {f"src/{name}" for name in _sources(package)}
    wanted |= {"LICENSE", "PKG-INFO", "README.md", "pyproject.toml"}
    yield from (f"{name} is missing" for name in sorted(wanted - names))
    yield from (f"{name} is too much" for name in sorted(names - wanted - {".gitignore"}))


def _check_wheel(wheel: Path, package: Package) -> Iterator[str]:
    with zipfile.ZipFile(wheel) as archive:
        members = set(archive.namelist())
        info = f"{wheel.name.partition('-py3')[0]}.dist-info"
        metadata = message_from_bytes(archive.read(f"{info}/METADATA"))
    names = {name for name in members if not name.startswith(f"{info}/")}
    sources = _sources(package)
    yield from (f"{name} is missing" for name in sorted(sources - names))
    yield from (f"{name} is too much" for name in sorted(names - sources))
    if "channels/__init__.py" in names:
        yield "channels/__init__.py hides the other distributions"
    if f"channels/{package.part}/py.typed" not in names:
        yield "py.typed is missing"
    if f"{info}/licenses/LICENSE" not in members:
        yield "the licence is missing"
    if not str(metadata.get_payload()).strip():
        yield "the description is missing"
    for requirement in metadata.get_all("Requires-Dist", []):
        name = requirement_name(requirement)
        pinned = re.match(rf"{name}=={re.escape(package.version)}(;|\s|$)", requirement)
        if name.startswith(PREFIX) and not pinned:
            yield f"{requirement!r} is not pinned to {package.version}"


def main() -> None:
    """Print the faults and fail if there are any."""
    faults = list(check(Path(sys.argv[1])))
    for fault in faults:
        print(fault)
    if faults:
        sys.exit(f"{len(faults)} faults in what was built")
    print("what was built is as it should be")


if __name__ == "__main__":
    main()
