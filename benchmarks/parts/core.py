"""In process: the memory backend, beside litestar.channels and beside bare asyncio."""

from __future__ import annotations

from benchmarks.model import Case, Figure, Part


def deliver(library: str, way: str, subscribers: int, burst: int) -> Case:
    return Case(
        f"{library}_memory:deliver",
        {"way": way, "subscribers": subscribers, "burst": burst, "seconds": 0.5},
        quick={"seconds": 0.1},
    )


def bare(function: str, subscribers: int) -> Case:
    return Case(function, {"subscribers": subscribers, "seconds": 0.5}, quick={"seconds": 0.1})


def leave(library: str, channels: int) -> Case:
    return Case(
        f"{library}_memory:leave", {"channels": channels, "seconds": 0.2}, quick={"seconds": 0.05}
    )


def memory(library: str) -> Case:
    return Case(f"{library}_memory:memory", {"subscribers": 10_000}, quick={"subscribers": 3_000})


PART = Part(
    name="core",
    title="In process",
    text="""\
What the library itself costs: publisher, router and subscribers over the memory backend, with no
network. One channel, 100 bytes per event. *Idle* publishes one event and waits until all have it,
so that every consumer has to be woken; a *burst* is 100 events at once. A *bare task* waits on one
future per event and does nothing else; a *callback loop* calls whoever's backlog is not full: what
asyncio and the interpreter cost by themselves. A sink gets a burst in one call, which a callback of
``run_in_background`` cannot. CPU is that of the whole process, per event and subscriber, or per
subscriber that leaves; memory is per subscriber whose consumer waits.""",
    cases={
        "iterate idle, channels": deliver("channels", "iterate", 1_000, 1),
        "iterate idle, litestar": deliver("litestar", "iterate", 1_000, 1),
        "bare task": bare("bare:wait", 1_000),
        "iterate bursts, channels": deliver("channels", "iterate", 1_000, 100),
        "iterate bursts, litestar": deliver("litestar", "iterate", 1_000, 100),
        "sink idle, channels": deliver("channels", "sink", 1_000, 1),
        "background idle, litestar": deliver("litestar", "background", 1_000, 1),
        "sink bursts, channels": deliver("channels", "sink", 1_000, 100),
        "background bursts, litestar": deliver("litestar", "background", 1_000, 100),
        "iterate idle 10,000, channels": deliver("channels", "iterate", 10_000, 1),
        "bare task 10,000": bare("bare:wait", 10_000),
        "empty sink, channels": bare("channels_memory:call", 1_000),
        "callback loop": bare("bare:call", 1_000),
        "one subscriber, channels": deliver("channels", "iterate", 1, 1),
        "one subscriber, litestar": deliver("litestar", "iterate", 1, 1),
        "idle subscriber, channels": memory("channels"),
        "idle subscriber, litestar": memory("litestar"),
        "leave among 10, channels": leave("channels", 10),
        "leave among 50,000, channels": leave("channels", 50_000),
        "leave among 10, litestar": leave("litestar", 10),
        "leave among 50,000, litestar": leave("litestar", 50_000),
        "200 joins, channels": Case(
            "channels_memory:join_during_writes", {"joins": 200, "history": 50, "live": 500}
        ),
        "200 joins, litestar": Case(
            "litestar_memory:join_during_writes", {"joins": 200, "history": 50, "live": 500}
        ),
    },
    figures=(
        Figure(
            "iter_events idle: litestar / channels",
            ["iterate idle, litestar"],
            ["iterate idle, channels"],
            at_least=1.8,
        ),
        Figure(
            "iter_events in bursts: litestar / channels",
            ["iterate bursts, litestar"],
            ["iterate bursts, channels"],
            at_least=3,
        ),
        Figure(
            "one event: run_in_background of litestar / sink of channels",
            ["background idle, litestar"],
            ["sink idle, channels"],
            at_least=12,
        ),
        Figure(
            "bursts: run_in_background of litestar / sink of channels",
            ["background bursts, litestar"],
            ["sink bursts, channels"],
            at_least=12,
        ),
        Figure(
            "10,000 against 1,000 subscribers: channels / bare tasks",
            ["iterate idle 10,000, channels", "bare task"],
            ["iterate idle, channels", "bare task 10,000"],
            at_most=1.1,
        ),
        Figure(
            "iter_events idle: channels / bare task",
            ["iterate idle, channels"],
            ["bare task"],
            at_most=1.1,
        ),
        Figure(
            "one event: sink of channels / callback loop",
            ["empty sink, channels"],
            ["callback loop"],
            at_most=1.2,
        ),
        Figure(
            "one subscriber, one event: litestar / channels",
            ["one subscriber, litestar"],
            ["one subscriber, channels"],
        ),
        Figure(
            "memory per idle subscriber: channels / litestar",
            ["idle subscriber, channels"],
            ["idle subscriber, litestar"],
            metric="bytes",
            at_most=0.5,
        ),
        Figure(
            "leaving among 50,000 channels / among 10: channels",
            ["leave among 50,000, channels"],
            ["leave among 10, channels"],
            at_most=1.2,
        ),
        Figure(
            "leaving among 50,000 channels / among 10: litestar",
            ["leave among 50,000, litestar"],
            ["leave among 10, litestar"],
        ),
        Figure(
            "gaps, repetitions and disorder in 200 joins with history at full speed: channels",
            ["200 joins, channels"],
            metric="faults",
            at_most=0,
        ),
        Figure(
            "gaps, repetitions and disorder in 200 joins with history at full speed: litestar",
            ["200 joins, litestar"],
            metric="faults",
        ),
    ),
    units={
        "us": "µs of CPU",
        "bytes": "bytes resident",
        "faults": "faults found",
        "checked": "events checked",
    },
    packages=("channels-core", "litestar"),
)
