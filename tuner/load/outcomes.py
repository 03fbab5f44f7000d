"""What an answer means: from status, headers and body to an `Outcome` and a few words."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping

from tuner.stats.requests import Outcome

THROTTLING_CODES = frozenset(
    {
        "ThrottlingException", "Throttling", "ThrottledException", "TooManyRequestsException",
        "RequestThrottled", "RequestThrottledException", "RequestLimitExceeded",
        "BandwidthLimitExceeded", "LimitExceededException", "ServiceQuotaExceededException",
        "ModelNotReadyException", "ServiceUnavailable", "ServiceUnavailableException",
    }
)  # fmt: skip
CREDENTIAL_CODES = frozenset(
    {
        "ExpiredToken", "ExpiredTokenException", "InvalidClientTokenId", "RequestExpired",
        "UnrecognizedClientException", "InvalidSignatureException", "SignatureDoesNotMatch",
        "MissingAuthenticationToken", "MissingAuthenticationTokenException",
        "IncompleteSignature", "IncompleteSignatureException",
    }
)  # fmt: skip
MODEL_STREAM_ERRORS = frozenset({"ModelStreamError", "ModelError"})
MAX_TEXTS = 12
TEXT_LENGTH = 240


def classify(status: int, headers: Mapping[bytes, bytes], body: bytes) -> tuple[Outcome, str, bool]:
    """Outcome, words for people, and whether the credentials were refused.

    AWS puts an error's name into the header ``x-amzn-ErrorType`` or into the body as
    ``__type`` or ``code``; throttling comes as HTTP 400.
    """
    if 200 <= status < 300:
        return Outcome.OK, "", False
    code, message = error_code(headers, body)
    text = f"HTTP {status}" + (f" {code}" if code else "") + (f": {message}" if message else "")
    refused = code in CREDENTIAL_CODES
    if status in (429, 503) or code in THROTTLING_CODES:
        return Outcome.THROTTLED, text, refused
    if status == 424 or code == "ModelError":
        return Outcome.MODEL_ERROR, text, refused
    return Outcome.OTHER, text, refused


def error_code(headers: Mapping[bytes, bytes], body: bytes) -> tuple[str, str]:
    """Name and message of an AWS error answer; empty where there is none."""
    code = headers.get(b"x-amzn-errortype", b"").decode("latin-1")
    message = ""
    try:
        data = json.loads(body) if body else None
    except ValueError:
        message = body.decode("utf-8", "replace")
    else:
        if isinstance(data, dict):
            code = code or str(data.get("__type") or data.get("code") or "")
            message = str(data.get("message") or data.get("Message") or "")
            if data.get("OriginalStatusCode") is not None:
                message = f"model answered {data['OriginalStatusCode']}: {message}"
    # Names come as "prefix#Name:http://...": the middle is the name.
    code = code.split(":")[0].rsplit("#", 1)[-1]
    return code[:80], " ".join(message.split())[:TEXT_LENGTH]


def of_stream_error(code: str, message: str) -> tuple[Outcome, str]:
    """An exception event in the middle of a stream that began with 200."""
    text = f"stream: {code}: {message}"
    if code in MODEL_STREAM_ERRORS:
        return Outcome.MODEL_ERROR, text
    return (Outcome.THROTTLED if code in THROTTLING_CODES else Outcome.OTHER), text


class ErrorTexts:
    """A few distinct texts with their counts; the rest is counted together."""

    REST = "other errors"

    def __init__(self) -> None:
        self._counts: Counter[str] = Counter()

    def add(self, text: str, count: int = 1) -> None:
        """Count a text."""
        text = text[:TEXT_LENGTH]
        if text not in self._counts and len(self._counts) >= MAX_TEXTS:
            text = self.REST
        self._counts[text] += count

    def items(self) -> list[tuple[str, int]]:
        """Texts and counts, most frequent first."""
        return sorted(self._counts.items(), key=lambda pair: (-pair[1], pair[0]))

    def clear(self) -> None:
        """Forget everything."""
        self._counts.clear()
