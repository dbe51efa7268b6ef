"""What a run found: kept as JSON, and as rows of tables."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from benchmarks import machine, rivals
from benchmarks.model import Curve, Distribution, Part, Result, Sample, results

FOLDER = Path(__file__).parent / "results"
MARKS = ("p50", "p90", "p99", "max")
"""What a table shows of a distribution."""


@dataclass(frozen=True)
class Run:
    """One run of a part, and where it was.

    Attributes:
        part: What ran.
        samples: Of each round, by case.
        missing: Why a case has none.
        seconds: How long each case took.
        quick: Whether it was a quick run.
        date: When.
        machine: What it ran on.
        versions: Of what was measured.
        rivals: Versions in the environments of those that have their own.
    """

    part: Part
    samples: Sequence[Mapping[str, Sample]]
    missing: Mapping[str, str]
    seconds: Mapping[str, float]
    quick: bool
    date: str
    machine: Mapping[str, str]
    versions: Mapping[str, str]
    rivals: Mapping[str, Mapping[str, str]]

    @classmethod
    def now(
        cls,
        part: Part,
        samples: Sequence[Mapping[str, Sample]],
        missing: Mapping[str, str],
        seconds: Mapping[str, float],
        quick: bool,
    ) -> Run:
        """Note where and with what a run was just made."""
        present = {case.rival for case in part.cases.values() if case.rival}
        return cls(
            part,
            samples,
            missing,
            seconds,
            quick,
            time.strftime("%Y-%m-%d"),
            machine.describe(),
            machine.versions(part.packages) | machine.programs(part.programs),
            {rival: rivals.versions(rival) for rival in sorted(present)},
        )

    @classmethod
    def load(cls, part: Part, quick: bool = False) -> Run | None:
        """Return the last run of a part that was kept, if it can be read."""
        file = kept_in(part, quick)
        if not file.exists():
            return None
        kept = json.loads(file.read_text("utf-8"))
        del kept["figures"]
        try:
            return cls(part=part, **kept)
        except TypeError:  # kept by another version of this module
            return None

    def save(self) -> Path:
        """Keep it as JSON; a quick run beside the full one, not in its place."""
        file = kept_in(self.part, self.quick)
        file.parent.mkdir(parents=True, exist_ok=True)
        figures = {
            result.figure.title: {
                "ratio": result.ratio,
                "ratios": result.ratios,
                "target": result.figure.target,
                "verdict": result.verdict,
            }
            for result in self.results
        }
        kept = {
            "date": self.date,
            "quick": self.quick,
            "machine": self.machine,
            "versions": self.versions,
            "rivals": self.rivals,
            "figures": figures,
            "missing": self.missing,
            "seconds": self.seconds,
            "samples": self.samples,
        }
        file.write_text(json.dumps(kept, indent=1) + "\n", "utf-8")
        return file

    @property
    def results(self) -> list[Result]:
        """The part's figures as this run has them."""
        return results(self.part, self.samples, self.missing)

    def values(self, case: str) -> dict[str, list[float]]:
        """Return all that was found for a case, by metric."""
        found: dict[str, list[float]] = {}
        for samples in self.samples:
            for metric, value in samples.get(case, {}).items():
                found.setdefault(metric, []).append(value)
        return found


def kept_in(part: Part, quick: bool) -> Path:
    """Return the file of a part's last run."""
    return (FOLDER / "quick" if quick else FOLDER) / f"{part.name}.json"


def figures_of(run: Run) -> list[tuple[str, str, str, str, str]]:
    """Return a row for each figure: title, ratio, spread, target, verdict."""
    return [
        (
            result.figure.title,
            number(result.ratio) if result.ratio is not None else "",
            spread(result.ratios),
            result.figure.target,
            ": ".join(filter(None, (result.verdict, result.why_not))),
        )
        for result in run.results
    ]


def cases_of(run: Run) -> list[tuple[str, str, str, str]]:
    """Return a row for each metric of each case: case, median, spread, unit.

    What a curve shows is not repeated.
    """
    drawn = {
        case
        for curve in run.part.curves
        for line in (curve.lines.values() if isinstance(curve, Curve) else [curve.cases])
        for case in line.values()
    }
    return [
        (case, number(median(values)), spread(values), run.part.units[metric])
        for case in run.part.cases
        if case not in drawn
        for metric, values in run.values(case).items()
        if metric in run.part.units
    ]


Rows = tuple[tuple[str, ...], list[tuple[str, ...]]]
"""The head of a table, and its rows."""


def points_of(run: Run, curve: Curve) -> Rows:
    """Return a table of a curve: a row for each value of x, medians of each side."""
    values = sorted({x for line in curve.lines.values() for x in line})
    rows: list[tuple[str, ...]] = []
    for x in values:
        found = (run.values(line.get(x, "")).get(curve.metric) for line in curve.lines.values())
        rows.append((f"{x:,}", *(number(median(each)) if each else "" for each in found)))
    return (curve.x, *curve.lines), rows


def marks_of(run: Run, distribution: Distribution) -> Rows:
    """Return a table of a distribution: a row for each side."""
    rows: list[tuple[str, ...]] = []
    for side, case in distribution.cases.items():
        values = run.values(case)
        rows.append((side, *(number(median(values[m])) if m in values else "" for m in MARKS)))
    return ("", *MARKS), rows


def table_of(run: Run, curve: Curve | Distribution) -> Rows:
    """Return the table of a curve of either kind."""
    return points_of(run, curve) if isinstance(curve, Curve) else marks_of(run, curve)


def number(value: float) -> str:
    """Write three digits that matter."""
    if value and abs(value) < 1000:
        return f"{value:.3g}"
    return f"{value:,.0f}"


def spread(values: Sequence[float]) -> str:
    """Write the least and the greatest."""
    return f"{number(min(values))} .. {number(max(values))}" if values else ""
