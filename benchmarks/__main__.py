"""Run benchmarks: ``python -m benchmarks [part ...]``."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Mapping, Sequence

from rich.console import Console

from benchmarks import machine, report, rivals, runner, terminal
from benchmarks.forecast import Forecast
from benchmarks.model import Part, parts

ALL = "all"
EXAMPLES = """\
examples:
  nox -s bench -- all --install --page     everything, and the pages of the documentation
  nox -s bench -- core --quick             a first look at one part
  nox -s bench -- web --case "saturated"   the cases of one part that have this in their names
"""


def main() -> None:
    """Run what the command line asks for."""
    known = parts()
    asked = arguments(known)
    console = Console()
    names = list(known) if ALL in asked.parts or not asked.parts else asked.parts
    chosen = [known[name].reduced(asked.quick, asked.case) for name in names]
    if asked.install:
        wanted = {case.rival for part in chosen for case in part.cases.values() if case.rival}
        with console.status("installing rivals"):
            rivals.install(sorted(wanted))
    if asked.list:
        for part in chosen:
            describe(part, console)
    elif asked.page_only:
        for part in chosen:
            if run := report.Run.load(part, asked.quick):
                write_page(run)
    else:
        machine.pin("load")
        for run in measure(chosen, asked.rounds, asked.quick, console):
            if not asked.case:  # part of a part is shown, not kept
                run.save()
            terminal.show(run, console)
            if asked.page:
                write_page(run)


def measure(
    chosen: Sequence[Part], rounds: int | None, quick: bool, console: Console
) -> Iterator[report.Run]:
    """Run parts one after the other, with a bar that tells how far it is; gives each when done."""
    planned = []
    for part in chosen:
        times = rounds or (1 if quick else part.rounds)
        earlier = report.Run.load(part, quick)
        left = {name: 1 if case.once else times for name, case in part.cases.items()}
        forecast = Forecast(left, earlier.seconds if earlier else {})
        planned.append((part, times, forecast))
    minutes = sum(forecast.seconds_left() for _, _, forecast in planned) / 60
    console.print(f"{', '.join(part.name for part in chosen)}: about {minutes:.0f} min in all")
    for part, times, forecast in planned:
        with terminal.Bar(console, part.name, forecast) as bar:
            samples, missing = runner.run(part, times, quick, bar)
        yield report.Run.now(part, samples, missing, forecast.typical(), quick)


def describe(part: Part, console: Console) -> None:
    """Say what a part measures."""
    console.print(f"[bold]{part.name}[/bold]: {part.title}")
    for figure in part.figures:
        console.print(f"  {figure.title} {figure.target}", highlight=False)
    for curve in part.curves:
        console.print(f"  a curve: {curve.title}", highlight=False)
    for case in part.cases:
        console.print(f"    case: {case}", highlight=False, style="dim")


def write_page(run: report.Run) -> None:
    """Write a part's page; only this needs what draws."""
    from benchmarks import page

    page.write(run)


def arguments(known: Mapping[str, Part]) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        prog="nox -s bench --",
        description="Measure Channels beside its rivals. Results go to benchmarks/results/.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    names = ", ".join(known)
    parser.add_argument("parts", nargs="*", metavar="part", help=f"{names}, or {ALL} (default)")
    parser.add_argument(
        "--case", default="", metavar="TEXT", help="only cases with this in their names; not kept"
    )
    parser.add_argument("--quick", action="store_true", help="one short round, for a first look")
    parser.add_argument(
        "--rounds", type=int, help="how often all is measured; default: as the part says"
    )
    parser.add_argument("--install", action="store_true", help="install rivals that are missing")
    parser.add_argument("--list", action="store_true", help="show figures, targets and cases")
    parser.add_argument("--page", action="store_true", help="write the results into docs/ as well")
    parser.add_argument(
        "--page-only", action="store_true", help="write the last results into docs/ again"
    )
    asked = parser.parse_args()
    if unknown := [name for name in asked.parts if name not in {*known, ALL}]:
        parser.error(f"no part {', '.join(unknown)}; there are {names}")
    if asked.page and asked.case:
        parser.error("a page takes whole parts: --page without --case")
    if sys.platform != "linux":
        parser.error("it pins processes and reads their CPU time as Linux has them")
    return asked


if __name__ == "__main__":
    main()
