"""Reading payloads from disk: single files, globs, JSON lines, data-capture files."""

from __future__ import annotations

import glob
import mimetypes
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from tuner.errors import PayloadError
from tuner.workload.payloads import (
    DEFAULT_CLASS,
    Payload,
    PayloadSet,
    parse_data_capture,
    parse_json_lines,
)

KINDS = ("auto", "file", "jsonl", "data-capture")
MAX_BODY_BYTES = 25 * 1024 * 1024
"""The largest real-time request SageMaker takes."""


@dataclass(frozen=True, slots=True)
class PayloadSource:
    """One entry of a plan's payload list.

    Parameters
    ----------
    pattern
        A path or a glob, relative to the plan's directory.
    kind
        ``"file"`` sends each matching file whole; ``"jsonl"`` sends each line;
        ``"data-capture"`` replays captured requests; ``"auto"`` takes ``.jsonl`` as lines,
        or as capture records if they look like it, and all else as whole files.
    weight
        Share of this entry against the others; its bodies share it equally.
    content_type
        None guesses from the file's name.
    """

    pattern: str
    kind: str = "auto"
    weight: float = 1.0
    content_type: str | None = None
    payload_class: str = DEFAULT_CLASS


def read_payloads(sources: Iterable[PayloadSource], directory: Path) -> PayloadSet:
    """Every payload of every source, in the order of sources and of sorted paths.

    Raises
    ------
    PayloadError
        If a pattern matches nothing, a file cannot be read or is too large, or its content
        is malformed.
    """
    return PayloadSet.union([_read_source(s, directory).scaled(s.weight) for s in sources])


def _read_source(source: PayloadSource, directory: Path) -> PayloadSet:
    if source.kind not in KINDS:
        raise PayloadError("unknown kind of payload", value=source.kind, allowed=", ".join(KINDS))
    pattern = str(directory / Path(source.pattern).expanduser())
    paths = [Path(p) for p in sorted(glob.glob(pattern, recursive=True)) if Path(p).is_file()]  # noqa: PTH207
    if not paths:
        raise PayloadError(
            "no payload file matches",
            value=source.pattern,
            hint=f"paths are taken from {directory}",
        )
    return PayloadSet.union([_read_file(path, source) for path in paths])


def _read_file(path: Path, source: PayloadSource) -> PayloadSet:
    try:
        data = path.read_bytes()
    except OSError as error:
        raise PayloadError(
            f"a payload file cannot be read: {error.strerror}", value=str(path)
        ) from None
    kind = source.kind
    if kind == "auto":
        kind = _guess_kind(path, data)
    if kind == "file":
        if len(data) > MAX_BODY_BYTES:
            raise PayloadError(
                "a payload file is too large",
                value=f"{path}: {len(data)} bytes",
                allowed=f"at most {MAX_BODY_BYTES} bytes",
            )
        content_type = source.content_type or _guess_type(path)
        return PayloadSet((Payload(data, content_type, source.payload_class),))
    try:
        text = data.decode()
    except UnicodeDecodeError as error:
        raise PayloadError(f"a payload file is not UTF-8 text: {error}", value=str(path)) from None
    if kind == "data-capture":
        return parse_data_capture(text, source=str(path), payload_class=source.payload_class)
    return parse_json_lines(
        text,
        source=str(path),
        content_type=source.content_type or "application/json",
        payload_class=source.payload_class,
    )


def _guess_kind(path: Path, data: bytes) -> str:
    if path.suffix not in (".jsonl", ".ndjson"):
        return "file"
    first = data.split(b"\n", 1)[0]
    return "data-capture" if b'"captureData"' in first else "jsonl"


def _guess_type(path: Path) -> str:
    guess, _ = mimetypes.guess_type(path.name)
    return guess or "application/octet-stream"
