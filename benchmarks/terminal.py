"""What the terminal shows: how far a run is, and what it found."""

from __future__ import annotations

from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from benchmarks.forecast import Forecast, remaining
from benchmarks.report import Run, cases_of, figures_of, table_of

STYLES = {"met": "green", "not met": "red", "not measured": "yellow"}


class Bar:
    """One line on the terminal for a part: what runs, how long it takes yet.

    Args:
        console: Where.
        part: The part's name.
        forecast: How long its cases will take.
    """

    def __init__(self, console: Console, part: str, forecast: Forecast) -> None:
        self.forecast = forecast
        self._spent = 0.0
        self._progress = Progress(
            TextColumn("{task.fields[part]}"),
            BarColumn(),
            TimeElapsedColumn(),
            TextColumn("{task.fields[left]}"),
            TextColumn("{task.description}"),
            console=console,
            refresh_per_second=2,
        )
        self._task = self._progress.add_task(
            "", part=part, left=remaining(forecast.seconds_left()), total=forecast.seconds_left()
        )

    def __enter__(self) -> Bar:
        self._progress.start()
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._progress.stop()

    def begins(self, case: str) -> None:
        """Show that a case begins."""
        self._progress.update(self._task, description=case)

    def ended(self, case: str, seconds: float) -> None:
        """Show that it has ended."""
        self._spent += seconds
        self.forecast.ended(case, seconds)
        left = self.forecast.seconds_left()
        self._progress.update(
            self._task,
            completed=self._spent,
            total=self._spent + left,
            left=remaining(left),
            description="",
        )


def show(run: Run, console: Console) -> None:
    """Show ratios first, then curves, then what they were made of."""
    if run.part.figures:
        table = Table(title=run.part.title, title_justify="left", title_style="bold")
        for column in ("figure", "ratio", "spread", "asked", ""):
            table.add_column(column, justify="left" if column in {"figure", ""} else "right")
        for row, result in zip(figures_of(run), run.results, strict=True):
            table.add_row(*row, style=STYLES.get(result.verdict))
        console.print(table)
    for curve in run.part.curves:
        title = f"{curve.title}, {curve.unit}"
        table = Table(title=title, title_justify="left", title_style="bold")
        head, rows = table_of(run, curve)
        for column in head:
            table.add_column(column, justify="right")
        for points in rows:
            table.add_row(*points)
        console.print(table)
    table = Table(box=None)
    for column in ("case", "median", "spread", "unit"):
        table.add_column(column, justify="left" if column in {"case", "unit"} else "right")
    for line in cases_of(run):
        table.add_row(*line)
    for case, reason in run.missing.items():
        table.add_row(case, "", "", reason, style="yellow")
    console.print(table)
