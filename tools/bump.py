"""Write one version into every distribution: ``nox -s bump -- 0.2.0``.

Sets each ``version``, each pin of a sibling, and the extras of ``channels-core`` (one for each
sibling distribution), as plain text, so that a sdist needs neither git nor its neighbours. The pins
in the commands of the documentation follow.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

from tools.packages import PREFIX, ROOT, discover

PIN = re.compile(r"(channels-[a-z0-9]+(?:\[[a-z0-9,]+\])?)==([0-9][a-z0-9.]*)")
"""A distribution of ours at one version, as requirements and commands name it."""

_VERSION = re.compile(r"\d+\.\d+\.\d+((a|b|rc)\d+)?")
_EXTRAS = re.compile(r"(?m)^\[project\.optional-dependencies\]\n(?P<body>(?:[^\[\n].*\n)*)")


def bump(version: str, root: Path = ROOT) -> list[Path]:
    """Write ``version`` everywhere and return the files that changed.

    Raises:
        ValueError: It is no version, or has no section in ``CHANGELOG.md``; nothing was written.
    """
    if not _VERSION.fullmatch(version):
        raise ValueError(f"{version!r} is not a version such as 1.2.3 or 1.2.3rc1")
    changelog = (root / "CHANGELOG.md").read_text("utf-8")
    if not has_section(changelog, version):
        raise ValueError(f"CHANGELOG.md has no section '## {version}': write it first")

    documents = [root / "README.md", *root.glob("docs/**/*.rst")]
    parts = [package.part for package in discover(root).values() if package.part != "core"]
    changed: list[Path] = []
    for file in (*root.glob("packages/*/pyproject.toml"), *documents):
        before = file.read_text("utf-8")
        after = PIN.sub(rf"\1=={version}", before)
        if file.name == "pyproject.toml":
            after = re.sub(r'(?m)^version = "[^"]*"$', f'version = "{version}"', after, count=1)
        if file.parent.name == "channels-core":
            after = _with_extras(after, parts, version)
        if after != before:
            file.write_text(after, "utf-8")
            changed.append(file)
    return changed


def has_section(changelog: str, version: str) -> bool:
    """Tell whether a changelog has a section for this version."""
    return re.search(rf"(?m)^## {re.escape(version)}(\s|$)", changelog) is not None


def _with_extras(pyproject: str, parts: list[str], version: str) -> str:
    """Return core's file with exactly one pinned extra for each sibling, the others kept."""
    match = _EXTRAS.search(pyproject)
    if match is None:
        raise ValueError("channels-core has no table [project.optional-dependencies]")
    own = [line for line in match["body"].splitlines() if f'["{PREFIX}' not in line]
    pins = [f'{part} = ["{PREFIX}{part.replace("_", "-")}=={version}"]' for part in parts]
    body = "\n".join(sorted(own + pins)) + "\n"
    return pyproject[: match.start("body")] + body + pyproject[match.end("body") :]


def main() -> None:
    """Read the version from the command line."""
    if len(sys.argv) != 2:
        sys.exit("usage: nox -s bump -- VERSION")
    try:
        changed = bump(sys.argv[1])
    except ValueError as error:
        sys.exit(str(error))
    for file in changed:
        print(f"wrote {file.relative_to(ROOT)}")
    print(f"every distribution is at {sys.argv[1]}")


if __name__ == "__main__":
    main()
