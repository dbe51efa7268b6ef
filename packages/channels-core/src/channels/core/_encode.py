"""Turning published data into bytes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from channels.core._errors import ConfigurationError, EncodeError
from channels.core._event import Event
from channels.core.options import check_type

TypeEncoders = Mapping[Any, Callable[[Any], Any]]
"""A type, and a function that turns its instances into something JSON knows."""


class Encoder:
    """Encode data once per publish: bytes as they are, text as UTF-8, all else as JSON.

    Args:
        type_encoders: Looked up by the type's method resolution order, for types that
            msgspec does not know.
        default: Called with what has no entry there, as a framework's own serializer is; raises
            ``TypeError`` for what it does not know either. Default None: that is an error.

    Raises:
        ConfigurationError: ``type_encoders`` is something else.
    """

    def __init__(
        self,
        type_encoders: TypeEncoders | None = None,
        default: Callable[[Any], Any] | None = None,
    ) -> None:
        check_type(Mapping, "a mapping of types to functions", type_encoders=type_encoders or {})
        self._type_encoders = dict(type_encoders or {})
        for kind, encode in self._type_encoders.items():
            if not callable(encode):
                raise ConfigurationError(f"type_encoders[{kind!r}]={encode!r}: pass a function")
        self._default = default
        self._json = msgspec.json.Encoder(enc_hook=self._convert)

    def __call__(self, data: object) -> bytes:
        """Return the payload for ``data``.

        Raises:
            EncodeError: ``data`` holds something that cannot be encoded.
        """
        if isinstance(data, (bytes, bytearray, memoryview)):
            return bytes(data)
        try:
            if isinstance(data, str):
                return data.encode()
            if type(data) in self._type_encoders:
                data = self._convert(data)
            return self._json.encode(data)
        except Exception as exc:  # whatever somebody's type encoder raises
            raise EncodeError(
                f"cannot encode {type(data).__name__}: {exc}; "
                f"publish bytes, str or JSON data, or pass type_encoders"
            ) from exc

    def _convert(self, value: object) -> object:
        for kind in type(value).__mro__:
            if (encode := self._type_encoders.get(kind)) is not None:
                return encode(value)
        if isinstance(value, Event):
            return bytes(value)
        if self._default is not None:
            return self._default(value)
        raise NotImplementedError(f"no encoder for {type(value).__name__}")
