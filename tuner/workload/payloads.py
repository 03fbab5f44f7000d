"""What is sent: request bodies with their content type, class and weight."""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tuner.errors import PayloadError

DEFAULT_CLASS = "default"
LONGEST_MODEL = 1024
"""AWS's limit on ``TargetModel``."""


@dataclass(frozen=True, slots=True)
class Payload:
    """One request body.

    Parameters
    ----------
    payload_class
        Requests of one class are expected to cost the endpoint about the same; capacity is
        re-weighted by class.
    weight
        Relative share of requests that carry this body.
    target_model
        Model of a multi-model endpoint that the request names; None leaves it to the target.
    """

    body: bytes
    content_type: str = "application/json"
    payload_class: str = DEFAULT_CLASS
    weight: float = 1.0
    target_model: str | None = None


@dataclass(frozen=True, slots=True)
class PayloadSet:
    """The bodies of a run, never empty.

    Raises
    ------
    PayloadError
        If there is no payload, a weight is not a positive finite number, or a content type
        is not printable ASCII.
    """

    payloads: tuple[Payload, ...]

    def __post_init__(self) -> None:
        if not self.payloads:
            raise PayloadError(
                "there is no payload", hint="give at least one body under [load] payloads"
            )
        for p in self.payloads:
            if not (np.isfinite(p.weight) and p.weight > 0):
                raise PayloadError(
                    "a payload weight cannot be used", value=p.weight, allowed="a number above 0"
                )
            if not (p.content_type.isascii() and p.content_type.isprintable() and p.content_type):
                raise PayloadError(
                    "a content type cannot be used",
                    value=p.content_type,
                    allowed="printable ASCII, such as application/json",
                )
            named = p.target_model
            if named is not None and not (
                0 < len(named) <= LONGEST_MODEL and named.isascii() and named.isprintable()
            ):
                raise PayloadError(
                    "a target model cannot be used",
                    value=named[:80],
                    allowed=f"1 to {LONGEST_MODEL} printable ASCII characters",
                )

    @property
    def class_names(self) -> tuple[str, ...]:
        """Distinct classes in order of first appearance; `RequestLog.payload_class` indexes it."""
        return tuple(dict.fromkeys(p.payload_class for p in self.payloads))

    @property
    def class_index(self) -> NDArray[np.uint16]:
        """Class of each payload, shape (n,)."""
        number = {name: i for i, name in enumerate(self.class_names)}
        return np.array([number[p.payload_class] for p in self.payloads], dtype=np.uint16)

    @property
    def shares(self) -> NDArray[np.float64]:
        """Share of requests of each payload, shape (n,), summing to 1."""
        weights = np.array([p.weight for p in self.payloads], dtype=np.float64)
        return np.asarray(weights / weights.sum(), dtype=np.float64)

    @property
    def largest_bytes(self) -> int:
        """Length of the largest body."""
        return max(len(p.body) for p in self.payloads)

    @property
    def mean_bytes(self) -> float:
        """Mean length of a body, by the weights."""
        return float(self.shares @ np.array([len(p.body) for p in self.payloads], np.float64))

    def draw(self, rng: np.random.Generator, n: int) -> NDArray[np.int64]:
        """Indices of the payloads of the next ``n`` requests, shape (n,)."""
        if len(self.payloads) == 1:
            return np.zeros(n, dtype=np.int64)
        return rng.choice(len(self.payloads), size=n, p=self.shares).astype(np.int64)

    def scaled(self, weight: float) -> PayloadSet:
        """The same bodies whose weights together are ``weight``."""
        return PayloadSet(
            tuple(
                replace(p, weight=weight * float(share))
                for p, share in zip(self.payloads, self.shares, strict=True)
            )
        )

    @classmethod
    def union(cls, parts: Iterable[PayloadSet]) -> PayloadSet:
        """All payloads of the parts, in order, weights as they are."""
        return cls(tuple(p for part in parts for p in part.payloads))

    @classmethod
    def inline(
        cls,
        body: str | bytes,
        *,
        content_type: str = "application/json",
        payload_class: str = DEFAULT_CLASS,
    ) -> PayloadSet:
        """One body given in the plan itself."""
        data = body.encode() if isinstance(body, str) else body
        return cls((Payload(data, content_type, payload_class),))


def parse_json_lines(
    text: str,
    *,
    source: str = "payloads",
    content_type: str = "application/json",
    payload_class: str = DEFAULT_CLASS,
) -> PayloadSet:
    """One payload per line, each line any JSON value, sent as it stands.

    Raises
    ------
    PayloadError
        If a line is not JSON, or there is no line.
    """
    found = []
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip():
            continue
        try:
            json.loads(line)
        except ValueError as error:
            raise PayloadError(
                f"{source}, line {number} is not JSON: {error}", value=line[:80]
            ) from None
        found.append(Payload(line.strip().encode(), content_type, payload_class))
    if not found:
        raise PayloadError(f"{source} holds no payload", allowed="one JSON value per line")
    return PayloadSet(tuple(found))


def parse_data_capture(
    text: str, *, source: str = "data capture", payload_class: str = DEFAULT_CLASS
) -> PayloadSet:
    """The captured requests of a SageMaker data-capture file, one JSON record per line.

    A record holds ``captureData.endpointInput`` with ``observedContentType``, ``data`` and
    ``encoding`` (``BASE64``, or ``JSON`` and ``CSV`` as plain text). Records that captured
    only the answer are passed over.

    Raises
    ------
    PayloadError
        If a line is not a capture record, an encoding is unknown, base64 is broken, or no
        record holds a request.
    """
    found = []
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip():
            continue
        where = f"{source}, line {number}"
        captured = _capture_input(line, where)
        if captured is not None:
            body = _decode(captured, where)
            kind = captured.get("observedContentType") or "application/octet-stream"
            found.append(Payload(body, str(kind), payload_class))
    if not found:
        raise PayloadError(
            f"{source} holds no captured request",
            hint="enable capture mode Input on the endpoint and try a newer file",
        )
    return PayloadSet(tuple(found))


def _capture_input(line: str, where: str) -> dict[str, Any] | None:
    try:
        record = json.loads(line)
        capture = record["captureData"]
        captured = capture.get("endpointInput")
    except (ValueError, KeyError, TypeError, AttributeError):
        raise PayloadError(
            f"{where} is not a data-capture record",
            value=line[:80],
            allowed='JSON with "captureData"',
        ) from None
    if captured is None:
        return None
    if not isinstance(captured, dict) or not isinstance(captured.get("data"), str):
        raise PayloadError(f"{where} has no text under endpointInput.data", value=line[:80])
    return captured


def _decode(captured: dict[str, Any], where: str) -> bytes:
    encoding = str(captured.get("encoding", "")).upper()
    data: str = captured["data"]
    if encoding == "BASE64":
        try:
            return base64.b64decode(data, validate=True)
        except binascii.Error as error:
            raise PayloadError(f"{where} has broken base64: {error}", value=data[:80]) from None
    if encoding in ("JSON", "CSV", "NONE", ""):
        return data.encode()
    raise PayloadError(
        f"{where} has an unknown encoding", value=encoding, allowed="BASE64, JSON, CSV"
    )
