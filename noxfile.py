"""Everything this repository can do; ``nox -l`` lists it.

A distribution is a folder under ``packages/``: every session finds them there.
"""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

import nox

ROOT = Path(__file__).parent
sys.path.insert(0, str(ROOT))

from tools.packages import Package, closure, discover  # noqa: E402  (needs the path above)
from tools.wheels import wheel_name  # noqa: E402

nox.needs_version = ">=2025.2.9"
nox.options.default_venv_backend = "uv|virtualenv"
nox.options.download_python = "never"
nox.options.sessions = ["tests", "lint", "types", "docs"]

# uv does not read what pip is told about certificates and the index.
os.environ.setdefault("UV_SYSTEM_CERTS", "1")
if "PIP_INDEX_URL" in os.environ:
    os.environ.setdefault("UV_DEFAULT_INDEX", os.environ["PIP_INDEX_URL"])
# The tests start hundreds of processes: none of them is to compile again what it imports.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
os.environ.setdefault("UV_COMPILE_BYTECODE", "1")
# Under nox a server that cannot be started is a failure, not a skipped test.
os.environ.setdefault("CHANNELS_REQUIRE_SERVERS", "1")

PACKAGES = discover(ROOT)
NAMES = list(PACKAGES)
GROUPS = nox.project.load_toml(ROOT / "pyproject.toml")
DIST = ROOT / "dist"
REPORTS = ROOT / ".nox" / "reports"
# Test processes: most of the time a test waits for a server, so two for each core.
WORKERS = 2 * min(os.cpu_count() or 1, 4)
# The version of the npm package that draws the diagrams of the documentation.
MERMAID = "11.17.2"


def install(session: nox.Session, *groups: str, packages: list[Package] | None = None) -> None:
    """Install distributions by path, all in one command, with dependency groups of the root."""
    chosen = list(PACKAGES.values()) if packages is None else packages
    wanted = nox.project.dependency_groups(GROUPS, *groups)
    for package in chosen:
        wanted += ("-e", str(package.folder.relative_to(ROOT)))
    session.install(*wanted, silent=False)


def test_needs(packages: list[Package]) -> tuple[str, ...]:
    """Return what the tests of these packages need besides the root's group `test`."""
    own = [package for package in packages if "test" in package.pyproject["dependency-groups"]]
    groups = [nox.project.dependency_groups(package.pyproject, "test") for package in own]
    return tuple(dict.fromkeys(requirement for group in groups for requirement in group))


def pytest(session: nox.Session, *arguments: str, process: str = "popen") -> None:
    """Run pytest in several processes, as execnet specifies them; leave a report for `.ci/run`.

    An empty selection is no failure; `-n 0` among the arguments keeps all in one process.
    """
    REPORTS.mkdir(parents=True, exist_ok=True)
    report = REPORTS / f"{session.name}.xml"
    report.unlink(missing_ok=True)
    options = (f"--tx={WORKERS}*{process}", "--dist=worksteal", f"--junit-xml={report}")
    session.run("pytest", *options, *arguments, success_codes=[0, 5])


@nox.session
def tests(session: nox.Session) -> None:
    """Run the tests of all packages, with real servers and coverage; `-P 3.12`: another Python."""
    install(session, "test", "together", "coverage")
    session.install(*test_needs(list(PACKAGES.values())), silent=False)
    session.run("coverage", "erase")
    # Only the processes that run tests are measured; see tests/kit/economy.py.
    measured = f"popen//env:COVERAGE_PROCESS_START={ROOT / 'pyproject.toml'}"
    pytest(session, *session.posargs, process=measured)
    if not session.posargs:
        session.run("coverage", "combine", "--quiet")
        session.run("coverage", "report")


@nox.session
@nox.parametrize("package", NAMES, ids=NAMES)
def package_tests(session: nox.Session, package: str) -> None:
    """Run the tests of one package with what it declares and nothing else."""
    install(session, "test", packages=closure(package, PACKAGES))
    if needs := test_needs([PACKAGES[package]]):
        session.install(*needs, silent=False)
    pytest(session, str(PACKAGES[package].folder / "tests"), *session.posargs)


@nox.session
def extended(session: nox.Session) -> None:
    """Run the suites on further servers, versions and pools, and what tests the tests."""
    install(session, "test", "together", "coverage")
    session.install(*test_needs(list(PACKAGES.values())), silent=False)
    pytest(session, "-m", "extended and not faults", *session.posargs)


