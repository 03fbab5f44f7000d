"""CBOR (RFC 8949) as far as Smithy's rpc-v2-cbor protocol needs it: newer SDKs speak it."""

from __future__ import annotations

import struct
from typing import Any

from tuner.emulator.errors import AwsError

DEEPEST = 40
_BREAK = object()
_EPOCH_TAG = 1


def _head(major: int, value: int) -> bytes:
    if value < 24:
        return bytes([major << 5 | value])
    for code, form, limit in ((24, "!B", 2**8), (25, "!H", 2**16), (26, "!I", 2**32)):
        if value < limit:
            return bytes([major << 5 | code]) + struct.pack(form, value)
    return bytes([major << 5 | 27]) + struct.pack("!Q", value)


def encode(value: Any, times: frozenset[str], key: str = "") -> bytes:
    """Write a value; numbers under a key in ``times`` become epoch timestamps."""
    if isinstance(value, bool):
        return b"\xf5" if value else b"\xf4"
    if value is None:
        return b"\xf6"
    if isinstance(value, str):
        text = value.encode("utf-8", "replace")
        return _head(3, len(text)) + text
    if isinstance(value, list):
        return _head(4, len(value)) + b"".join(encode(v, times, key) for v in value)
    if isinstance(value, dict):
        parts = (encode(k, times) + encode(v, times, k) for k, v in value.items())
        return _head(5, len(value)) + b"".join(parts)
    if key in times:
        return _head(6, _EPOCH_TAG) + b"\xfb" + struct.pack("!d", float(value))
    if isinstance(value, int) and -(2**63) <= value < 2**63:
        return _head(0, value) if value >= 0 else _head(1, -1 - value)
    return b"\xfb" + struct.pack("!d", value)


class _Reader:
    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    def take(self, size: int) -> bytes:
        piece = self._data[self._at : self._at + size]
        if len(piece) != size:
            raise ValueError("the value ends too early")
        self._at += size
        return piece

    def count(self, info: int) -> int | None:
        """The argument of an initial byte; None for an indefinite length."""
        if info < 24:
            return info
        if info == 31:
            return None
        if info > 27:
            raise ValueError("reserved length")
        return int.from_bytes(self.take(1 << (info - 24)), "big")

    def value(self, depth: int = 0) -> Any:
        if depth > DEEPEST:
            raise ValueError("nested too deeply")
        initial = self.take(1)[0]
        major, info = initial >> 5, initial & 31
        if major == 7:
            return self._simple(info)
        count = self.count(info)
        if major in (2, 3):
            return self._string(major, count, depth)
        if major == 4:
            return self._items(count, depth)
        if major == 5:
            return self._map(count, depth)
        if count is None:
            raise ValueError("indefinite number")
        if major == 6:
            return self.value(depth + 1)  # an epoch timestamp is its number
        return count if major == 0 else -1 - count

    def _simple(self, info: int) -> Any:
        if info == 31:
            return _BREAK
        if info in (20, 21):
            return info == 21
        if info in (22, 23):
            return None
        forms = {25: "!e", 26: "!f", 27: "!d"}
        if info not in forms:
            raise ValueError("unknown simple value")
        form = forms[info]
        return struct.unpack(form, self.take(struct.calcsize(form)))[0]

    def _string(self, major: int, count: int | None, depth: int) -> str | bytes:
        if count is not None:
            piece = self.take(count)
            return piece.decode() if major == 3 else piece
        parts = self._items(None, depth)
        if not all(isinstance(p, str if major == 3 else bytes) for p in parts):
            raise ValueError("a string made of other things")
        return ("" if major == 3 else b"").join(parts)

    def _items(self, count: int | None, depth: int) -> list[Any]:
        items: list[Any] = []
        while count is None or len(items) < count:
            item = self.value(depth + 1)
            if item is _BREAK:
                if count is not None:
                    raise ValueError("unexpected break")
                break
            items.append(item)
        return items

    def _map(self, count: int | None, depth: int) -> dict[str, Any]:
        found: dict[str, Any] = {}
        read = 0
        while count is None or read < count:
            key = self.value(depth + 1)
            if key is _BREAK and count is None:
                break
            value = self.value(depth + 1)
            if not isinstance(key, str) or value is _BREAK:
                raise ValueError("a map needs text keys and values")
            found[key] = value
            read += 1
        return found

    @property
    def finished(self) -> bool:
        return self._at == len(self._data)


def decode(data: bytes) -> Any:
    """Read one value.

    Raises
    ------
    AwsError
        SerializationException, if the bytes are not one CBOR value.
    """
    reader = _Reader(data)
    try:
        value = reader.value()
    except (ValueError, OverflowError) as error:
        raise AwsError("SerializationException", f"The body is not valid CBOR: {error}") from None
    if value is _BREAK or not reader.finished:
        raise AwsError("SerializationException", "The body is not one CBOR value.")
    return value
