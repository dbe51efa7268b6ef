import datetime
import decimal
import enum
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from channels.core import ConfigurationError, EncodeError, Encoder

JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=10,
)


class Colour(enum.Enum):
    RED = "red"


@dataclass
class Point:
    x: int


class Struct(msgspec.Struct):
    y: int


class Base:
    pass


class Derived(Base):
    pass


@given(st.binary())
def test_bytes_are_taken_as_they_are(data: bytes) -> None:
    encode = Encoder()
    for given_data in (data, bytearray(data), memoryview(data)):
        encoded = encode(given_data)
        assert type(encoded) is bytes
        assert encoded == data


def test_what_the_caller_changes_later_does_not_change_the_event() -> None:
    buffer = bytearray(b"one")
    encoded = Encoder()(buffer)
    buffer[:] = b"two"
    assert encoded == b"one"


@given(st.text())
def test_text_is_utf8(text: str) -> None:
    assert Encoder()(text) == text.encode()


@pytest.mark.untraced
@given(st.dictionaries(st.text(), JSON) | st.lists(JSON) | st.integers(-(2**53), 2**53))
def test_all_else_is_json(data: object) -> None:
    assert msgspec.json.decode(Encoder()(data)) == data


@pytest.mark.parametrize(
    ("data", "encoded"),
    [
        (None, b"null"),
        (True, b"true"),
        ([], b"[]"),
        (1.5, b"1.5"),
        (Colour.RED, b'"red"'),
        (Point(1), b'{"x":1}'),
        (Struct(2), b'{"y":2}'),
        (datetime.date(2024, 2, 29), b'"2024-02-29"'),
        (decimal.Decimal("1.10"), b'"1.10"'),
        (uuid.UUID(int=1), b'"00000000-0000-0000-0000-000000000001"'),
        ({"ids": {1}}, b'{"ids":[1]}'),
    ],
)
def test_common_types_need_no_encoder(data: object, encoded: bytes) -> None:
    assert Encoder()(data) == encoded


def test_type_encoders_are_found_by_the_order_of_bases() -> None:
    encode = Encoder({Base: lambda value: "base", object: lambda value: "object"})
    assert encode(Derived()) == b'"base"'
    assert encode({"nested": [Derived()]}) == b'{"nested":["base"]}'
    assert encode(complex(1)) == b'"object"'


def test_a_type_encoder_may_replace_what_is_known_at_the_top() -> None:
    assert Encoder({Point: lambda point: [point.x]})(Point(3)) == b"[3]"


@pytest.mark.parametrize("type_encoders", [str, [Point], {Point: "x"}])
def test_type_encoders_that_are_none_are_refused_by_name(type_encoders: Any) -> None:
    with pytest.raises(ConfigurationError, match=r"type_encoders.*: pass a "):
        Encoder(type_encoders)


def test_the_default_is_asked_last() -> None:
    encode = Encoder({Base: lambda value: "base"}, default=lambda value: repr(type(value).__name__))
    assert encode([Derived(), complex(1)]) == b'["base","\'complex\'"]'


def _fail(value: object) -> object:
    raise KeyError("inside")


def _recursive() -> object:
    data: list[object] = []
    data.append(data)
    return data


@pytest.mark.parametrize(
    ("data", "encoders", "why"),
    [
        (Derived(), {}, "cannot encode Derived: .*type_encoders"),
        ({"deep": [Derived()]}, {}, "cannot encode dict: .*Derived"),
        ("\ud800", {}, "cannot encode str"),
        ({"\ud800": 1}, {}, "cannot encode dict"),
        (Derived(), {Base: _fail}, "cannot encode Derived: 'inside'"),
        ([Derived()], {Base: lambda value: value}, "cannot encode list"),
        (_recursive(), {}, "cannot encode list"),
        ({(1, 2): 3}, {}, "cannot encode dict"),
    ],
    ids=["unknown", "nested", "surrogate", "key", "fails", "itself", "recursive", "tuple key"],
)
def test_what_cannot_be_encoded_is_named(
    data: object, encoders: dict[Any, Callable[[Any], Any]], why: str
) -> None:
    with pytest.raises(EncodeError, match=why) as refused:
        Encoder(encoders)(data)
    assert refused.value.__cause__ is not None
    assert isinstance(refused.value, TypeError)
