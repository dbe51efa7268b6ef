"""WebSocket fan-out over real servers, beside litestar.channels, others, nginx and a bare loop."""

from __future__ import annotations

from benchmarks.model import Case, Figure, Part

RIVALS = {
    "broadcaster_web": "broadcaster",
    "django_web": "channels_redis",
    "socketio_web": "socketio",
}
SERVERS = {
    "frames": "frames_web",
    "channels": "channels_web",
    "litestar": "litestar_web",
    "bare loop": "bare_web",
    "nchan": "nchan",
}


def fan_out(server: str, **arguments: object) -> Case:
    return Case(
        "web:fan_out",
        {"server": server, "clients": 1_000, "events": 100, "ahead": 1, **arguments},
        quick={"clients": 200, "events": 48},
        rival=RIVALS.get(server),
        core="load",
    )


def saturated(server: str) -> Case:
    return fan_out(server, ahead=2)


def eight(server: str) -> Case:
    return fan_out(server, burst=8, ahead=2, events=240)


def low(server: str) -> Case:
    return Case(
        "web:latency",
        {"server": server, "clients": 1_000, "rate": 10, "seconds": 2},
        quick={"clients": 200, "seconds": 0.5},
        core="load",
    )


def beside(server: str, other: str) -> Case:
    return Case(
        "web:beside",
        {"server": server, "other": other, "clients": 1_000, "events": 40, "turns": 12},
        quick={"clients": 200, "turns": 4},
        core="load",
    )


def connection(server: str) -> Case:
    return Case(
        "web:connection",
        {"server": server, "clients": 2_000},
        quick={"clients": 300},
        core="load",
    )


def above(raw: str, side: str, at_most: float | None = None) -> Figure:
    return Figure(
        f"bytes of a connection: {side}, above {raw}",
        [f"connection, {side}"],
        [f"connection, {raw}"],
        metric="bytes",
        at_most=at_most,
        difference=True,
    )


