"""The frame of the benchmarks: what it claims, and that it measures."""

import ast
import math
import os
import socket
import subprocess
import sys
import zlib
from collections.abc import Iterator
from contextlib import ExitStack, closing
from pathlib import Path

import pytest

from benchmarks import model, page, report, runner
from benchmarks.forecast import Forecast, remaining
from benchmarks.model import Case, Curve, Distribution, Figure, Part
from benchmarks.servers import bare_web
from benchmarks.servers.texts import Texts, text
from benchmarks.subjects import web, webclients
from benchmarks.subjects.webframes import Watch

FOLDER = Path(model.__file__).parent
PARTS = model.parts()
SIZE = 100

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="pins processes as Linux does")


def part(**cases: Case) -> Part:
    return Part("a", "A", "", cases, (), {})


class Progress:
    """Whoever watches a run."""

    def __init__(self) -> None:
        self.begun: list[str] = []
        self.done: list[str] = []

    def begins(self, case: str) -> None:
        self.begun.append(case)

    def ended(self, case: str, seconds: float) -> None:
        assert seconds >= 0
        self.done.append(case)


SEEN_BY_A_CHILD = """
import subprocess, sys
from benchmarks import machine

machine.pin("load")
child = "from benchmarks import machine; print(*machine.CORES.values())"
subprocess.run([sys.executable, "-c", child], check=True)
"""


def test_who_is_pinned_leaves_others_their_core() -> None:
    environment = {name: value for name, value in os.environ.items() if name != "BENCHMARKS_CORES"}
    command = [sys.executable, "-c", SEEN_BY_A_CHILD]
    seen = subprocess.check_output(command, cwd=FOLDER.parent, env=environment, text=True)
    cores = os.sched_getaffinity(0)
    assert seen.split() == [str(min(cores)), str(max(cores))]


def functions(module: str) -> set[str]:
    """Return what a module defines, without importing what it measures."""
    tree = ast.parse((FOLDER / f"{module.replace('.', '/')}.py").read_text("utf-8"))
    kinds = (ast.FunctionDef, ast.AsyncFunctionDef)
    return {node.name for node in tree.body if isinstance(node, kinds)}


@pytest.mark.parametrize("name", PARTS)
def test_a_part_is_whole(name: str) -> None:
    part = PARTS[name]
    for case in part.cases.values():
        module, _, function = case.function.partition(":")
        assert function in functions(f"subjects.{module}")
        assert (case.quick or {}).keys() <= case.arguments.keys()
        if library := case.arguments.get("library"):
            assert "opened" in functions(f"subjects.{library}")
        if (server := case.arguments.get("server", "nchan")) != "nchan":
            assert "serve" in functions(f"servers.{server}")
    for figure in part.figures:
        assert {*figure.over, *figure.under} <= part.cases.keys()
        assert figure.metric in part.units
        assert figure.at_least is None or figure.at_most is None
    for curve in part.curves:
        sides = curve.lines.values() if isinstance(curve, Curve) else [curve.cases]
        assert {case for side in sides for case in side.values()} <= part.cases.keys()
    titles = [figure.title for figure in part.figures]
    assert len(titles) == len(set(titles))


def test_a_ratio_is_taken_in_each_round() -> None:
    figure = Figure("", ["a", "b"], ["c"], at_most=2)
    rounds = [
        {"a": {"us": 2}, "b": {"us": 3}, "c": {"us": 4}},
        {"a": {"us": 20}, "b": {"us": 3}, "c": {"us": 40}},
        {"a": {"us": 1}, "b": {"us": 1}},
    ]
    assert figure.ratios(rounds) == [1.5, 1.5]


@pytest.mark.parametrize(
    ("targets", "ratio", "met"),
    [
        ({"at_least": 3}, 3, True),
        ({"at_least": 3}, 2.9, False),
        ({"at_most": 0}, 0, True),
        ({"at_most": 0}, 1, False),
        ({}, 1, None),
    ],
)
def test_a_target_is_met_or_not(targets: dict[str, float], ratio: float, met: bool | None) -> None:
    assert Figure("", ["a"], **targets).is_met_by(ratio) is met


def test_a_difference_is_taken_in_each_round() -> None:
    figure = Figure("", ["a"], ["b"], difference=True)
    assert figure.ratios([{"a": {"us": 5}, "b": {"us": 3}}]) == [2]


def test_a_figure_without_its_cases_says_why() -> None:
    claimed = Part("a", "A", "", {}, [Figure("", ["a"], ["b"], at_least=1)], {})
    [result] = model.results(claimed, [{"a": {"us": 1}}], {"b": "no such library"})
    assert (result.verdict, result.why_not) == ("not measured", "no such library")


def test_cases_run_in_turn_and_a_failed_one_once() -> None:
    progress = Progress()
    bare = Case("bare:call", {"subscribers": 10, "seconds": 9}, quick={"seconds": 0.01})
    measured = part(works=bare, fails=Case("bare:call", {"subscribers": -1, "seconds": 0}))

    samples, missing = runner.run(measured, rounds=2, quick=True, watcher=progress)

    assert progress.begun == progress.done == ["works", "fails", "works", "fails"]
    assert [list(sample) for sample in samples] == [["works"], ["works"]]
    assert all(0 < sample["works"]["us"] < math.inf for sample in samples)
    assert list(missing) == ["fails"]


