"""The message that sets a generator process up; no Locust here, both sides import it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Self

from tuner.load.target import InvokeTarget
from tuner.workload.payloads import Payload, PayloadSet

EVERY_INTERFACE = ("*", "0.0.0.0")  # noqa: S104 - only compared with, never a default
STALL_S = 5.0
"""A worker is lost if it is this late with its report."""


@dataclass(frozen=True, slots=True)
class SessionPlan:
    """Everything a generator process needs to know before its first stage."""

    target: InvokeTarget
    payloads: PayloadSet
    workers: int
    distributed: bool
    bind_host: str
    bind_port: int
    locustfile: str | None
    stall_s: float = STALL_S

    def encode(self) -> tuple[dict[str, Any], bytes]:
        """A JSON head, and the bodies one after another."""
        head = {
            "target": self.target.to_json(),
            "payloads": [
                [len(p.body), p.content_type, p.payload_class, p.weight, p.target_model]
                for p in self.payloads.payloads
            ],
            "workers": self.workers,
            "distributed": self.distributed,
            "bind_host": self.bind_host,
            "bind_port": self.bind_port,
            "locustfile": self.locustfile,
            "stall_s": self.stall_s,
        }
        return head, b"".join(p.body for p in self.payloads.payloads)

    @classmethod
    def decode(cls, head: dict[str, Any], blob: bytes) -> Self:
        """The inverse of `encode`."""
        payloads, offset = [], 0
        for length, content_type, name, weight, model in head["payloads"]:
            body = blob[offset : offset + length]
            payloads.append(Payload(body, content_type, name, weight, model))
            offset += length
        return cls(
            InvokeTarget.from_json(head["target"]),
            PayloadSet(tuple(payloads)),
            head["workers"],
            head["distributed"],
            head["bind_host"],
            head["bind_port"],
            head["locustfile"],
            head["stall_s"],
        )
