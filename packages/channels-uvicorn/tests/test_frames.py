"""Messages as bytes on the wire."""

import zlib

import pytest

from channels.core import Event
from channels.uvicorn import FrameConnection
from channels.uvicorn._frames import MIN_DEFLATE

encode, join = FrameConnection.encode, FrameConnection.join


@pytest.mark.parametrize(
    ("size", "header"),
    [
        (0, "8100"),
        (125, "817d"),
        (126, "817e007e"),
        (65535, "817effff"),
        (65536, "817f0000000000010000"),
    ],
)
def test_headers_are_the_shortest(size: int, header: str) -> None:
    assert encode("x" * size)[0] == bytes.fromhex(header) + b"x" * size


def test_text_and_bytes_differ_in_the_opcode() -> None:
    assert encode("é")[0] == b"\x81\x02\xc3\xa9"
    assert encode(b"\xff")[0] == b"\x82\x01\xff"
    assert type(encode(Event(b"ab"))[0]) is bytes


def test_text_that_is_none_is_refused() -> None:
    with pytest.raises(UnicodeEncodeError):
        encode("\ud800")


@pytest.mark.parametrize("size", [MIN_DEFLATE, 125, 126, 65535, 65536, 200_000])
@pytest.mark.parametrize("bits", [9, 12, 15])
def test_compressed_it_inflates_to_the_same(size: int, bits: int) -> None:
    payload = (b"the quick brown fox %d " * 10000)[:size]
    wire = encode(payload)[bits]
    assert wire[0] == 0xC2
    start = {126: 4, 127: 10}.get(wire[1], 2)
    inflated = zlib.decompressobj(-bits).decompress(wire[start:] + b"\0\0\xff\xff")
    assert inflated == payload


@pytest.mark.parametrize("payload", [b"", b"a" * (MIN_DEFLATE - 1), bytes(range(256))])
def test_what_does_not_gain_stays_as_it_is(payload: bytes) -> None:
    message = encode(payload)
    assert message[12] == message[0]


def test_each_form_is_built_once() -> None:
    message = encode("x" * 1000)
    assert message[12] is message[12]
    run = join([message, encode("b")])
    assert run[0] is run[0]


def test_a_run_is_its_messages_in_order() -> None:
    messages = [encode("a" * 100), encode(b"b" * 100), encode("c")]
    for bits in (0, 12):
        assert join(messages)[bits] == b"".join(message[bits] for message in messages)
    assert join([join(messages), messages[0]])[0] == join([*messages, messages[0]])[0]
    assert join(messages[:1]) is messages[0]
    with pytest.raises(ValueError, match="no messages"):
        join([])