def test_a_case_that_takes_long_runs_once() -> None:
    case = Case("bare:call", {"subscribers": 2, "seconds": 0.01}, once=True)
    samples, _ = runner.run(part(long=case), rounds=2, quick=False, watcher=Progress())
    assert [list(sample) for sample in samples] == [["long"], []]


def test_a_rival_that_is_not_installed_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runner.rivals, "python", lambda name: None)
    with pytest.raises(runner.Unavailable, match="broadcaster is not installed"):
        runner.run_case(Case("bare:call", rival="broadcaster"), quick=True, environment={})


@pytest.mark.extended
def test_clients_count_what_a_server_sends() -> None:
    arguments = {"server": "bare_web", "clients": 5, "events": 16, "burst": 8}
    sample = runner.run_case(Case("web:fan_out", arguments, core="load"), False, {})
    assert sample.pop("kernel") >= 0  # counted in hundredths of a second, of which it has few
    assert min(sample.values()) > 0


@pytest.mark.extended
def test_latencies_are_distributed() -> None:
    arguments = {"server": "bare_web", "clients": 5, "rate": 1000, "seconds": 0.02}
    sample = runner.run_case(Case("web:latency", arguments, core="load"), False, {})
    assert 0 < sample["p1"] <= sample["p50"] <= sample["p99"] <= sample["max"]


@pytest.mark.extended
def test_two_servers_are_measured_in_turn() -> None:
    arguments = {"server": "gateway_web", "other": "bare_web", "clients": 5}
    case = Case("web:beside", {**arguments, "events": 20, "turns": 1}, core="load")
    sample = runner.run_case(case, False, {})
    assert sample["us"] / sample["us_other"] == pytest.approx(sample["ratio"])
    assert sample["ratio"] > 0


def frame(number: int) -> bytes:
    return bytes([0x81, SIZE]) + text(number, SIZE).encode()


def test_a_watch_finds_each_text_however_it_is_cut() -> None:
    watch = Watch(SIZE, deflate=False)
    stream = b"".join(map(frame, range(5)))
    assert sum(watch.feed(stream[at : at + 7]) for at in range(0, len(stream), 7)) == 5
    assert (watch.events, watch.bytes) == (5, len(stream))


@pytest.mark.parametrize("size", [8, 125, 126, 200, 65_535, 65_536])
def test_a_watch_reads_frames_of_any_length(size: int) -> None:
    assert Watch(size, deflate=False).feed(bare_web.frame(text(0, size))) == 1


@pytest.mark.parametrize(
    "stream",
    [
        frame(0) + frame(0),
        frame(0) + frame(2),
        frame(1) + frame(0),
        frame(0).replace(b"harbour", b"HARBOUR"),
        b"\x89\x00",
        b"\x82" + frame(0)[1:],
    ],
    ids=["twice", "a gap", "disorder", "another text", "a ping", "binary"],
)
def test_a_watch_refuses_what_is_not_the_next_text(stream: bytes) -> None:
    with pytest.raises(AssertionError):
        Watch(SIZE, deflate=False).feed(stream)


def test_a_watch_inflates() -> None:
    compressed = zlib.compressobj(wbits=-15)
    data = compressed.compress(text(0, 200).encode()) + compressed.flush(zlib.Z_SYNC_FLUSH)
    stream = bytes([0xC1, 126]) + (len(data) - 4).to_bytes(2, "big") + data[:-4]
    assert Watch(200, deflate=True).feed(stream) == 1


def test_a_text_has_its_size_and_its_number() -> None:
    assert [each[:9] for each in Texts(9).take(2)] == ["00000000 ", "00000001 "]
    assert len(text(7, 1_000)) == 1_000
    with pytest.raises(ValueError, match="cannot hold"):
        Texts(7)


