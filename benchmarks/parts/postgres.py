"""PostgreSQL: both drivers, beside litestar.channels' two backends and a kept connection."""

from __future__ import annotations

from benchmarks.model import Case, Figure, Part

DRIVERS = ("asyncpg", "psycopg")
KINDS = {
    f"{driver}, {side}": {"library": f"{library}_broker", "kind": kind}
    for driver in DRIVERS
    for side, library, kind in (
        ("channels", "channels", f"postgresql+{driver}"),
        ("litestar", "litestar", driver),
        (
            "channels with history",
            "channels",
            f"postgresql+{driver}?history=100&create_schema=true",
        ),
    )
} | {"asyncpg, by itself": {"library": "asyncpg_broker", "kind": "asyncpg"}}


def publish(name: str, publishers: int = 64, channels: int = 1) -> Case:
    return Case(
        "broker:publish",
        {**KINDS[name], "publishers": publishers, "channels": channels, "seconds": 2.0},
        quick={"seconds": 0.5},
    )


def latency(name: str) -> Case:
    return Case("broker:latency", {**KINDS[name], "rate": 200, "seconds": 5}, quick={"seconds": 1})


def subscribe(name: str) -> Case:
    return Case(
        "broker:subscribe",
        {**KINDS[name], "channels": 10_000, "way": "one call"},
        quick={"channels": 1_000},
    )


def idle(name: str) -> Case:
    return Case(
        "broker:idle",
        {**KINDS[name], "channels": 1_000, "seconds": 10},
        quick={"channels": 100, "seconds": 2},
    )


def cases(driver: str) -> dict[str, Case]:
    ours, litestar = f"{driver}, channels", f"{driver}, litestar"
    with_history = f"{driver}, channels with history"
    return {
        f"publish, {ours}": publish(ours),
        f"publish, {litestar}": publish(litestar),
        f"publish, {with_history}": publish(with_history),
        f"publish to 1,000, {with_history}": publish(with_history, channels=1_000),
        f"one publisher, {ours}": publish(ours, publishers=1),
        f"one publisher, {litestar}": publish(litestar, publishers=1),
        f"latency, {ours}": latency(ours),
        f"latency, {litestar}": latency(litestar),
        f"subscribe, {ours}": subscribe(ours),
        f"subscribe, {litestar}": subscribe(litestar),
        f"idle, {ours}": idle(ours),
    }


def figures(driver: str) -> list[Figure]:
    ours, litestar = f"{driver}, channels", f"{driver}, litestar"
    with_history = f"{driver}, channels with history"
    return [
        Figure(
            f"{driver}, 64 publishers, events per second: channels / litestar",
            [f"publish, {ours}"],
            [f"publish, {litestar}"],
            metric="second",
            at_least=100,
        ),
        Figure(
            f"{driver}, one publisher, events per second: channels / litestar",
            [f"one publisher, {ours}"],
            [f"one publisher, {litestar}"],
            metric="second",
            at_least=10,
        ),
        Figure(
            f"{driver}, median latency at 200/s: channels / litestar",
            [f"latency, {ours}"],
            [f"latency, {litestar}"],
            metric="p50",
            at_most=0.2,
        ),
        Figure(
            f"{driver}, history on one channel, events per second: with / without",
            [f"publish, {with_history}"],
            [f"publish, {ours}"],
            metric="second",
            at_least=0.5,
        ),
        Figure(
            f"{driver}, history on 1,000 channels, events per second: with / without",
            [f"publish to 1,000, {with_history}"],
            [f"publish, {ours}"],
            metric="second",
            at_least=0.25,
        ),
        Figure(
            f"{driver}, 10,000 subscriptions in one call, time: litestar / channels",
            [f"subscribe, {litestar}"],
            [f"subscribe, {ours}"],
            metric="seconds",
            at_least=10,
        ),
        Figure(
            f"{driver}, percent of a core, idle with 1,000 channels: channels",
            [f"idle, {ours}"],
            metric="percent",
            at_most=0.05,
        ),
    ]


PART = Part(
    name="postgres",
    title="PostgreSQL",
    text="""\
A private server (without fsync) on one core, the measured process on the other, 100 bytes per
event. *Publish* has 64 tasks that each wait for the commit every time; *latency* is from before the
publishing to the consumer, at 200 events per second. *asyncpg by itself* sends ``pg_notify`` over
one kept connection, one after the other. psycopg is that of its binary wheel, for both sides.

Where a figure is not reached: for each LISTEN the server looks through all names that the
connection listens to already, so that 10,000 of them cost it 0.16 to 0.17 s by themselves, however
they are sent; a tenth of what litestar.channels takes with psycopg is half of that.""",
    rounds=3,
    broker="postgres",
    cases={
        **cases("asyncpg"),
        **cases("psycopg"),
        "publish, asyncpg, by itself": publish("asyncpg, by itself"),
        "latency, asyncpg, by itself": latency("asyncpg, by itself"),
    },
    figures=(
        *figures("asyncpg"),
        *figures("psycopg"),
        Figure(
            "64 publishers, events per second: channels / asyncpg by itself",
            ["publish, asyncpg, channels"],
            ["publish, asyncpg, by itself"],
            metric="second",
        ),
        Figure(
            "median latency at 200/s: channels / asyncpg by itself",
            ["latency, asyncpg, channels"],
            ["latency, asyncpg, by itself"],
            metric="p50",
        ),
    ),
    units={
        "second": "events per second",
        "us": "µs of CPU per event",
        "p50": "ms until half have arrived",
        "p99": "ms until 99 of 100 have arrived",
        "seconds": "seconds",
        "percent": "percent of a core",
    },
    packages=(
        "channels-core",
        "channels-asyncpg",
        "channels-psycopg",
        "litestar",
        "asyncpg",
        "psycopg",
    ),
    programs=("postgres",),
)
