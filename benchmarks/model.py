"""What is measured and what is claimed of it: parts, cases, figures."""

from __future__ import annotations

import importlib
import math
import pkgutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
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
        quick: What is different in a quick run.
        rival: The environment of :mod:`benchmarks.rivals` that what is measured runs in. Default:
            this one.
        core: Whether its process is the one that is measured, or makes the load for a server
            that it starts, with the interpreter of the rival as the argument ``python``.
    """

    function: str
    arguments: Mapping[str, object] = field(default_factory=dict)
    quick: Mapping[str, object] = field(default_factory=dict)
    rival: str | None = None
    core: Literal["measured", "load"] = "measured"


@dataclass(frozen=True)
class Figure:
    """A ratio of cases: the product of ``over``, divided by that of ``under``.

    It is taken in each round by itself, so that a machine which was slow for a while was slow for
    both sides.

    Args:
        title: What it says.
        over: Names of cases.
        under: Names of cases; with none, ``over`` is looked at as it is.
        metric: Which value of the samples.
        at_least: What the ratio has to reach.
        at_most: What the ratio may reach.
    """

    title: str
    over: Sequence[str]
    under: Sequence[str] = ()
    metric: str = "us"
    at_least: float | None = None
    at_most: float | None = None

    def ratios(self, rounds: Sequence[Mapping[str, Sample]]) -> list[float]:
        """Return the ratio of each round that has all it takes."""
        cases = (*self.over, *self.under)
        return [
            self._product(self.over, samples) / self._product(self.under, samples)
            for samples in rounds
            if all(case in samples for case in cases)
        ]

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
    broker: Literal["redis", "postgres"] | None = None


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
