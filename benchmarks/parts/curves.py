"""How the costs grow: with subscribers, channels, sizes, processes, connections and the rate."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from benchmarks.model import Case, Curve, Distribution, Part

IN_PROCESS = {
    "iter_events, channels": ("channels_memory", "iterate"),
    "iter_events, litestar": ("litestar_memory", "iterate"),
    "sink, channels": ("channels_memory", "sink"),
}
SERVERS = {
    "frames": "frames_web",
    "channels": "channels_web",
    "litestar": "litestar_web",
    "bare loop": "bare_web",
}
CONNECTIONS = {
    "frames": "frames_web",
    "channels": "channels_web",
    "litestar": "litestar_web",
    "raw ASGI": "asgi_web",
}
BROKER = {
    "channels": {"library": "channels_broker", "kind": "redis"},
    "litestar": {"library": "litestar_broker", "kind": "pubsub"},
}
RATES = (20, 200)


def subscribers(side: str, count: int) -> Case:
    library, way = IN_PROCESS[side]
    return Case(
        f"{library}:deliver",
        {"way": way, "subscribers": count, "burst": 1, "seconds": 0.3},
        quick={"seconds": 0.02} if count <= 1_000 else None,
    )


def channels(side: str, count: int) -> Case:
    library, way = IN_PROCESS[side]
    return Case(
        f"{library}:deliver",
        {"way": way, "subscribers": 10_000, "channels": count, "burst": 1, "seconds": 0.3},
        quick={"subscribers": 1_000, "seconds": 0.02} if count <= 1_000 else None,
    )


def size(side: str, characters: int) -> Case:
    return Case(
        "web:fan_out",
        {
            "server": SERVERS[side],
            "clients": 200,
            "events": 100 if characters < 65_536 else 30,
            "size": characters,
            "ahead": 1,
        },
        quick={"clients": 20, "events": 20} if characters in {16, 65_536} else None,
        core="load",
    )


def publishing(side: str, count: int) -> Case:
    return Case(
        "processes:publish",
        {**BROKER[side], "processes": count, "publishers": 64, "seconds": 1.0},
        quick={"seconds": 0.1} if count < 4 else None,
        core="load",
    )


def receiving(side: str, count: int) -> Case:
    return Case(
        "processes:receive",
        {**BROKER[side], "processes": count, "events": 20_000},
        quick={"events": 1_000} if count < 4 else None,
        core="load",
    )


def connections(side: str, count: int) -> Case:
    return Case(
        "web:connection",
        {"server": CONNECTIONS[side], "clients": count},
        quick={} if count < 1_000 else None,
        core="load",
    )


def latency(side: str, rate: int) -> Case:
    return Case(
        "web:latency",
        {"server": SERVERS[side], "clients": 1_000, "rate": rate, "seconds": 3},
        quick={"clients": 50, "seconds": 0.5},
        core="load",
    )


def lines(
    name: str, sides: Mapping[str, object], values: tuple[int, ...]
) -> dict[str, dict[int, str]]:
    """Name the cases of a curve."""
    return {side: {x: f"{name}: {side}, {x:,}" for x in values} for side in sides}


def cases(curve: Curve, make: Callable[[str, int], Case]) -> dict[str, Case]:
    """Make the cases of a curve, those that are compared next to each other."""
    return {
        name: make(side, x)
        for x in next(iter(curve.lines.values()))
        for side, line in curve.lines.items()
        for name in (line[x],)
    }


SUBSCRIBERS = Curve(
    "subscribers",
    "Subscribers of one channel",
    "subscribers",
    "µs of CPU per subscriber",
    lines("subscribers", IN_PROCESS, (1, 10, 100, 1_000, 10_000, 50_000)),
    text="""\
In process, one event at a time, CPU per subscriber. On the left is what an event costs by itself,
on the right what one more subscriber does.""",
)
CHANNELS = Curve(
    "channels",
    "Channels that share 10,000 subscribers",
    "channels",
    "µs of CPU per delivery",
    lines("channels", IN_PROCESS, (1, 10, 100, 1_000, 10_000)),
    text="""\
In process, one event to each channel, CPU per delivery: from one event for 10,000 subscribers to
10,000 events for one subscriber each.""",
)
SIZES = Curve(
    "sizes",
    "Size of an event",
    "characters",
    "µs of CPU per delivery",
    lines("size", SERVERS, (16, 128, 1_024, 8_192, 65_536)),
    text="200 WebSocket clients, one event at a time, CPU of the server per delivery.",
)
PUBLISHING = Curve(
    "publishing",
    "Processes that publish to one Redis",
    "processes",
    "events per second, all together",
    lines("publishing", BROKER, (1, 2, 4)),
    metric="second",
    text="""\
64 tasks in each, all together. The processes share one core, Redis has the other: what is lost from
left to right is what processes cost each other.""",
)
RECEIVING = Curve(
    "receiving",
    "Processes that receive from one Redis",
    "processes",
    "µs of CPU per event",
    lines("receiving", BROKER, (1, 2, 4)),
    text="Each gets every event of one channel; CPU per event in each of the processes.",
)
CONNECTED = Curve(
    "connections",
    "Memory of a connection",
    "connections",
    "bytes resident per connection",
    lines("connections", CONNECTIONS, (250, 1_000, 4_000)),
    metric="bytes",
    text="What the server's process grows by for each WebSocket that waits.",
)
LATENCIES = {
    rate: Distribution(
        f"latency-{rate}",
        f"From publishing to the client, {rate} events per second",
        "ms from publishing to arrival",
        {side: f"latency, {rate}/s: {side}" for side in SERVERS},
        text=text,
    )
    for rate, text in zip(
        RATES,
        (
            "1,000 WebSocket clients, that is 20,000 deliveries per second.",
            """\
1,000 WebSocket clients, that is 200,000 deliveries per second, for three seconds. A server that
cannot keep up lets the clients wait longer and longer; the figures then say how far behind it was.
Events that wait together may be sent together.""",
        ),
        strict=True,
    )
}

PART = Part(
    name="curves",
    title="Curves",
    text="""\
How the costs grow. *Frames* is Channels with the shared frames of ``channels-uvicorn``; *channels*
is the same on stock uvicorn, as is *litestar*, which is litestar.channels. The *bare loop* makes a
frame for each event and writes it to each transport. Lines are medians, and what is shaded around
them is the spread.""",
    rounds=3,
    broker="redis",
    cases={
        **cases(SUBSCRIBERS, subscribers),
        **cases(CHANNELS, channels),
        **cases(SIZES, size),
        **cases(PUBLISHING, publishing),
        **cases(RECEIVING, receiving),
        **cases(CONNECTED, connections),
        **{
            case: latency(side, rate)
            for rate, distribution in LATENCIES.items()
            for side, case in distribution.cases.items()
        },
    },
    figures=(),
    curves=(
        SUBSCRIBERS,
        CHANNELS,
        SIZES,
        PUBLISHING,
        RECEIVING,
        CONNECTED,
        *LATENCIES.values(),
    ),
    units={},
    packages=(
        "channels-core",
        "channels-redis",
        "channels-litestar",
        "channels-uvicorn",
        "litestar",
        "redis",
        "hiredis",
        "uvicorn",
        "uvloop",
        "websockets",
    ),
    programs=("redis-server",),
)
