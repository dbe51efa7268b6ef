from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from channels.core import InvalidChannelNameError
from channels.core._names import MAX_NAME_BYTES, check_name, expand


@pytest.mark.parametrize(
    "name", ["a", "A b", "news.*", "it's", "a$", "é" * 100, "n" * 200, "\n", "👩‍👩‍👧", "%", "{}"]
)
def test_any_text_of_200_bytes_is_a_name(name: str) -> None:
    assert check_name(name) is name


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("", "is empty"),
        ("$news", "begins with '\\$', which is reserved"),
        ("ne\0ws", "contains a NUL"),
        ("n" * 201, "has 201 bytes; at most 200"),
        ("é" * 101, "has 202 bytes"),
        ("\ud800", "is not valid Unicode"),
        (b"news", "is bytes, not str"),
        (7, "is int, not str"),
        (None, "is NoneType, not str"),
    ],
)
def test_what_is_no_name_says_why(name: Any, why: str) -> None:
    with pytest.raises(InvalidChannelNameError, match=why) as refused:
        check_name(name)
    assert refused.value.channel == name
    assert isinstance(refused.value, ValueError)


def test_a_long_name_is_shown_shortened() -> None:
    with pytest.raises(InvalidChannelNameError) as refused:
        check_name("n" * 10_000)
    assert len(str(refused.value)) < 160


@given(st.text())
def test_a_name_is_taken_exactly_if_brokers_can_carry_it(name: str) -> None:
    fits = 0 < len(name.encode("utf-8", "surrogatepass")) <= MAX_NAME_BYTES
    clean = name[:1] != "$" and "\0" not in name
    try:
        name.encode()
    except UnicodeEncodeError:
        clean = False
    if fits and clean:
        assert check_name(name) == name
    else:
        with pytest.raises(InvalidChannelNameError):
            check_name(name)


def test_one_text_is_one_channel() -> None:
    assert expand("news") == ["news"]


def test_any_iterable_is_taken_once_and_without_repeats() -> None:
    assert expand(["b", "a", "b"]) == ["b", "a"]
    assert expand(name for name in "abca") == ["a", "b", "c"]
    assert expand({"a": 1}) == ["a"]
    assert expand(()) == []


@pytest.mark.parametrize("channels", [5, None, object()])
def test_what_is_no_iterable_is_refused_by_name(channels: Any) -> None:
    with pytest.raises(InvalidChannelNameError, match="is neither text nor an iterable of texts"):
        expand(channels)


def test_bytes_are_no_name() -> None:
    with pytest.raises(InvalidChannelNameError, match="b'news' is bytes, not str"):
        expand(b"news")  # type: ignore[arg-type]


def test_names_that_cannot_be_compared_are_refused_by_name() -> None:
    for channels in (["b", ["a"]], [["a"]]):
        with pytest.raises(InvalidChannelNameError, match=r"\['a'\] is list, not str"):
            expand(channels)  # type: ignore[arg-type]
