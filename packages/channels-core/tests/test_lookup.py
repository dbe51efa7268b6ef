import importlib
import sys
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from channels.core import (
    ConfigurationError,
    MemoryChannelsBackend,
    available_backends,
    load_backend,
)
from channels.core._backend import ChannelsBackend

Install = Callable[..., None]

BACKEND = """
    from channels.core import ChannelsBackend

    class Backend(ChannelsBackend):
        def __init__(self, url: str, *, limit: int = 5, ratio: float | None = None) -> None:
            self.url = url
            self.limit = limit
            self.ratio = ratio

        async def publish(self, messages):
            raise NotImplementedError

        def listen(self):
            raise NotImplementedError
    """


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Install]:
    """Install distributions as an installer does: metadata and modules on the path."""
    monkeypatch.syspath_prepend(tmp_path)
    known = set(sys.modules)

    def install(name: str, version: str = "1.0", source: str = BACKEND, **schemes: str) -> None:
        module = name.replace("-", "_")
        (tmp_path / f"{module}.py").write_text(textwrap.dedent(source))
        info = tmp_path / f"{module}-{version}.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
        points = [f"{scheme} = {module}{target}" for scheme, target in schemes.items()]
        (info / "entry_points.txt").write_text("\n".join(["[channels.backends]", *points]))
        importlib.invalidate_caches()

    yield install
    for module in set(sys.modules) - known:
        del sys.modules[module]


def test_memory_is_installed_with_core() -> None:
    assert available_backends()["memory"] == "channels-core"
    backend = load_backend("memory://?history=7&max_age=1.5&max_channels=3&max_payload=9")
    assert isinstance(backend, MemoryChannelsBackend)
    assert (backend._history, backend._max_age, backend._max_channels) == (7, 1.5, 3)
    assert backend.max_payload == 9
    assert isinstance(load_backend("memory://"), MemoryChannelsBackend)


def test_a_third_party_is_found_by_its_scheme(install: Install) -> None:
    install("third-party", pigeon=":Backend", owl=":Backend")
    assert available_backends()["pigeon"] == "third-party"
    assert list(available_backends()) == sorted(available_backends())
    backend = load_backend("pigeon://loft/7?limit=3")
    assert type(backend).__name__ == "Backend"


def test_listing_imports_nothing(install: Install) -> None:
    install("third-party", source="raise AssertionError('imported')", pigeon=":Backend")
    assert "pigeon" in available_backends()
    assert "third_party" not in sys.modules


@pytest.mark.parametrize(
    ("url", "kept", "limit"),
    [
        ("pigeon://loft/7", "pigeon://loft/7", 5),
        ("pigeon:///var/run/loft?limit=3", "pigeon:///var/run/loft", 3),
        (
            "pigeon://u:p%40ss@loft?ssl=1&limit=3&x=a+b%20c",
            "pigeon://u:p%40ss@loft?ssl=1&x=a+b%20c",
            3,
        ),
        ("pigeon://[::1]:99/?x", "pigeon://[::1]:99/?x", 5),
        ("pigeon://a,b:2,c/db?&x=?", "pigeon://a,b:2,c/db?&x=?", 5),
    ],
)
def test_what_is_no_option_stays_in_the_url(
    install: Install, url: str, kept: str, limit: int
) -> None:
    install("third-party", pigeon=":Backend")
    backend = load_backend(url)
    assert vars(backend) | {"url": kept, "limit": limit} == vars(backend)


def test_an_option_of_the_wrong_type_is_named_without_the_password(install: Install) -> None:
    install("third-party", pigeon=":Backend")
    with pytest.raises(ConfigurationError, match=r"option limit='many' of pigeon://.*int") as wrong:
        load_backend("pigeon://user:secret@loft?limit=many")
    assert "secret" not in str(wrong.value)


@pytest.mark.parametrize(
    ("url", "why"),
    [
        ("memory://?history=-1", "history=-1"),
        ("memory://?max_age=0", "max_age=0"),
        ("memory://?max_channels=0", "max_channels=0"),
        ("memory://?histroy=5", r"takes no '\?histroy=5'; its options are history, max_age"),
        ("memory://localhost", "takes no 'localhost'"),
        ("memory://?history=a", "option history='a' of memory://"),
    ],
)
def test_a_wrong_memory_url_says_what_is_wrong(url: str, why: str) -> None:
    with pytest.raises(ConfigurationError, match=why):
        load_backend(url)


