"""WebSocket fan-out over real servers, beside litestar.channels, others, nginx and a bare loop."""

from __future__ import annotations

from benchmarks.model import Case, Figure, Part

RIVALS = {"broadcaster": "broadcaster", "django": "channels_redis", "socketio": "socketio"}


def fan_out(server: str, **arguments: object) -> Case:
    return Case(
        "web:fan_out",
        {"server": server, "clients": 1_000, "events": 100, **arguments},
        quick={"clients": 200, "events": 48},
        rival=RIVALS.get(server.removesuffix("_web")),
        core="load",
    )


def low(server: str) -> Case:
    return fan_out(server, pause=0.02, events=50)


def eight(server: str) -> Case:
    return fan_out(server, burst=8, ahead=2, events=160)


def connection(server: str) -> Case:
    return Case(
        "web:connection",
        {"server": server, "clients": 1_000},
        quick={"clients": 500},
        core="load",
    )


PART = Part(
    name="web",
    title="WebSocket fan-out",
    text="""\
A server on one core, 1,000 clients in one process on the other, one channel, 200 bytes of text per
event. Clients are plain sockets that count what they get. *At once* has the next event published
when everybody has the one before; *low rate* waits 20 ms in between; *eight waiting* has 16 events
under way, published by eights. The *bare loop* writes one frame, made in advance, to each
transport: below it is only the kernel. All servers of Python run on uvloop; nchan is a module of
nginx, written in C.""",
    cases={
        "at once, channels": fan_out("channels_web"),
        "at once, litestar": fan_out("litestar_web"),
        "at once, bare loop": fan_out("bare_web"),
        "at once, nchan": fan_out("nchan"),
        "low rate, channels": low("channels_web"),
        "low rate, litestar": low("litestar_web"),
        "low rate, bare loop": low("bare_web"),
        "eight waiting, channels": eight("channels_web"),
        "eight waiting, litestar": eight("litestar_web"),
        "eight waiting, nchan": eight("nchan"),
        "at once, broadcaster": fan_out("broadcaster_web"),
        "at once, socketio": fan_out("socketio_web", events=40),
        "at once, django": fan_out("django_web", events=20),
        "connection, channels": connection("channels_web"),
        "connection, litestar": connection("litestar_web"),
        "connection, raw ASGI": connection("asgi_web"),
    },
    figures=(
        Figure(
            "CPU at a low rate: channels / litestar",
            ["low rate, channels"],
            ["low rate, litestar"],
            at_most=0.5,
        ),
        Figure(
            "CPU with eight waiting: channels / litestar",
            ["eight waiting, channels"],
            ["eight waiting, litestar"],
            at_most=1,
        ),
        Figure(
            "CPU, one after the other: litestar / channels",
            ["at once, litestar"],
            ["at once, channels"],
        ),
        Figure(
            "CPU, one after the other: channels / bare loop",
            ["at once, channels"],
            ["at once, bare loop"],
        ),
        Figure(
            "CPU, one after the other: nchan / bare loop",
            ["at once, nchan"],
            ["at once, bare loop"],
        ),
        Figure(
            "CPU, one after the other: broadcaster / channels",
            ["at once, broadcaster"],
            ["at once, channels"],
        ),
        Figure(
            "CPU, one after the other: python-socketio / channels",
            ["at once, socketio"],
            ["at once, channels"],
        ),
        Figure(
            "CPU, one after the other: Django Channels / channels",
            ["at once, django"],
            ["at once, channels"],
        ),
        Figure(
            "median until it arrives: litestar / channels",
            ["low rate, litestar"],
            ["low rate, channels"],
            metric="p50",
        ),
        Figure(
            "deliveries per second with eight waiting: channels / nchan",
            ["eight waiting, channels"],
            ["eight waiting, nchan"],
            metric="second",
        ),
        Figure(
            "memory of a connection: channels / raw ASGI",
            ["connection, channels"],
            ["connection, raw ASGI"],
            metric="bytes",
        ),
        Figure(
            "memory of a connection: litestar / channels",
            ["connection, litestar"],
            ["connection, channels"],
            metric="bytes",
        ),
    ),
    units={
        "us": "µs of CPU per delivery",
        "second": "deliveries per second",
        "p50": "ms until half have it",
        "p99": "ms until 99 of 100 have it",
        "bytes": "bytes resident per connection",
    },
    packages=("channels-core", "channels-litestar", "litestar", "uvicorn", "uvloop", "websockets"),
)