PART = Part(
    name="web",
    title="WebSocket fan-out",
    text="""\
A server on one core, 1,000 clients in one process on the other, one channel, 200 bytes of text per
event. *One at a time* publishes an event when everybody has the one before, so that nothing can be
joined to anything; *saturated* has always two events under way, so that the server never waits, and
may join them if it finds both; *eight waiting* has sixteen, published by eights; *low rate* is ten
events per second. *In turn*, both servers run at once, one at a time, and are given forty events
each by turns.

The *bare loop* makes a frame for each event and writes it to each transport: below it is only the
kernel. *Frames* is Channels, a handler that ``channels-litestar`` generates, with the shared frames
of ``channels-uvicorn``; *channels* is the same application on stock uvicorn; *frames in plain ASGI*
do without Litestar. All servers in Python run on uvicorn with uvloop and the fastest of its
WebSocket protocols; nchan is a module of nginx, written in C. In the saturated case a server should
use all of its core: if it does not, and the clients use all of theirs, they are the limit.

Where a figure is not reached: the median at a low rate is half a fan-out, and nearly all of that
is the kernel's, so that litestar / bare loop bounds litestar / frames. On stock uvicorn the *send
loop*, one task that awaits uvicorn's ``send`` for each client and does nothing else, bounds what
channels can reach; *in Litestar* it is the ``send`` that handlers are given.""",
    rounds=3,
    cases={
        **{f"one at a time, {side}": fan_out(name) for side, name in SERVERS.items()},
        "one at a time, frames deflated": fan_out("frames_web", deflate=True),
        "one at a time, channels deflated": fan_out("channels_web", deflate=True),
        "one at a time, frames in plain ASGI": fan_out("gateway_web"),
        "in turn, frames and bare loop": beside("frames_web", "bare_web"),
        "in turn, frames in plain ASGI and bare loop": beside("gateway_web", "bare_web"),
        **{f"saturated, {side}": saturated(name) for side, name in SERVERS.items()},
        **{f"eight waiting, {side}": eight(name) for side, name in SERVERS.items()},
        **{f"low rate, {side}": low(name) for side, name in SERVERS.items()},
        "low rate, send loop": low("send_web"),
        "low rate, send loop in Litestar": low("litestar_send_web"),
        "one at a time, broadcaster": fan_out("broadcaster_web"),
        "one at a time, socketio": fan_out("socketio_web", events=40),
        "one at a time, django": fan_out("django_web", events=20),
        "connection, frames": connection("frames_web"),
        "connection, frames in plain ASGI": connection("gateway_web"),
        "connection, raw ASGI on channels-uvicorn": connection("asgi_frames_web"),
        "connection, raw Litestar on channels-uvicorn": connection("litestar_raw_web"),
        "connection, channels": connection("channels_web"),
        "connection, litestar": connection("litestar_web"),
        "connection, raw ASGI": connection("asgi_web"),
    },
    figures=(
        Figure(
            "CPU, one at a time: frames / bare loop",
            ["in turn, frames and bare loop"],
            metric="ratio",
            at_most=1.1,
        ),
        Figure(
            "CPU, one at a time: frames in plain ASGI / bare loop",
            ["in turn, frames in plain ASGI and bare loop"],
            metric="ratio",
            at_most=1.1,
        ),
        Figure(
            "CPU, one at a time: frames / nchan",
            ["one at a time, frames"],
            ["one at a time, nchan"],
            at_most=1,
        ),
        Figure(
            "deliveries per second, saturated: frames / nchan",
            ["saturated, frames"],
            ["saturated, nchan"],
            metric="second",
            at_least=1,
        ),
        Figure(
            "deliveries per second, eight waiting: frames / nchan",
            ["eight waiting, frames"],
            ["eight waiting, nchan"],
            metric="second",
            at_least=5,
        ),
        Figure(
            "median until it arrives, low rate: litestar / frames",
            ["low rate, litestar"],
            ["low rate, frames"],
            metric="p50",
            at_least=4,
        ),
        Figure(
            "median until it arrives, low rate: litestar / bare loop",
            ["low rate, litestar"],
            ["low rate, bare loop"],
            metric="p50",
        ),
        Figure(
            "CPU, one at a time: frames deflated / frames",
            ["one at a time, frames deflated"],
            ["one at a time, frames"],
            at_most=1.15,
        ),
        above("raw ASGI on channels-uvicorn", "frames in plain ASGI", at_most=2_048),
        Figure(
            "CPU at a low rate: channels / litestar",
            ["low rate, channels"],
            ["low rate, litestar"],
            at_most=0.5,
        ),
        Figure(
            "CPU at a low rate: send loop in Litestar / litestar",
            ["low rate, send loop in Litestar"],
            ["low rate, litestar"],
        ),
        Figure(
            "CPU at a low rate: send loop / litestar",
            ["low rate, send loop"],
            ["low rate, litestar"],
        ),
        Figure(
            "CPU, saturated: channels / litestar",
            ["saturated, channels"],
            ["saturated, litestar"],
            at_most=1,
        ),
        Figure(
            "CPU, eight waiting: channels / litestar",
            ["eight waiting, channels"],
            ["eight waiting, litestar"],
            at_most=1,
        ),
        Figure(
            "CPU, one at a time: litestar / frames",
            ["one at a time, litestar"],
            ["one at a time, frames"],
        ),
        Figure(
            "CPU, eight waiting: litestar / frames",
            ["eight waiting, litestar"],
            ["eight waiting, frames"],
        ),
        Figure(
            "CPU, one at a time: litestar / channels",
            ["one at a time, litestar"],
            ["one at a time, channels"],
        ),
        Figure(
            "CPU, one at a time: channels / bare loop",
            ["one at a time, channels"],
            ["one at a time, bare loop"],
        ),
        Figure(
            "CPU, one at a time: nchan / bare loop",
            ["one at a time, nchan"],
            ["one at a time, bare loop"],
        ),
        Figure(
            "CPU, one at a time, deflated: channels / frames",
            ["one at a time, channels deflated"],
            ["one at a time, frames deflated"],
        ),
        Figure(
            "CPU, one at a time: broadcaster / frames",
            ["one at a time, broadcaster"],
            ["one at a time, frames"],
        ),
        Figure(
            "CPU, one at a time: python-socketio / frames",
            ["one at a time, socketio"],
            ["one at a time, frames"],
        ),
        Figure(
            "CPU, one at a time: Django Channels / frames",
            ["one at a time, django"],
            ["one at a time, frames"],
        ),
        Figure(
            "median until it arrives, low rate: litestar / channels",
            ["low rate, litestar"],
            ["low rate, channels"],
            metric="p50",
        ),
        Figure(
            "deliveries per second, eight waiting: channels / nchan",
            ["eight waiting, channels"],
            ["eight waiting, nchan"],
            metric="second",
        ),
        above("raw ASGI on channels-uvicorn", "frames"),
        above("raw Litestar on channels-uvicorn", "frames"),
        above("raw ASGI", "channels"),
        above("raw ASGI", "litestar"),
    ),
    units={
        "us": "µs of CPU per delivery",
        "kernel": "percent of that in the kernel",
        "us_other": "µs of CPU per delivery, the other one",
        "ratio": "of that of the other one",
        "second": "deliveries per second",
        "busy": "percent of its core, server",
        "load": "percent of their core, clients",
        "p50": "ms until half have it",
        "p99": "ms until 99 of 100 have it",
        "max": "ms until all have it",
        "bytes": "bytes resident per connection",
    },
    packages=(
        "channels-core",
        "channels-litestar",
        "channels-uvicorn",
        "litestar",
        "uvicorn",
        "uvloop",
        "httptools",
        "websockets",
    ),
    programs=("nginx",),
)
