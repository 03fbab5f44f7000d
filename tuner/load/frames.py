"""Messages between the controller and the generator process: a JSON head and raw bytes."""

from __future__ import annotations

import json
import struct
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

HEAD = struct.Struct(">II")
MAX_HEAD = 64 * 1024 * 1024


class BrokenFrameError(Exception):
    """The other side closed the pipe, or wrote something else into it."""


@dataclass(frozen=True, slots=True)
class Frame:
    """One message."""

    kind: str
    head: dict[str, Any]
    blob: bytes = b""


def pack(kind: str, head: dict[str, Any], blob: bytes = b"") -> bytes:
    """A frame as bytes."""
    text = json.dumps([kind, head], separators=(",", ":")).encode()
    return HEAD.pack(len(text), len(blob)) + text + blob


def read(exactly: Callable[[int], bytes]) -> Frame:
    """The next frame; ``exactly(n)`` gives n bytes, fewer only at the end.

    Raises
    ------
    BrokenFrameError
        At the end of the pipe, or if the bytes are no frame.
    """
    prefix = exactly(HEAD.size)
    if len(prefix) < HEAD.size:
        raise BrokenFrameError("the pipe was closed")
    head_length, blob_length = HEAD.unpack(prefix)
    if head_length > MAX_HEAD:
        raise BrokenFrameError("not a frame")
    text = exactly(head_length)
    blob = exactly(blob_length) if blob_length else b""
    if len(text) < head_length or len(blob) < blob_length:
        raise BrokenFrameError("the pipe was closed in the middle of a message")
    try:
        kind, head = json.loads(text)
    except ValueError:
        raise BrokenFrameError("not a frame") from None
    return Frame(kind, head, blob)
