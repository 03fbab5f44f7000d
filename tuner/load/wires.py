"""The exact bytes of each payload's request, signed where asked, kept ready to send."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from typing import Protocol

from tuner.load.target import InvokeTarget
from tuner.workload.payloads import Payload

USER_AGENT = "tuner"
EXPIRE_EVERY_S = 2.0


class Wires(Protocol):
    """Ready requests, one per payload."""

    ready: list[bytes]
    fault: str

    def refresh_one(self) -> bool:
        """Renew the oldest request if it is due; return whether there was work."""
        ...

    def distrust(self) -> None:
        """The server refused the credentials: renew everything as soon as possible."""
        ...


def encode(method: str, path: str, headers: Iterable[tuple[str, str]], body: bytes) -> bytes:
    """One HTTP/1.1 request as bytes."""
    head = [f"{method} {path} HTTP/1.1", *(f"{k}: {v}" for k, v in headers), "", ""]
    return "\r\n".join(head).encode("latin-1") + body


def host_header(target: InvokeTarget) -> str:
    """Host, with the port where it is not the scheme's own."""
    host = f"[{target.host}]" if ":" in target.host else target.host
    default = 443 if target.tls else 80
    return host if target.port == default else f"{host}:{target.port}"


class PlainWires:
    """Unsigned requests; they never change."""

    def __init__(self, target: InvokeTarget, payloads: Sequence[Payload]) -> None:
        self.fault = ""
        own = {name.lower() for name, _ in target.headers}
        self.ready = []
        for payload in payloads:
            headers = [("Host", host_header(target)), ("Content-Type", payload.content_type)]
            if "user-agent" not in own:
                headers.append(("User-Agent", USER_AGENT))
            headers += [("Accept-Encoding", "identity")] if "accept-encoding" not in own else []
            own_headers = target.headers_for(payload.target_model)
            headers += [*own_headers, ("Content-Length", str(len(payload.body)))]
            self.ready.append(encode(target.method, target.path, headers, payload.body))

    def refresh_one(self) -> bool:
        return False

    def distrust(self) -> None:
        """Nothing is signed, so nothing can be renewed."""


class Ages:
    """Which payload's signature is due for renewal."""

    def __init__(self, count: int, life_s: float) -> None:
        self._due = [0.0] * count
        self._life = life_s
        self._at = 0
        self._expire_after = 0.0

    def next_due(self) -> int | None:
        """Index of the request to renew now, or None."""
        if self._due[self._at] > time.monotonic():
            return None
        return self._at

    def renewed(self) -> None:
        """The request given by `next_due` is fresh."""
        self._due[self._at] = time.monotonic() + self._life
        self._at = (self._at + 1) % len(self._due)

    def put_off(self, seconds: float) -> None:
        """Renewal failed: do not try again at once."""
        self._due[self._at] = time.monotonic() + seconds

    def spread(self) -> None:
        """All were made just now: let them fall due one after another, not together."""
        now, count = time.monotonic(), len(self._due)
        self._due = [now + self._life * (0.5 + 0.5 * i / count) for i in range(count)]

    def expire(self) -> None:
        """Everything is due, but not again and again while refusals pour in."""
        now = time.monotonic()
        if now >= self._expire_after:
            self._expire_after = now + EXPIRE_EVERY_S
            self._due = [0.0] * len(self._due)
