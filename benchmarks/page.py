"""The pages of results in the documentation: one for each part, with its pictures."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from benchmarks.report import Run, cases_of, figures_of, table_of

FOLDER = Path(__file__).resolve().parent.parent / "docs" / "benchmarks"


def write(run: Run) -> None:
    """Write a part's page and pictures."""
    from benchmarks import plot

    FOLDER.mkdir(exist_ok=True)
    plot.draw(run, FOLDER)
    (FOLDER / f"{run.part.name}.rst").write_text("\n".join(page(run)) + "\n", "utf-8")


def page(run: Run) -> Iterator[str]:
    """Give the lines of a part's page."""
    part = run.part
    yield from (part.title, "=" * len(part.title), "", part.text, "")
    yield f"To repeat it: ``nox -s bench -- {part.name} --install``. What the figures mean, and how"
    yield "they are measured, is said in :doc:`index`."
    yield ""
    if part.figures:
        yield from picture(part.name, "The ratios below, drawn")
        yield from table(("figure", "ratio", "spread", "asked", "verdict"), figures_of(run))
        yield ""
    for curve in part.curves:
        yield from (curve.title, "-" * len(curve.title), "")
        if curve.text:
            yield from (curve.text, "")
        yield from picture(f"{part.name}-{curve.name}", f"{curve.title}: the table below, drawn")
        yield from (f"Medians, {curve.unit}:", "")
        head, rows = table_of(run, curve)
        yield from table(head, rows)
        yield ""
    if cases := cases_of(run):
        yield from ("What they are made of, medians and the least and greatest:", "")
        yield from table(("case", "median", "spread", "unit"), cases)
        yield ""
    yield from circumstances(run)


def picture(name: str, alternative: str) -> Iterator[str]:
    """Give the lines that show a picture."""
    yield from (f".. image:: {name}.svg", f"   :alt: {alternative}", "")


def circumstances(run: Run) -> Iterator[str]:
    """Say when, where and with what it was measured, and what was not."""
    rounds = f"{len(run.samples)} {'short ' if run.quick else ''}rounds"
    yield from ("Where and with what", "-------------------", "")
    yield f"* Measured {run.date} in {rounds}."
    yield f"* Machine: {listed(run.machine)}."
    yield f"* With {listed(run.versions)}."
    for rival, versions in run.rivals.items():
        if versions:
            yield f"* In an environment of its own, {rival}: {listed(versions)}."
    for case, reason in run.missing.items():
        yield f"* Not measured, {case}: {reason}"


def listed(values: Mapping[str, str]) -> str:
    """Return names and values in one line."""
    return ", ".join(f"{name} {value}" for name, value in values.items())


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> Iterator[str]:
    """Give the lines of a table."""
    yield from (".. list-table::", "   :header-rows: 1", "")
    for row in (head, *rows):
        for index, cell in enumerate(row):
            yield f"   {' ' if index else '*'} - {cell}".rstrip()
