"""Frames and names, without a server."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from channels.core import Event, Position
from channels.core.postgres._frame import (
    INLINE,
    Reference,
    UnknownFrameError,
    notify_name,
    read,
    write,
)

NAMES = st.text(
    st.characters(exclude_characters="\0", exclude_categories=["Cs"]), min_size=1
).filter(lambda name: name[0] != "$" and len(name.encode()) <= 200)


@given(NAMES, st.binary(max_size=INLINE), st.booleans())
def test_a_frame_brings_back_what_was_written(name: str, data: bytes, utf8: bool) -> None:
    listened = notify_name(name, utf8)
    frame = write(name, listened, "tag.1", data)
    event = read(listened, frame)
    assert isinstance(event, Event)
    assert (event.channel, bytes(event), event.position) == (name, data, None)
    assert frame.isascii()


def test_the_largest_frame_fits_a_notification() -> None:
    name = "é" * 100
    frame = write(name, notify_name(name, True), "f" * 64, b"x" * INLINE)
    line_breaks = len(frame) // 76 + 1  # the server's own base64 has them
    assert len(frame) + line_breaks <= 7999


@given(NAMES, st.booleans())
def test_names_fit_and_say_when_they_are_hashed(name: str, utf8: bool) -> None:
    listened = notify_name(name, utf8)
    assert len(listened.encode()) <= 63
    assert (listened == name) != listened.startswith("$")
    assert utf8 or listened.isascii()


@given(NAMES, NAMES)
def test_different_names_stay_different(one: str, other: str) -> None:
    for utf8 in (True, False):
        assert (notify_name(one, utf8) == notify_name(other, utf8)) == (one == other)


def test_a_reference() -> None:
    assert read("a", write("a", "a", "tag.1", None)) == Reference("a", None, "tag.1")
    assert read("a", "\x011R - e-7") == Reference("a", Position("e", 7), "e-7")


@given(st.text())
def test_what_is_no_frame_is_verbatim(text: str) -> None:
    if not text.startswith("\x01"):
        assert read("a", text) == text.encode()


@given(st.text())
def test_a_strange_frame_is_refused_and_nothing_worse(text: str) -> None:
    try:
        read("a", "\x01" + text)
    except UnknownFrameError:
        pass


@pytest.mark.parametrize("frame", ["\x01", "\x012l - t eA==", "\x011q - t eA==", "\x011l - t"])
def test_unknown_frames(frame: str) -> None:
    with pytest.raises(UnknownFrameError):
        read("a", frame)
