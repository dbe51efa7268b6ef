"""The frame of the benchmarks: what it claims, and that it measures."""

import ast
import math
import sys
from pathlib import Path

import pytest

from benchmarks import model, runner
from benchmarks.model import Case, Figure, Part

FOLDER = Path(model.__file__).parent
PARTS = model.parts()

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="pins processes as Linux does")


def part(**cases: Case) -> Part:
    return Part("a", "A", "", cases, (), {})


def functions(module: str) -> set[str]:
    """Return what a module defines, without importing what it measures."""
    tree = ast.parse((FOLDER / f"{module.replace('.', '/')}.py").read_text("utf-8"))
    kinds = (ast.FunctionDef, ast.AsyncFunctionDef)
    return {node.name for node in tree.body if isinstance(node, kinds)}


@pytest.mark.parametrize("name", PARTS)
def test_a_part_is_whole(name: str) -> None:
    part = PARTS[name]
    for case in part.cases.values():
        module, _, function = case.function.partition(":")
        assert function in functions(f"subjects.{module}")
        assert case.quick.keys() <= case.arguments.keys() | {"clients", "events"}
        if library := case.arguments.get("library"):
            assert "opened" in functions(f"subjects.{library}")
        if (server := case.arguments.get("server", "nchan")) != "nchan":
            assert "serve" in functions(f"servers.{server}")
    for figure in part.figures:
        assert {*figure.over, *figure.under} <= part.cases.keys()
        assert figure.metric in part.units
        assert figure.at_least is None or figure.at_most is None
    titles = [figure.title for figure in part.figures]
    assert len(titles) == len(set(titles))


def test_a_ratio_is_taken_in_each_round() -> None:
    figure = Figure("", ["a", "b"], ["c"], at_most=2)
    rounds = [
        {"a": {"us": 2}, "b": {"us": 3}, "c": {"us": 4}},
        {"a": {"us": 20}, "b": {"us": 3}, "c": {"us": 40}},
        {"a": {"us": 1}, "b": {"us": 1}},
    ]
    assert figure.ratios(rounds) == [1.5, 1.5]


@pytest.mark.parametrize(
    ("targets", "ratio", "met"),
    [
        ({"at_least": 3}, 3, True),
        ({"at_least": 3}, 2.9, False),
        ({"at_most": 0}, 0, True),
        ({"at_most": 0}, 1, False),
        ({}, 1, None),
    ],
)
def test_a_target_is_met_or_not(targets: dict[str, float], ratio: float, met: bool | None) -> None:
    assert Figure("", ["a"], **targets).is_met_by(ratio) is met


def test_a_figure_without_its_cases_says_why() -> None:
    claimed = Part("a", "A", "", {}, [Figure("", ["a"], ["b"], at_least=1)], {})
    [result] = model.results(claimed, [{"a": {"us": 1}}], {"b": "no such library"})
    assert (result.verdict, result.why_not) == ("not measured", "no such library")


def test_cases_run_in_turn_and_a_failed_one_once() -> None:
    ran: list[str] = []
    bare = Case("bare:call", {"subscribers": 10, "seconds": 9}, quick={"seconds": 0.01})
    measured = part(works=bare, fails=Case("bare:call", {"subscribers": -1, "seconds": 0}))

    samples, missing = runner.run(measured, rounds=2, quick=True, advance=ran.append)

    assert ran == ["works", "fails", "works", "fails"]
    assert [list(sample) for sample in samples] == [["works"], ["works"]]
    assert all(0 < sample["works"]["us"] < math.inf for sample in samples)
    assert list(missing) == ["fails"]


def test_a_rival_that_is_not_installed_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runner.rivals, "python", lambda name: None)
    with pytest.raises(runner.Unavailable, match="broadcaster is not installed"):
        runner.run_case(Case("bare:call", rival="broadcaster"), quick=True, environment={})


def test_clients_count_what_a_server_sends() -> None:
    arguments = {"server": "bare_web", "clients": 5, "events": 16, "burst": 8}
    sample = runner.run_case(Case("web:fan_out", arguments, core="load"), False, {})
    assert sample["us"] > 0
    assert 0 < sample["p50"] <= sample["p99"]
