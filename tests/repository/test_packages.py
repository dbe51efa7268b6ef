"""What every distribution must be, so that five of them fit into one namespace."""

import ast
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

from tools.bump import PIN, has_section
from tools.packages import PREFIX, ROOT, Package, discover, requirement_name

PACKAGES = discover()
CORE = PACKAGES["channels-core"]
DOCUMENTS = [
    "README.md",
    *sorted(str(file.relative_to(ROOT)) for file in ROOT.glob("docs/**/*.rst")),
]

# Django Channels has these modules in the same folder once both are installed.
TAKEN = {
    "apps",
    "auth",
    "consumer",
    "db",
    "exceptions",
    "generic",
    "layers",
    "management",
    "middleware",
    "routing",
    "security",
    "sessions",
    "testing",
    "utils",
    "worker",
}
# What else may be imported where: the test kit is used under pytest, a module may need an extra.
ALSO_ALLOWED = {
    "channels.core.testing": {"pytest", "pytest_asyncio"},
    "channels.uvicorn.wsproto": {"wsproto"},
}

each_package = pytest.mark.parametrize("package", PACKAGES.values(), ids=PACKAGES)


def test_every_folder_is_a_distribution() -> None:
    folders = {path.name for path in (ROOT / "packages").iterdir() if any(path.rglob("*.py"))}
    assert folders == set(PACKAGES)


def test_all_have_one_version_that_the_changelog_tells_of() -> None:
    assert len({package.version for package in PACKAGES.values()}) == 1
    assert has_section((ROOT / "CHANGELOG.md").read_text("utf-8"), CORE.version)


@pytest.mark.parametrize("file", DOCUMENTS)
def test_commands_name_this_version(file: str) -> None:
    found = {version for _, version in PIN.findall((ROOT / file).read_text("utf-8"))}
    assert found <= {CORE.version}, "run `nox -s bump`"


@each_package
def test_siblings_are_pinned_exactly(package: Package) -> None:
    wanted = [*package.dependencies, *(r for extra in package.extras.values() for r in extra)]
    for requirement in wanted:
        if (name := requirement_name(requirement)).startswith(PREFIX):
            assert requirement == f"{name}=={CORE.version}", "run `nox -s bump`"


def test_core_has_an_extra_for_each_sibling() -> None:
    pinned = {name: extra for name, extra in CORE.extras.items() if extra[0].startswith(PREFIX)}
    siblings = [package for package in PACKAGES.values() if package is not CORE]
    assert pinned == {each.part: [f"{each.name}=={each.version}"] for each in siblings}, (
        "run `nox -s bump -- VERSION`"
    )


@each_package
def test_arrows_point_at_core(package: Package) -> None:
    assert package.siblings == ([] if package is CORE else [CORE.name])


@each_package
def test_the_wheel_holds_one_part(package: Package) -> None:
    targets = package.pyproject["tool"]["hatch"]["build"]["targets"]
    part = f"src/channels/{package.part}"
    assert targets["wheel"] == {"only-include": [part], "sources": ["src"]}
    assert targets["sdist"] == {"only-include": [part]}
    assert package.folder.name == package.name
    assert package.part not in TAKEN
    namespace = package.source.parent
    assert {path.name for path in namespace.iterdir()} - {"__pycache__"} == {package.part}
    assert (package.source / "py.typed").read_bytes() == b""


@each_package
def test_licence_and_readme_are_real_copies(package: Package) -> None:
    licence, readme = package.folder / "LICENSE", package.folder / "README.md"
    assert not licence.is_symlink()
    assert licence.read_bytes() == (ROOT / "LICENSE").read_bytes()
    assert not readme.is_symlink()
    assert readme.read_text("utf-8").startswith(f"# {package.name}\n")


@each_package
def test_metadata_agree_with_core(package: Package) -> None:
    project, core = package.pyproject["project"], CORE.pyproject["project"]
    for key in ("requires-python", "license", "license-files", "readme", "authors"):
        assert project[key] == core[key]
    versions = "Programming Language :: Python"
    for other in (project, core):
        assert other["classifiers"] == sorted(other["classifiers"])
    assert [line for line in project["classifiers"] if line.startswith(versions)] == [
        line for line in core["classifiers"] if line.startswith(versions)
    ]


@each_package
def test_backends_are_registered_under_their_own_part(package: Package) -> None:
    groups = package.pyproject["project"].get("entry-points", {})
    assert set(groups) <= {"channels.backends"}
    for scheme, target in groups.get("channels.backends", {}).items():
        assert scheme == scheme.lower()
        assert target.startswith(f"{package.module}")


@each_package
def test_it_imports_only_what_it_declares(package: Package) -> None:
    declared = {requirement_name(r).replace("-", "_") for r in package.dependencies}
    own = {package.module, *(PACKAGES[name].module for name in package.siblings)}
    for file in package.source.rglob("*.py"):
        module = ".".join(file.relative_to(package.folder / "src").with_suffix("").parts)
        allowed = set(sys.stdlib_module_names) | declared
        for prefix, more in ALSO_ALLOWED.items():
            if f"{module}.".startswith(f"{prefix}."):
                allowed |= more
        for name in imported(file):
            top = name.partition(".")[0]
            if top == "channels":
                assert ".".join(name.split(".")[:2]) in own, f"{module} imports {name}"
            else:
                assert top in allowed, f"{module} imports {name}"


def imported(file: Path) -> Iterator[str]:
    """Give the absolute name of every module that a file imports, inside functions too."""
    for node in ast.walk(ast.parse(file.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file.name} has a relative import"
            yield str(node.module)


def test_the_root_describes_tools_only() -> None:
    root = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
    assert {"project", "build-system"}.isdisjoint(root)
