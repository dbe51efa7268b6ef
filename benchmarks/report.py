"""What a run found: kept as JSON, shown on the terminal."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from rich.console import Console
from rich.table import Table

from benchmarks import machine
from benchmarks.model import Part, Result, Sample, results

FOLDER = Path(__file__).parent / "results"
STYLES = {"met": "green", "not met": "red", "not measured": "yellow"}


@dataclass(frozen=True)
class Run:
    """One run of a part, and where it was."""

    part: Part
    samples: Sequence[Mapping[str, Sample]]
    missing: Mapping[str, str]
    quick: bool
    date: str
    machine: Mapping[str, str]
    versions: Mapping[str, str]

    @classmethod
    def now(
        cls,
        part: Part,
        samples: Sequence[Mapping[str, Sample]],
        missing: Mapping[str, str],
        quick: bool,
    ) -> Run:
        """Note where and with what a run was just made."""
        date = time.strftime("%Y-%m-%d")
        versions = machine.versions(part.packages)
        return cls(part, samples, missing, quick, date, machine.describe(), versions)

    @classmethod
    def load(cls, part: Part) -> Run | None:
        """Return the last run of a part that was kept."""
        file = FOLDER / f"{part.name}.json"
        if not file.exists():
            return None
        kept = json.loads(file.read_text("utf-8"))
        del kept["figures"]
        return cls(part=part, **kept)

    def save(self) -> Path:
        """Keep it as JSON."""
        FOLDER.mkdir(exist_ok=True)
        file = FOLDER / f"{self.part.name}.json"
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
            "figures": figures,
            "missing": self.missing,
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
    """Return a row for each metric of each case: case, median, spread, unit."""
    return [
        (case, number(median(values)), spread(values), run.part.units[metric])
        for case in run.part.cases
        for metric, values in run.values(case).items()
    ]


def show(run: Run, console: Console) -> None:
    """Show ratios first, then what they were made of."""
    table = Table(title=run.part.title, title_justify="left", title_style="bold")
    for column in ("figure", "ratio", "spread", "target", ""):
        table.add_column(column, justify="left" if column in {"figure", ""} else "right")
    for row, result in zip(figures_of(run), run.results, strict=True):
        table.add_row(*row, style=STYLES.get(result.verdict))
    console.print(table)
    table = Table(box=None)
    for column in ("case", "median", "spread", "unit"):
        table.add_column(column, justify="left" if column in {"case", "unit"} else "right")
    for case in cases_of(run):
        table.add_row(*case)
    console.print(table)


def number(value: float) -> str:
    """Write three digits that matter."""
    if value and abs(value) < 1000:
        return f"{value:.3g}"
    return f"{value:,.0f}"


def spread(values: Sequence[float]) -> str:
    """Write the least and the greatest."""
    return f"{number(min(values))} .. {number(max(values))}" if values else ""