@pytest.mark.parametrize("text", ["", "memory", "memory:", "host=localhost password=secret"])
def test_what_is_no_url_is_refused_without_being_shown(text: str) -> None:
    with pytest.raises(
        ConfigurationError, match=r"no '://' in it; an example is memory://"
    ) as wrong:
        load_backend(text)
    assert "secret" not in str(wrong.value)


@pytest.mark.parametrize(
    ("scheme", "advice"),
    [
        ("memroy", r"did you mean memory://\? \(installed: .*memory.*\)"),
        ("pigeons", r"did you mean pigeon://\? \(installed: .*pigeon.*\)"),
        ("Memory", r"did you mean memory://\?"),
        ("MEMORY", r"did you mean memory://\?"),
        ("nothing-like-it", r"no installed backend for nothing-like-it:// \(installed"),
    ],
)
def test_an_unknown_scheme_tells_what_is_installed(
    install: Install, scheme: str, advice: str
) -> None:
    install("third-party", pigeon=":Backend")
    with pytest.raises(ConfigurationError, match=advice):
        load_backend(f"{scheme}://user:secret@host")


@pytest.fixture
def alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Hide what happens to be installed beside core."""
    monkeypatch.syspath_prepend(tmp_path)  # which restores the path afterwards
    sys.path[:] = [path for path in sys.path if "site-packages" not in path]


@pytest.mark.usefixtures("alone")
def test_a_scheme_of_ours_names_the_distribution_that_brings_it(install: Install) -> None:
    install("unrelated")
    with pytest.raises(ConfigurationError, match=r"redis://; install our channels-redis, by path"):
        load_backend("redis://localhost")
    for near in ("reddis", "REDIS"):
        with pytest.raises(
            ConfigurationError, match=r"mean redis://\? It comes with our channels-redis, by path"
        ):
            load_backend(f"{near}://localhost")


@pytest.mark.usefixtures("alone")
def test_a_foreign_package_of_the_same_name_is_recognised(install: Install) -> None:
    install("channels-redis", version="4.3.0")
    with pytest.raises(
        ConfigurationError, match=r"channels-redis 4\.3\.0 that is installed is another project's"
    ):
        load_backend("redis://localhost")


def test_an_option_that_is_given_twice_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="option history of memory:// is given twice"):
        load_backend("memory://?history=1&max_channels=2&history=3")


def test_two_distributions_with_one_scheme_are_refused(install: Install) -> None:
    install("third-party", pigeon=":Backend")
    install("another-party", pigeon=":Backend")
    assert available_backends()["pigeon"] == "another-party, third-party"
    with pytest.raises(
        ConfigurationError, match=r"provides pigeon://: another-party, third-party; uninstall"
    ):
        load_backend("pigeon://loft")


def test_one_distribution_that_is_listed_twice_is_one(
    install: Install, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    install("third-party", pigeon=":Backend")
    twin = tmp_path.parent / f"{tmp_path.name}-link"
    twin.symlink_to(tmp_path)
    monkeypatch.syspath_prepend(twin)
    assert type(load_backend("pigeon://loft")).__name__ == "Backend"


@pytest.mark.parametrize(
    ("source", "target", "why"),
    [
        ("import not_installed_driver", ":Backend", "cannot be imported: No module named 'not_in"),
        ("x = 1", ":Backend", "cannot be imported: .*no attribute 'Backend'"),
        ("x = 1", ":x", "names 'third_party:x', which is no ChannelsBackend"),
        ("class Backend: pass", ":Backend", "names .*, which is no ChannelsBackend"),
    ],
)
def test_a_broken_package_is_named(install: Install, source: str, target: str, why: str) -> None:
    install("third-party", source=source, pigeon=target)
    with pytest.raises(ConfigurationError, match=f"^pigeon:// of third-party {why}"):
        load_backend("pigeon://loft")


class Recorder(MemoryChannelsBackend):
    seen: tuple[str, dict[str, object]]

    @classmethod
    def _from_url(cls, url: str, options: object) -> "Recorder":
        backend = cls()
        backend.seen = (url, dict(options))  # type: ignore[call-overload]
        return backend


@given(st.text(), st.text(), st.integers(0, 99))
def test_any_address_reaches_the_backend_unchanged(before: str, after: str, limit: int) -> None:
    address = "any://" + before.replace("?", "")
    rest = after.replace("&", "").replace("=", "").replace("+", "")
    backend = Recorder.from_url(f"{address}?history={limit}&x={rest}")
    assert backend.seen == (f"{address}?x={rest}", {"history": limit})
    assert issubclass(Recorder, ChannelsBackend)