@nox.session
def faults(session: nox.Session) -> None:
    """Run long outages and simulations, which the other sessions leave out."""
    install(session, "test", "together")
    session.install(*test_needs(list(PACKAGES.values())), silent=False)
    pytest(session, "-m", "faults", "--timeout=300", *session.posargs)


@nox.session
def lint(session: nox.Session) -> None:
    """Check style and formatting; `-- --fix` repairs what can be repaired."""
    install(session, "lint", packages=[])
    session.run("ruff", "check", *session.posargs, ".")
    session.run("ruff", "format", *([] if session.posargs else ["--check", "--diff"]), ".")


@nox.session
def types(session: nox.Session) -> None:
    """Check the types of every package with mypy and basedpyright."""
    install(session, "types")
    modules = [word for package in PACKAGES.values() for word in ("-p", package.module)]
    session.run("mypy", "--strict", *modules)
    session.run("basedpyright")


@nox.session
def docs(session: nox.Session) -> None:
    """Build the documentation in docs/_build/html; a warning is an error."""
    install(session, "docs")
    fetch_mermaid(session)
    output = ROOT / "docs" / "_build" / "html"
    session.run("sphinx-build", "-qEW", "--keep-going", *session.posargs, "docs", str(output))


def fetch_mermaid(session: nox.Session) -> None:
    """Put mermaid's script beside the pages, so that they load nothing from elsewhere."""
    script = ROOT / "docs" / "_build" / "static" / "mermaid.min.js"
    if script.exists():
        return
    work = Path(session.create_tmp())
    patience = ("--fetch-retries=0", "--fetch-timeout=60000")
    try:
        with session.chdir(work):
            session.run("npm", "pack", "--loglevel=error", *patience, f"mermaid@{MERMAID}")
        shutil.unpack_archive(work / f"mermaid-{MERMAID}.tgz", work)
    except nox.command.CommandFailed:
        session.warn("mermaid cannot be fetched: the pages will show their diagrams as text")
        return
    script.parent.mkdir(parents=True, exist_ok=True)
    shutil.copy(work / "package" / "dist" / "mermaid.min.js", script)


@nox.session
def wheels(session: nox.Session) -> None:
    """Build a sdist, and from it a wheel, of every package in dist/, and check and try them."""
    install(session, "wheels", packages=[])
    shutil.rmtree(DIST, ignore_errors=True)
    for package in PACKAGES.values():
        session.run("python", "-m", "build", "--no-isolation", "-o", str(DIST), str(package.folder))
    session.run("python", "-m", "tools.wheels", str(DIST))
    for name in (*NAMES, "extras"):
        session.notify(f"wheel_alone({name})")


@nox.session
@nox.parametrize("package", [*NAMES, "extras"], ids=[*NAMES, "extras"])
def wheel_alone(session: nox.Session, package: str) -> None:
    """Use the wheels of one package, or of core with its extras, where nothing else is."""
    if package == "extras":
        chosen = list(PACKAGES.values())
        core = DIST / wheel_name(PACKAGES["channels-core"])
        extras = ",".join(other.part for other in chosen if other.part != "core")
        # uv would take a sibling's wheel of an earlier build from its cache.
        options = ["--refresh"] if session.venv_backend == "uv" else []
        options += ["--find-links", str(DIST)]
        session.install(*options, f"channels-core[{extras}] @ {core.as_uri()}")
    else:
        chosen = closure(package, PACKAGES)
        session.install(*(str(DIST / wheel_name(each)) for each in chosen))
    session.run("python", "-I", "tools/smoke.py", *(each.module for each in chosen))


@nox.session
def bench(session: nox.Session) -> None:
    """Run the benchmarks; `-- --help` tells what can be asked of them."""
    install(session, "bench", "test")  # with the servers of the tests
    session.run("python", "-m", "benchmarks", *session.posargs)


@nox.session
def demo(session: nox.Session) -> None:
    """Serve the chat on 127.0.0.1:8000; `-- --port 9000 --backend URL` changes that."""
    install(session, "demo")
    session.run("python", "-m", "examples.chat", *session.posargs)


@nox.session
def browser(session: nox.Session) -> None:
    """Use the demo in headless Chromium; `-- --screenshots` takes the pictures in docs/images."""
    install(session, "test", "demo", "browser")
    pytest(session, "-n", "0", "tests/browser", *session.posargs)


@nox.session(venv_backend="none")
def bump(session: nox.Session) -> None:
    """Write a version into every package: `nox -s bump -- 0.2.0`."""
    session.run(sys.executable, "-m", "tools.bump", *session.posargs, external=True)
