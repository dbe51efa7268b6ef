"""The pages of results in the documentation: one for each part, with a plot."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import matplotlib as mpl
from matplotlib.figure import Figure as Plot

from benchmarks.report import Run, cases_of, figures_of

FOLDER = Path(__file__).resolve().parent.parent / "docs" / "benchmarks"
COLORS = {"met": "#2e7d32", "not met": "#c62828", "": "#607d8b"}


def write(run: Run) -> None:
    """Write a part's page and plot."""
    FOLDER.mkdir(exist_ok=True)
    plot(run, FOLDER / f"{run.part.name}.svg")
    (FOLDER / f"{run.part.name}.rst").write_text("\n".join(page(run)) + "\n", "utf-8")


def page(run: Run) -> Iterator[str]:
    """Give the lines of a part's page."""
    part = run.part
    yield from (part.title, "=" * len(part.title), "", part.text, "")
    yield f"To repeat it: ``nox -s bench -- {part.name}``; how it measures: :doc:`index`."
    yield from ("", f".. image:: {part.name}.svg", "   :alt: The ratios below, drawn", "")
    yield from table(("figure", "ratio", "spread", "target", "verdict"), figures_of(run))
    yield from ("", "What they are made of, medians and the least and greatest:", "")
    yield from table(("case", "median", "spread", "unit"), cases_of(run))
    yield ""
    where = ", ".join(f"{name} {value}" for name, value in run.machine.items())
    with_what = ", ".join(f"{name} {value}" for name, value in run.versions.items())
    rounds = f"{len(run.samples)} {'short ' if run.quick else ''}rounds"
    yield f"Measured {run.date} in {rounds}. Machine: {where}. With {with_what}."


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> Iterator[str]:
    """Give the lines of a table."""
    yield from (".. list-table::", "   :header-rows: 1", "")
    for row in (head, *rows):
        for index, cell in enumerate(row):
            yield f"   {' ' if index else '*'} - {cell}".rstrip()


def plot(run: Run, file: Path) -> None:
    """Draw each ratio with its spread and its target."""
    drawn = [result for result in run.results if result.ratio and result.figure.under]
    with mpl.rc_context({"svg.hashsalt": run.part.name, "font.size": 9, "svg.fonttype": "none"}):
        figure = Plot(figsize=(9, 0.6 + 0.42 * len(drawn)), layout="constrained")
        axes = figure.add_subplot()
        axes.set_xscale("log")
        for row, result in enumerate(drawn):
            assert result.ratio is not None
            color = COLORS[result.verdict]
            low, high = min(result.ratios), max(result.ratios)
            axes.plot([low, high], [row, row], color=color, linewidth=2, alpha=0.5)
            axes.plot(result.ratio, row, "o", color=color)
            if target := result.figure.at_least or result.figure.at_most:
                axes.plot(target, row, "|", color="black", markersize=16, zorder=1)
        axes.axvline(1, color="#b0bec5", linewidth=1, zorder=0)
        axes.set_yticks(range(len(drawn)), [result.figure.title for result in drawn])
        axes.invert_yaxis()
        axes.set_xlabel("ratio, a black line: its target, green: met")
        axes.xaxis.set_major_formatter("{x:g}")
        axes.grid(axis="x", alpha=0.3)
        figure.savefig(file, metadata={"Date": None})
    # matplotlib ends lines of paths with blanks
    lines = file.read_text("utf-8").splitlines()
    file.write_text("".join(f"{line.rstrip()}\n" for line in lines), "utf-8")
