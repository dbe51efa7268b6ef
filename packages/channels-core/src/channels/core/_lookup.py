"""Finding installed backends by URL scheme, through the entry points ``channels.backends``."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from importlib.metadata import (
    EntryPoint,
    PackageNotFoundError,
    distribution,
    entry_points,
)

from channels.core._backend import ChannelsBackend
from channels.core._errors import ConfigurationError

GROUP = "channels.backends"

_OURS: Mapping[str, str] = {
    "memory": "channels-core",
    "redis": "channels-redis",
    "rediss": "channels-redis",
    "redis+stream": "channels-redis",
    "rediss+stream": "channels-redis",
    "postgresql+asyncpg": "channels-asyncpg",
    "postgresql+psycopg": "channels-psycopg",
}


def available_backends() -> Mapping[str, str]:
    """Return the installed URL schemes, each with the distribution that brings it.

    Imports none of them.
    """
    return {
        scheme: ", ".join(sorted({_provider(point) for point in points}))
        for scheme, points in sorted(_installed().items())
    }


def load_backend(url: str) -> ChannelsBackend:
    """Build the backend that a URL names, as in ``redis+stream://localhost/0?history=100``.

    Connects to nothing yet.

    Args:
        url: A scheme of :func:`available_backends`, then what that backend documents. Query
            parameters that are options of the backend's class are passed to it.

    Raises:
        ConfigurationError: No installed distribution, or more than one, claims the scheme; the
            package cannot be imported; or an option is wrong.
    """
    scheme, separator, _ = url.partition("://")
    if not separator:
        # What was passed may hold a password, so it is not shown.
        raise ConfigurationError(
            "the backend is no URL: there is no '://' in it; an example is memory://?history=100"
        )
    installed = _installed()
    points = installed.get(scheme, [])
    if not points:
        raise ConfigurationError(_unknown(scheme, installed))
    if len(points) > 1:
        raise ConfigurationError(
            f"more than one distribution provides {scheme}://: "
            f"{', '.join(sorted(_provider(point) for point in points))}; uninstall all but one"
        )
    try:
        backend_class = points[0].load()
    except (ImportError, AttributeError) as exc:
        raise ConfigurationError(
            f"{scheme}:// of {_provider(points[0])} cannot be imported: {exc}"
        ) from exc
    if not (isinstance(backend_class, type) and issubclass(backend_class, ChannelsBackend)):
        raise ConfigurationError(
            f"{scheme}:// of {_provider(points[0])} names {points[0].value!r}, "
            f"which is no ChannelsBackend"
        )
    return backend_class.from_url(url)


def as_backend(backend: ChannelsBackend | str) -> ChannelsBackend:
    """Return the backend that is meant by an instance or a URL.

    Raises:
        ConfigurationError: It is neither, or the URL names none.
    """
    if isinstance(backend, str):
        return load_backend(backend)
    if isinstance(backend, ChannelsBackend):
        return backend
    if isinstance(backend, type) and issubclass(backend, ChannelsBackend):
        raise ConfigurationError(f"backend={backend.__name__} is a class: pass an instance of it")
    # What was passed may show a password, so only its type is.
    raise ConfigurationError(
        f"backend= is {type(backend).__name__}: pass a ChannelsBackend, or a URL "
        f"such as memory://?history=100"
    )


def _installed() -> dict[str, list[EntryPoint]]:
    schemes: dict[str, dict[tuple[str, str], EntryPoint]] = {}
    for point in entry_points(group=GROUP):
        schemes.setdefault(point.name, {})[_provider(point), point.value] = point
    return {scheme: list(points.values()) for scheme, points in schemes.items()}


def _provider(point: EntryPoint) -> str:
    return "an unknown distribution" if point.dist is None else point.dist.name


def _unknown(scheme: str, installed: Mapping[str, object]) -> str:
    message = f"no installed backend for {scheme}://"
    close = difflib.get_close_matches(scheme.lower(), [*_OURS, *installed], n=1)
    if wanted := _OURS.get(scheme):
        try:
            found = distribution(wanted)
        except PackageNotFoundError:
            message += f"; install our {wanted}, by path or from our wheels"
        else:
            message += (
                f": the {wanted} {found.version} that is installed is another project's package "
                f"of the same name; install ours, by path or from our wheels"
            )
    elif close:
        message += f"; did you mean {close[0]}://?"
        if close[0] not in installed:
            message += f" It comes with our {_OURS[close[0]]}, by path or from our wheels."
    return f"{message} (installed: {', '.join(sorted(installed)) or 'none'})"
