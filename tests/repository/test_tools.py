"""The tools that judge everything else."""

import shutil
from pathlib import Path

import pytest

from tools.bump import PIN, bump
from tools.ci import Counts, Step, read_report, summary
from tools.packages import ROOT, closure, discover


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """Copy what `bump` reads and writes."""
    texts = (ROOT / "CHANGELOG.md", ROOT / "README.md")
    for file in (*texts, *ROOT.glob("packages/*/pyproject.toml")):
        target = tmp_path / file.relative_to(ROOT)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(file, target)
    return tmp_path


def add_section(root: Path, version: str) -> None:
    with (root / "CHANGELOG.md").open("a", encoding="utf-8") as changelog:
        changelog.write(f"\n## {version}\n")


def test_bump_writes_versions_and_pins(copy: Path) -> None:
    add_section(copy, "9.8.7rc1")
    changed = bump("9.8.7rc1", copy)

    packages = discover(copy)
    assert len(changed) == len(packages) + 1
    pins = PIN.findall((copy / "README.md").read_text("utf-8"))
    assert {version for _, version in pins} == {"9.8.7rc1"}
    for package in packages.values():
        assert package.version == "9.8.7rc1"
        assert all(f"{name}==9.8.7rc1" in package.dependencies for name in package.siblings)
    core = packages["channels-core"]
    assert core.extras["litestar"] == ["channels-litestar==9.8.7rc1"]
    assert core.extras["testing"] == discover()["channels-core"].extras["testing"]
    assert bump("9.8.7rc1", copy) == []


def test_bump_gives_a_new_package_its_extra(copy: Path) -> None:
    add_section(copy, "9.8.7")
    text = (copy / "packages/channels-litestar/pyproject.toml").read_text("utf-8")
    new = copy / "packages/channels-zeromq/pyproject.toml"
    new.parent.mkdir()
    new.write_text(text.replace("channels-litestar", "channels-zeromq"), "utf-8")

    bump("9.8.7", copy)

    assert discover(copy)["channels-core"].extras["zeromq"] == ["channels-zeromq==9.8.7"]


@pytest.mark.parametrize("version", ["9.9.9", "1.0", "v1.0.0", ""])
def test_bump_refuses_and_writes_nothing(copy: Path, version: str) -> None:
    before = [file.read_bytes() for file in sorted(copy.glob("packages/*/pyproject.toml"))]
    with pytest.raises(ValueError, match=r"section|not a version"):
        bump(version, copy)
    after = [file.read_bytes() for file in sorted(copy.glob("packages/*/pyproject.toml"))]
    assert after == before


def test_the_closure_of_a_package_is_itself_and_its_siblings() -> None:
    names = [package.name for package in closure("channels-litestar", discover())]
    assert names == ["channels-litestar", "channels-core"]


def test_a_report_is_counted(tmp_path: Path) -> None:
    report = tmp_path / "tests.xml"
    report.write_text(
        """<testsuites><testsuite>
        <testcase classname="a" name="passes"/>
        <testcase classname="a" name="fails"><failure message="no"/></testcase>
        <testcase classname="a" name="breaks"><error message="no"/></testcase>
        <testcase classname="a" name="skips"><skipped message="later"/></testcase>
        <testcase classname="a" name="lacks"><skipped message="server: no redis"/></testcase>
        </testsuite></testsuites>"""
    )
    assert read_report(report) == Counts(1, 2, 1, ("a::lacks (server: no redis)",))


def test_a_missing_server_fails_a_run_that_else_passed() -> None:
    tests = Step("tests", [], returncode=0, tests=Counts(3, 0, 0, ("a::lacks (server: no redis)",)))
    lint = Step("lint", [], returncode=0)
    lines = list(summary([tests, lint]))
    assert not tests.ok
    assert any("a::lacks" in line for line in lines)
    assert lines[-1] == "4 passed, 1 failed"


def test_a_failed_step_without_tests_counts_as_one_and_shows_its_end() -> None:
    lint = Step("lint", [], returncode=1)
    lint.tail.append("E501 Line too long")
    lines = list(summary([lint, Step("types", [])]))
    assert "E501 Line too long" in lines
    assert lines[-1] == "0 passed, 2 failed"
