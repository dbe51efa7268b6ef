"""Redis: Pub/Sub and streams, beside litestar.channels and redis-py by itself."""

from __future__ import annotations

from benchmarks.model import Case, Figure, Part

KINDS = {
    "Pub/Sub, channels": {"library": "channels_broker", "kind": "redis"},
    "Pub/Sub, litestar": {"library": "litestar_broker", "kind": "pubsub"},
    "Pub/Sub, redis-py": {"library": "redis_broker", "kind": "pubsub"},
    "Pub/Sub, broadcaster": {"library": "broadcaster_broker", "kind": "pubsub"},
    "Pub/Sub, channels_redis": {"library": "channels_redis_broker", "kind": "pubsub"},
    "streams, channels": {"library": "channels_broker", "kind": "redis+stream?history=100"},
    "streams, litestar": {"library": "litestar_broker", "kind": "stream"},
    "streams, redis-py": {"library": "redis_broker", "kind": "script"},
}
RIVALS = {
    "Pub/Sub, broadcaster": "broadcaster",
    "Pub/Sub, channels_redis": "channels_redis",
}


def publish(name: str) -> Case:
    return Case(
        "broker:publish",
        {**KINDS[name], "publishers": 64, "seconds": 2.0},
        quick={"seconds": 0.5},
        rival=RIVALS.get(name),
    )


def flood(name: str) -> Case:
    return Case(
        "broker:flood",
        {**KINDS[name], "events": 30_000},
        quick={"events": 5_000},
        rival=RIVALS.get(name),
    )


def latency(name: str) -> Case:
    return Case(
        "broker:latency",
        {**KINDS[name], "rate": 200, "seconds": 5},
        quick={"seconds": 1},
        rival=RIVALS.get(name),
    )


def subscribe(name: str, way: str) -> Case:
    return Case(
        "broker:subscribe",
        {**KINDS[name], "channels": 10_000, "way": way},
        quick={"channels": 1_000},
    )


def idle(name: str) -> Case:
    return Case(
        "broker:idle",
        {**KINDS[name], "channels": 20_000, "seconds": 70},
        quick={"channels": 2_000, "seconds": 2},
        once=True,
    )


def beside(rival: str) -> list[Figure]:
    return [
        Figure(
            f"Pub/Sub, 64 publishers, events per second: channels / {rival}",
            ["publish, Pub/Sub, channels"],
            [f"publish, Pub/Sub, {rival}"],
            metric="second",
        ),
        Figure(
            f"Pub/Sub, CPU per event received in a flood: channels / {rival}",
            ["flood, Pub/Sub, channels"],
            [f"flood, Pub/Sub, {rival}"],
        ),
        Figure(
            f"Pub/Sub, median latency at 200/s: channels / {rival}",
            ["latency, Pub/Sub, channels"],
            [f"latency, Pub/Sub, {rival}"],
            metric="p50",
        ),
    ]


PART = Part(
    name="redis",
    title="Redis",
    text="""\
A private server on one core, the measured process on the other, 100 bytes per event. *Publish* has
64 tasks that each wait for the server every time; *flood* receives what another process publishes
as fast as it can; *latency* is from before the publishing to the consumer, at 200 events per
second. redis-py by itself sends what is published in one tick as one pipeline: PUBLISH, or the very
script of the stream backend. A subscription of Channels returns when the server has confirmed it,
so those made *in turn* cost a round trip each, as with redis-py when it waits for confirmations;
one of litestar.channels returns when it is sent. Nearly all of that time is the round trip, so in
turn nothing that waits for it can be several times as fast. *At once* is a task per subscription,
as of clients that connect together: Channels joins what is asked for in one tick, and this is
where five times as fast is asked for; litestar.channels cannot run its calls at once, which
exhausts its pool, so its side are those in turn. *Idle* is long enough to have a look at the
records' tops in it, which the stream backend takes once a minute, and so is
measured in one round only.""",
    rounds=3,
    broker="redis",
    cases={
        **{f"publish, {name}": publish(name) for name in KINDS},
        **{f"flood, {name}": flood(name) for name in KINDS if "redis-py" not in name},
        **{f"latency, {name}": latency(name) for name in KINDS if name.startswith("Pub")},
        "subscribe in turn, channels": subscribe("Pub/Sub, channels", "in turn"),
        "subscribe in turn, litestar": subscribe("Pub/Sub, litestar", "in turn"),
        "subscribe in turn, redis-py": subscribe("Pub/Sub, redis-py", "in turn"),
        "subscribe at once, channels": subscribe("Pub/Sub, channels", "at once"),
        "idle, streams, channels": idle("streams, channels"),
        "idle, streams, litestar": idle("streams, litestar"),
    },
    figures=(
        Figure(
            "Pub/Sub, 64 publishers, events per second: channels / litestar",
            ["publish, Pub/Sub, channels"],
            ["publish, Pub/Sub, litestar"],
            metric="second",
            at_least=4,
        ),
        Figure(
            "Pub/Sub, 64 publishers, events per second: channels / redis-py",
            ["publish, Pub/Sub, channels"],
            ["publish, Pub/Sub, redis-py"],
            metric="second",
        ),
        Figure(
            "Pub/Sub, CPU per event received in a flood: channels / litestar",
            ["flood, Pub/Sub, channels"],
            ["flood, Pub/Sub, litestar"],
            at_most=0.5,
        ),
        Figure(
            "Pub/Sub, median latency at 200/s: channels / redis-py",
            ["latency, Pub/Sub, channels"],
            ["latency, Pub/Sub, redis-py"],
            metric="p50",
            at_most=1.1,
        ),
        *beside("broadcaster"),
        *beside("channels_redis"),
        Figure(
            "streams, 64 publishers, events per second: channels / litestar",
            ["publish, streams, channels"],
            ["publish, streams, litestar"],
            metric="second",
            at_least=2.5,
        ),
        Figure(
            "streams, 64 publishers, events per second: channels / same script by redis-py",
            ["publish, streams, channels"],
            ["publish, streams, redis-py"],
            metric="second",
            at_least=0.9,
        ),
        Figure(
            "streams, CPU per event received in a flood: channels / litestar",
            ["flood, streams, channels"],
            ["flood, streams, litestar"],
        ),
        Figure(
            "10,000 subscriptions in turn, time: litestar, unconfirmed / channels, confirmed",
            ["subscribe in turn, litestar"],
            ["subscribe in turn, channels"],
            metric="seconds",
        ),
        Figure(
            "10,000 subscriptions in turn, all confirmed, time: redis-py / channels",
            ["subscribe in turn, redis-py"],
            ["subscribe in turn, channels"],
            metric="seconds",
        ),
        Figure(
            "10,000 subscriptions, time: litestar in turn, unconfirmed / channels at once",
            ["subscribe in turn, litestar"],
            ["subscribe at once, channels"],
            metric="seconds",
            at_least=5,
        ),
        Figure(
            "percent of a core, idle with 20,000 channels, streams: channels",
            ["idle, streams, channels"],
            metric="percent",
            at_most=0.05,
        ),
        Figure(
            "percent of a core, idle with 20,000 channels, streams: litestar",
            ["idle, streams, litestar"],
            metric="percent",
        ),
    ),
    units={
        "second": "events per second",
        "us": "µs of CPU per event",
        "p50": "ms until half have arrived",
        "p99": "ms until 99 of 100 have arrived",
        "seconds": "seconds",
        "percent": "percent of a core",
        "lost": "percent of the events lost",
    },
    packages=("channels-core", "channels-redis", "litestar", "redis", "hiredis"),
    programs=("redis-server",),
)
