"""What is measured and what is claimed of it: parts, cases, figures."""

from __future__ import annotations

import importlib
import math
import pkgutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from statistics import median
from typing import Literal

Sample = Mapping[str, float]
"""What one run of a case found: named values."""


@dataclass(frozen=True)
class Case:
    """One thing that is measured, each time in a process of its own.

    Args:
        function: ``module:function`` in ``benchmarks.subjects``, plain or async, that returns a
            :data:`Sample`.
        arguments: What it is called with.
        quick: What is different in a quick run; None leaves it out there.
        rival: The environment of :mod:`benchmarks.rivals` that what is measured runs in. Default:
            this one.
        core: Whether its process is the one that is measured, or makes the load for a server
            that it starts, with the interpreter of the rival as the argument ``python``.
        once: Measured in the first round only, because it takes long.
    """

    function: str
    arguments: Mapping[str, object] = field(default_factory=dict)
    quick: Mapping[str, object] | None = field(default_factory=dict)
    rival: str | None = None
    core: Literal["measured", "load"] = "measured"
    once: bool = False


@dataclass(frozen=True)
class Figure:
    """A ratio of cases: the product of ``over``, divided by that of ``under``; or a difference.

    It is taken in each round by itself, so that a machine which was slow for a while was slow for
    both sides.

    Args:
        title: What it says.
        over: Names of cases.
        under: Names of cases; with none, ``over`` is looked at as it is.
        metric: Which value of the samples.
        at_least: What the ratio has to reach.
        at_most: What the ratio may reach.
        difference: Subtract instead of dividing.
    """

    title: str
    over: Sequence[str]
    under: Sequence[str] = ()
    metric: str = "us"
    at_least: float | None = None
    at_most: float | None = None
    difference: bool = False

    def ratios(self, rounds: Sequence[Mapping[str, Sample]]) -> list[float]:
        """Return the ratio of each round that has all it takes."""
        cases = (*self.over, *self.under)
        return [
            self._compare(self._product(self.over, samples), self._product(self.under, samples))
            for samples in rounds
            if all(case in samples for case in cases)
        ]

    def _compare(self, over: float, under: float) -> float:
        return over - under if self.difference else over / under

    def _product(self, cases: Sequence[str], samples: Mapping[str, Sample]) -> float:
        return math.prod(samples[case][self.metric] for case in cases)

    @property
    def target(self) -> str:
        """Say what is asked of the ratio."""
        if self.at_least is not None:
            return f"≥ {self.at_least:g}"
        return "" if self.at_most is None else f"≤ {self.at_most:g}"

    def is_met_by(self, ratio: float) -> bool | None:
        """Tell whether ``ratio`` is what is asked; None where nothing is."""
        if self.at_least is not None:
            return ratio >= self.at_least
        return None if self.at_most is None else ratio <= self.at_most


@dataclass(frozen=True)
class Curve:
    """How a value depends on another: a line for each side.

    Args:
        name: Of its picture.
        title: What it shows.
        x: What varies.
        unit: What the value is, for people.
        lines: For each side the case at each value of ``x``.
        metric: Which value of the samples.
        text: What there is to know, in reStructuredText.
    """

    name: str
    title: str
    x: str
    unit: str
    lines: Mapping[str, Mapping[int, str]]
    metric: str = "us"
    text: str = ""


@dataclass(frozen=True)
class Distribution:
    """How values are distributed: the metrics ``p1``, ``p50`` ... and ``max`` of one case each.

    Args:
        name: Of its picture.
        title: What it shows.
        unit: What the values are, for people.
        cases: For each side its case.
        text: What there is to know, in reStructuredText.
    """

    name: str
    title: str
    unit: str
    cases: Mapping[str, str]
    text: str = ""


@dataclass(frozen=True)
class Part:
    """Cases that are measured in turn, and the figures that they give.

    Args:
        name: How it is asked for; the module's name.
        title: What it measures.
        text: How, in a paragraph of reStructuredText.
        cases: By name; the order is that within a round.
        figures: What is claimed.
        units: What each metric of the samples is, for people.
        packages: The distributions whose versions matter.
        programs: The programs whose versions matter.
        rounds: How often all is measured, if nothing else is asked for.
        curves: What is drawn besides.
        broker: What is started for it, "redis" or "postgres"; its cases find the URL in the
            environment variable ``BENCHMARKS_BROKER``.
    """

    name: str
    title: str
    text: str
    cases: Mapping[str, Case]
    figures: Sequence[Figure]
    units: Mapping[str, str]
    packages: Sequence[str] = ()
    programs: Sequence[str] = ()
    rounds: int = 5
    curves: Sequence[Curve | Distribution] = ()
    broker: Literal["redis", "postgres"] | None = None

    def reduced(self, quick: bool, wanted: str = "") -> Part:
        """Return this part with those cases that are in a quick run, or have a word in them.

        Args:
            quick: Whether it will be a quick run.
            wanted: What the name of a case has to contain.
        """
        cases = {
            name: case
            for name, case in self.cases.items()
            if wanted in name and not (quick and case.quick is None)
        }
        if not wanted:
            return replace(self, cases=cases)
        figures = [each for each in self.figures if {*each.over, *each.under} <= cases.keys()]
        return replace(self, cases=cases, figures=figures)


@dataclass(frozen=True)
class Result:
    """What became of a figure."""

    figure: Figure
    ratios: Sequence[float]
    why_not: str = ""

    @property
    def ratio(self) -> float | None:
        return median(self.ratios) if self.ratios else None

    @property
    def verdict(self) -> str:
        if self.ratio is None:
            return "not measured"
        met = self.figure.is_met_by(self.ratio)
        return "" if met is None else "met" if met else "not met"


def results(
    part: Part, rounds: Sequence[Mapping[str, Sample]], missing: Mapping[str, str]
) -> list[Result]:
    """Work out the figures of a part.

    Args:
        part: The part.
        rounds: The samples of each round, by case.
        missing: Why a case has none.
    """
    return [
        Result(
            figure,
            figure.ratios(rounds),
            "; ".join(
                dict.fromkeys(
                    missing[case] for case in (*figure.over, *figure.under) if case in missing
                )
            ),
        )
        for figure in part.figures
    ]


def parts() -> dict[str, Part]:
    """Find the parts."""
    package = importlib.import_module("benchmarks.parts")
    found = (
        importlib.import_module(f"benchmarks.parts.{module.name}").PART
        for module in pkgutil.iter_modules(package.__path__)
    )
    return {part.name: part for part in found}
