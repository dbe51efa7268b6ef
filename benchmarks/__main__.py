"""Run benchmarks: ``python -m benchmarks [part ...]``."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
)

from benchmarks import machine, report, rivals, runner
from benchmarks.model import Part, parts


def main() -> None:
    """Run what the command line asks for."""
    known = parts()
    asked = arguments(known)
    console = Console()
    chosen = [known[name] for name in asked.parts or known]
    if asked.install:
        wanted = {case.rival for part in chosen for case in part.cases.values() if case.rival}
        with console.status("installing rivals"):
            rivals.install(sorted(wanted))
    if asked.list:
        for part in chosen:
            console.print(f"[bold]{part.name}[/bold]: {part.title}")
            for figure in part.figures:
                console.print(f"  {figure.title} {figure.target}", highlight=False)
        return
    if asked.page_only:
        runs = [run for part in chosen if (run := report.Run.load(part)) is not None]
    else:
        machine.pin("load")
        rounds = asked.rounds or (3 if asked.quick else 7)
        runs = measure(chosen, rounds, asked.quick, console)
    for run in runs:
        if not asked.page_only:
            run.save()
            report.show(run, console)
        if asked.page or asked.page_only:
            from benchmarks import page

            page.write(run)


def measure(chosen: Sequence[Part], rounds: int, quick: bool, console: Console) -> list[report.Run]:
    """Run parts one after the other, with a bar that tells how far it is."""
    columns = (
        TextColumn("{task.fields[part]}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("{task.description}"),
    )
    runs = []
    with Progress(*columns, console=console, refresh_per_second=4) as progress:
        for part in chosen:
            total = rounds * len(part.cases)
            bar = progress.add_task("", total=total, part=part.name, completed=-1)

            def advance(case: str, bar: TaskID = bar) -> None:
                progress.update(bar, description=case, advance=1)

            samples, missing = runner.run(part, rounds, quick, advance)
            progress.update(bar, description="", completed=total)
            runs.append(report.Run.now(part, samples, missing, quick))
    return runs


def arguments(known: Mapping[str, Part]) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        prog="nox -s bench --",
        description="Measure Channels beside its rivals. Results go to benchmarks/results/.",
    )
    parser.add_argument("parts", nargs="*", metavar="part", help=f"{', '.join(known)}; default all")
    parser.add_argument("--quick", action="store_true", help="3 short rounds, for a first look")
    parser.add_argument("--rounds", type=int, help="default 7, or 3 with --quick")
    parser.add_argument("--install", action="store_true", help="install rivals that are missing")
    parser.add_argument("--list", action="store_true", help="show the figures and their targets")
    parser.add_argument("--page", action="store_true", help="write the results into docs/ as well")
    parser.add_argument(
        "--page-only", action="store_true", help="write the last results into docs/"
    )
    asked = parser.parse_args()
    if unknown := [name for name in asked.parts if name not in known]:
        parser.error(f"no part {', '.join(unknown)}; there are {', '.join(known)}")
    if sys.platform != "linux":
        parser.error("it pins processes and reads their CPU time as Linux has them")
    return asked


if __name__ == "__main__":
    main()