class Crowd(webclients.Clients):
    """Clients, more than are watched, whose server is the test itself."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.servers: list[socket.socket] = []
        self.number = 0
        monkeypatch.setattr(webclients, "connect", self.connect)
        super().__init__(0, "/", 3 * webclients.WATCHED, SIZE)
        self.first(self.send)

    def connect(self, *address: object) -> socket.socket:
        client, server = socket.socketpair()
        self.servers.append(server)
        return client

    def send(self, count: int) -> None:
        for _ in range(count):
            for server in self.servers:
                server.sendall(frame(self.number))
            self.number += 1


@pytest.fixture
def crowd(monkeypatch: pytest.MonkeyPatch) -> Iterator[Crowd]:
    crowd = Crowd(monkeypatch)
    with closing(crowd), ExitStack() as stack:
        for server in crowd.servers:
            stack.enter_context(server)
        yield crowd


def test_a_crowd_gets_what_is_sent(crowd: Crowd) -> None:
    asked: list[int] = []

    def send(count: int) -> None:
        asked.append(count)
        crowd.send(count)

    crowd.flow(24, send, burst=8, ahead=2)
    assert asked == [8, 8, 8]
    latencies = crowd.timed(3, crowd.send, rate=1_000)
    assert len(latencies) == 3 * (webclients.WATCHED + 1)  # the last one is watched in any case
    assert min(latencies) > 0


@pytest.mark.parametrize("server", [0, 1], ids=["watched", "not watched"])
def test_a_crowd_notices_what_one_of_them_has_too_much(crowd: Crowd, server: int) -> None:
    def send(count: int) -> None:
        crowd.send(count)
        crowd.servers[server].sendall(frame(crowd.number))

    with pytest.raises(AssertionError, match="more than was published"):
        crowd.flow(1, send, 1, 1)


def test_a_crowd_notices_what_one_of_them_misses(
    crowd: Crowd, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(webclients, "TIMEOUT", 0.01)
    deaf = crowd.servers.pop(1)
    with deaf, pytest.raises(TimeoutError, match="reached everybody"):
        crowd.flow(1, crowd.send, 1, 1)


def test_a_crowd_notices_a_connection_that_ends(crowd: Crowd) -> None:
    crowd.servers.pop(1).close()
    with pytest.raises(ConnectionError):
        crowd.flow(1, crowd.send, 1, 1)


@pytest.mark.extended
@pytest.mark.parametrize(
    "server",
    ["frames_web", "gateway_web", "litestar_web", "send_web", "litestar_send_web", "nchan"],
)
def test_a_server_delivers_every_text(server: str) -> None:
    if server == "nchan" and not web.NCHAN.exists():
        pytest.skip("nchan is not installed")
    arguments = {"server": server, "clients": 3, "events": 16, "burst": 8}
    sample = runner.run_case(Case("web:fan_out", arguments, core="load"), False, {})
    assert sample["us"] > 0


def test_a_forecast_learns_from_what_ran() -> None:
    forecast = Forecast({"a": 2, "b": 2}, {"a": 10.0, "b": 1.0})
    assert forecast.seconds_left() == 22
    forecast.ended("a", 4.0)
    assert forecast.seconds_left() == 6
    assert forecast.typical() == {"a": 4.0}
    assert [remaining(each) for each in (0, 30, 300)] == ["", "about 30 s left", "about 5 min left"]


def measured(part: Part, *samples: dict[str, dict[str, float]]) -> report.Run:
    return report.Run(part, samples, {}, {}, False, "today", {"cores": "2"}, {"litestar": "2"}, {})


def test_a_curve_has_a_row_for_each_point() -> None:
    curve = Curve("c", "C", "subscribers", "µs", {"ours": {1: "a", 1_000: "b"}, "theirs": {1: "c"}})
    run = measured(
        Part("p", "P", "", {"a": Case(""), "d": Case("")}, (), {"us": "µs"}, curves=[curve]),
        {"a": {"us": 1.0}, "b": {"us": 2.0}, "c": {"us": 3.0}, "d": {"us": 4.0}},
        {"a": {"us": 5.0}, "b": {"us": 2.0}},
    )
    assert report.table_of(run, curve) == (
        ("subscribers", "ours", "theirs"),
        [("1", "3", "3"), ("1,000", "2", "")],
    )
    assert [row[0] for row in report.cases_of(run)] == ["d"]
    assert {"C", "   * - 1,000", ".. image:: p-c.svg"} <= set(page.page(run))


def test_a_distribution_has_a_row_for_each_side() -> None:
    distribution = Distribution("d", "D", "ms", {"ours": "a", "theirs": "b"})
    run = measured(
        Part("p", "P", "", {}, (), {"p50": "ms"}, curves=[distribution]),
        {"a": {"p50": 1.0, "p90": 2.0, "p99": 3.0, "max": 4.0}},
    )
    assert report.table_of(run, distribution) == (
        ("", "p50", "p90", "p99", "max"),
        [("ours", "1", "2", "3", "4"), ("theirs", "", "", "", "")],
    )


def test_what_was_kept_is_loaded_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(report, "FOLDER", tmp_path)
    claimed = Part("p", "P", "", {}, [Figure("f", ["a"], at_most=1)], {})
    run = measured(claimed, {"a": {"us": 1.0}})
    run.save()
    loaded = report.Run.load(claimed)
    assert loaded is not None
    assert loaded.results[0].verdict == run.results[0].verdict == "met"
    assert report.Run.load(claimed, quick=True) is None


def test_a_quick_run_and_a_chosen_case_reduce_a_part() -> None:
    whole = Part(
        "p",
        "P",
        "",
        {"a, x": Case("", quick=None), "b, x": Case(""), "b, y": Case("")},
        [Figure("f", ["b, x"], ["b, y"]), Figure("g", ["a, x"])],
        {},
    )
    assert list(whole.reduced(quick=True).cases) == ["b, x", "b, y"]
    assert [figure.title for figure in whole.reduced(quick=True).figures] == ["f", "g"]
    assert [figure.title for figure in whole.reduced(quick=False, wanted="b").figures] == ["f"]
