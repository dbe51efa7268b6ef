"""The pictures of a run."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from statistics import median

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure as Plot
from matplotlib.ticker import LogLocator, NullFormatter

from benchmarks.model import Curve, Distribution
from benchmarks.report import Run

VERDICTS = {"met": "#2e7d32", "not met": "#c62828", "": "#607d8b"}
SIDES = {
    "litestar": "#ef6c00",
    "frames": "#1565c0",
    "sink": "#1565c0",
    "channels": "#00838f",
    "bare": "#6a1b9a",
}
"""The first word that is in the name of a side gives its color, the same in every picture."""
STEPS = (1, 2, 5)
"""What is written on a logarithmic axis between powers of ten."""


def draw(run: Run, folder: Path) -> None:
    """Draw all pictures of a part into a folder."""
    if run.part.figures:
        ratios(run, folder / f"{run.part.name}.svg")
    for curve in run.part.curves:
        file = folder / f"{run.part.name}-{curve.name}.svg"
        if isinstance(curve, Curve):
            lines(run, curve, file)
        else:
            shares(run, curve, file)


@contextmanager
def drawing(file: Path, width: float, height: float) -> Iterator[Axes]:
    """Draw into a file; the same run gives the same bytes."""
    with mpl.rc_context({"svg.hashsalt": file.stem, "font.size": 9, "svg.fonttype": "none"}):
        figure = Plot(figsize=(width, height), layout="constrained")
        axes = figure.add_subplot()
        yield axes
        axes.grid(alpha=0.3)
        metadata = {"Date": None} if file.suffix == ".svg" else {}
        figure.savefig(file, metadata=metadata)


def ratios(run: Run, file: Path) -> None:
    """Draw each ratio with its spread and its target."""
    drawn = [
        result
        for result in run.results
        if result.ratio and result.figure.under and not result.figure.difference
    ]
    with drawing(file, 9, 0.6 + 0.42 * len(drawn)) as axes:
        axes.set_xscale("log")
        for row, result in enumerate(drawn):
            assert result.ratio is not None
            color = VERDICTS[result.verdict]
            low, high = min(result.ratios), max(result.ratios)
            axes.plot([low, high], [row, row], color=color, linewidth=2, alpha=0.5)
            axes.plot(result.ratio, row, "o", color=color)
            if target := result.figure.at_least or result.figure.at_most:
                axes.plot(target, row, "|", color="black", markersize=16, zorder=1)
        axes.axvline(1, color="#b0bec5", linewidth=1, zorder=0)
        axes.set_yticks(range(len(drawn)), [result.figure.title for result in drawn])
        axes.invert_yaxis()
        axes.set_xlabel("ratio, a black line: what was asked, green: met")
        plain(axes.xaxis)


def color_of(side: str) -> str:
    """Return the color of a side."""
    return next((color for word, color in SIDES.items() if word in side), VERDICTS[""])


def lines(run: Run, curve: Curve, file: Path) -> None:
    """Draw a line through the medians of each side, and the spread around it."""
    with drawing(file, 7, 4) as axes:
        for side, cases in curve.lines.items():
            color = color_of(side)
            found = {
                x: values
                for x, case in sorted(cases.items())
                if (values := run.values(case).get(curve.metric))
            }
            middle = [median(values) for values in found.values()]
            low, high = map(min, found.values()), map(max, found.values())
            axes.plot(list(found), middle, "o-", markersize=4, color=color, label=side)
            axes.fill_between(list(found), list(low), list(high), color=color, alpha=0.15)
        logarithmic(axes)
        values = sorted({x for cases in curve.lines.values() for x in cases})
        axes.set_xticks(values, [f"{x:,}" for x in values])
        axes.minorticks_off()
        axes.set_xlabel(curve.x)
        axes.set_ylabel(curve.unit)
        axes.legend(frameon=False)


def logarithmic(axes: Axes) -> None:
    """Give x a logarithmic scale, and y one if its values need it."""
    axes.set_xscale("log")
    low, high = axes.dataLim.intervaly
    if 10 * low < high:
        axes.set_yscale("log")
        axes.yaxis.set_major_locator(LogLocator(subs=STEPS))
    else:
        axes.set_ylim(0, high * 1.1)
    plain(axes.yaxis)


def plain(axis: Axis) -> None:
    """Write numbers without powers of ten."""
    axis.set_major_formatter("{x:,g}")
    axis.set_minor_formatter(NullFormatter())


def shares(run: Run, distribution: Distribution, file: Path) -> None:
    """Draw what share of the values is below each value."""
    with drawing(file, 7, 4) as axes:
        for side, case in distribution.cases.items():
            marks = percentiles(run.values(case))
            axes.plot(list(marks.values()), list(marks), color=color_of(side), label=side)
        axes.set_xscale("log")
        axes.xaxis.set_major_locator(LogLocator(subs=STEPS))
        plain(axes.xaxis)
        axes.set_yticks([0, 25, 50, 75, 90, 99])
        axes.set_xlabel(distribution.unit)
        axes.set_ylabel("percent of the deliveries")
        axes.legend(frameon=False)


def percentiles(values: Mapping[str, list[float]]) -> dict[float, float]:
    """Return the medians of ``p1`` and the like, by percentage; ``max`` is the last."""
    names = {100.0 if name == "max" else float(name[1:]): name for name in values if name != "us"}
    return {share: median(values[names[share]]) for share in sorted(names)}
