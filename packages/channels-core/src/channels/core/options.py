"""Checking options where they are given, so that a wrong one is named then and there.

For the plugin, the gateway and the backends, also those of others: every function takes options as
keyword arguments under their own names, and says of a wrong one what it is and what it takes.
"""

from __future__ import annotations

import math
import numbers
from typing import Any, TypeGuard

from channels.core._errors import ConfigurationError

__all__ = (
    "check_callable",
    "check_count",
    "check_flag",
    "check_number",
    "check_seconds",
    "check_type",
)


def check_seconds(
    *, or_none: bool = False, at_most: float | None = None, **options: object
) -> None:
    """Refuse options that are no numbers above 0.

    Args:
        or_none: Whether None is taken too. Default False.
        at_most: The largest that is taken. Default None: any.
        **options: What was given.

    Raises:
        ConfigurationError: Naming the one that is wrong.
    """
    takes = "seconds above 0" if at_most is None else f"seconds above 0, at most {at_most:g}"
    check_number(takes, or_none=or_none, at_most=at_most, **options)


def check_number(
    takes: str, /, *, or_none: bool = False, at_most: float | None = None, **options: object
) -> None:
    """As :func:`check_seconds`, for other units.

    Args:
        takes: What the message says is taken.
        or_none: Whether None is taken too. Default False.
        at_most: The largest that is taken. Default None: any.
        **options: What was given.

    Raises:
        ConfigurationError: Naming the one that is wrong.
    """
    limit = math.inf if at_most is None else at_most
    for name, value in options.items():
        is_right = _is_number(value, numbers.Real) and 0 < value <= limit
        if not is_right and not (or_none and value is None):
            raise _wrong(name, value, f"{takes}, or None" if or_none else takes)


def check_count(
    least: int, /, *, takes: str = "", or_none: bool = False, **options: object
) -> None:
    """Refuse options that are no whole numbers of at least ``least``.

    Args:
        least: The smallest that is taken.
        takes: What the message says is taken. Default: such a number.
        or_none: Whether None is taken too. Default False.
        **options: What was given.

    Raises:
        ConfigurationError: Naming the one that is wrong.
    """
    for name, value in options.items():
        is_right = _is_number(value, numbers.Integral) and value >= least
        if not is_right and not (or_none and value is None):
            number = f"a whole number of at least {least}{', or None' if or_none else ''}"
            raise _wrong(name, value, takes or number)


def check_flag(**options: object) -> None:
    """Refuse options that are neither True nor False: a text from the environment is always true.

    Raises:
        ConfigurationError: Naming the one that is wrong.
    """
    check_type(bool, "True or False", **options)


def check_callable(**options: object) -> None:
    """Refuse options that are neither callable nor None.

    Raises:
        ConfigurationError: Naming the one that is wrong.
    """
    for name, value in options.items():
        if value is not None and not callable(value):
            raise _wrong(name, value, "a function, or None")


def check_type(kind: type | tuple[type, ...], takes: str, /, **options: object) -> None:
    """Refuse options that are no instances of ``kind``.

    Args:
        kind: A type, or several.
        takes: What the message says is taken.
        **options: What was given.

    Raises:
        ConfigurationError: Naming the one that is wrong.
    """
    for name, value in options.items():
        if not isinstance(value, kind):
            raise _wrong(name, value, takes)


def _is_number(value: object, kind: type) -> TypeGuard[Any]:
    return isinstance(value, kind) and not isinstance(value, bool)


def _wrong(name: str, value: object, takes: str) -> ConfigurationError:
    return ConfigurationError(f"{name}={value!r:.100}: pass {takes}")
