import copy
import pickle

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from channels.core import BEGINNING, Encoder, Event, Gap, InvalidPositionError, Position
from channels.core._event import before, follows, is_newer

EPOCHS = st.text("abcXYZ019_.~", min_size=1, max_size=64)
POSITIONS = st.builds(Position, EPOCHS, st.integers(0, 10**18 - 1))


@given(st.binary(), st.text(), POSITIONS | st.none())
def test_events_survive_pickle_and_copy(
    data: bytes, channel: str, position: Position | None
) -> None:
    event = Event(data, channel, position)
    pickled = [pickle.loads(pickle.dumps(event, version)) for version in range(6)]
    for twin in (*pickled, copy.copy(event), copy.deepcopy(event), copy.deepcopy([event])[0]):
        assert type(twin) is Event
        assert (twin, twin.channel, twin.position, twin.id) == (data, channel, position, event.id)


def test_a_gap_survives_pickle_as_what_it_is() -> None:
    gap = pickle.loads(pickle.dumps(Gap(channel="news", dropped=True)))
    assert (type(gap), gap, gap.channel, gap.dropped, gap.id) == (Gap, b"", "news", True, None)


def test_an_event_is_its_payload() -> None:
    event = Event(b"data", "news", Position("e", 1))
    assert isinstance(event, bytes)
    assert event == b"data" == Event(b"data", "sport")
    assert hash(event) == hash(b"data")
    assert {event: 1}[b"data"] == 1
    assert Event() == b""
    assert not Event()


def test_plain_text_is_decoded_once() -> None:
    event = Event("naïve".encode())
    assert event.decode() is event.decode("utf-8") is event.text
    assert event.text == "naïve"


def test_decode_takes_other_encodings_and_error_handlers() -> None:
    event = Event(b"na\xefve")
    assert event.decode("latin-1") == "naïve"
    assert event.decode(errors="ignore") == "nave"
    with pytest.raises(UnicodeDecodeError):
        event.decode()


def test_repr_tells_where_it_came_from() -> None:
    assert repr(Event(b"x", "news")) == "Event(b'x', channel='news')"
    event = Event(b"x", "news", Position("e", 7))
    assert repr(event) == "Event(b'x', channel='news', id='e-7')"


def test_the_encoder_takes_an_event_as_it_is_and_inside_other_data() -> None:
    encode = Encoder()
    assert encode(Event(b"\x00raw")) == b"\x00raw"
    plain = encode({"events": [b"raw"], "nested": {"one": b"raw"}})
    assert encode({"events": [Event(b"raw")], "nested": {"one": Event(b"raw")}}) == plain
    assert msgspec.json.decode(plain, type=dict[str, object])["events"] == ["cmF3"]


@given(POSITIONS)
def test_ids_are_read_as_they_were_written(position: Position) -> None:
    assert Position.parse(str(position)) == position
    assert Event(b"", "", position).id == str(position)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "-",
        "e",
        "e-",
        "-1",
        "e--1",
        "e-1-1",
        "e-01",
        "e-+1",
        "e- 1",
        "e-1\n",
        " e-1",
        "e-\u0661",
        "é-1",
        "e-" + "9" * 20,
        "e" * 65 + "-1",
        None,
        7,
        b"e-1",
    ],
)
def test_what_is_no_id_is_refused_by_name(text: object) -> None:
    with pytest.raises(InvalidPositionError) as refused:
        Position.parse(text)  # type: ignore[arg-type]
    assert repr(text)[:20] in str(refused.value)
    assert isinstance(refused.value, ValueError)


@given(st.text())
def test_parse_reads_an_id_or_refuses(text: str) -> None:
    try:
        position = Position.parse(text)
    except InvalidPositionError:
        return
    assert str(position) == text


def test_a_refused_id_is_shown_shortened() -> None:
    with pytest.raises(InvalidPositionError) as refused:
        Position.parse("x" * 10_000)
    assert len(str(refused.value)) < 250


def test_what_follows_a_position() -> None:
    position = Position("e", 4)
    assert follows(Position("e", 5), position)
    assert not follows(Position("e", 4), position)
    assert not follows(Position("e", 6), position)
    assert not follows(Position("f", 5), position)
    assert follows(Position("f", 1), BEGINNING)
    assert not follows(Position("f", 2), BEGINNING)


def test_before_and_newer() -> None:
    assert before(Position("e", 5)) == Position("e", 4)
    assert is_newer(Event(b"", "", Position("e", 5)), Position("e", 4))
    assert not is_newer(Event(b"", "", Position("e", 4)), Position("e", 4))
    assert is_newer(Event(b"", "", Position("f", 1)), Position("e", 4))
    assert is_newer(Event(b""), Position("e", 4))
