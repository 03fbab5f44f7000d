"""Which faults are on, and which of them strikes the next request."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np

from tuner.emulator.account import Account
from tuner.emulator.endpoint import Endpoint
from tuner.emulator.errors import AwsError
from tuner.emulator.params import Params
from tuner.emulator.spec import ONCE, PER_CALL, PER_LAUNCH, PER_REQUEST, Fault, FaultKind
from tuner.fleet.service import endless_uniform

Operation = Callable[[Params], "dict[str, Any] | None"]

MESSAGES = {
    "ThrottlingException": "Rate exceeded",
    "AccessDeniedException": "User is not authorized to perform this action",
    "ExpiredTokenException": "The security token included in the request is expired",
    "InternalFailure": "The request processing has failed because of an unknown error",
    "ServiceUnavailable": "The request has failed due to a temporary failure of the server",
}
"""What AWS says with the codes that are asked for most."""


@dataclass(frozen=True, slots=True)
class Mishap:
    """What strikes one request."""

    kind: FaultKind
    status: int
    factor: float
    drip_s: float


class FaultPlan:
    """The faults of a script and those asked for over the admin route."""

    def __init__(self, account: Account, faults: Iterable[Fault], rng: np.random.Generator) -> None:
        self._account = account
        self._uniform = endless_uniform(rng)
        self._started_s = time.monotonic()
        self._faults: list[Fault] = list(faults)
        self._begun: set[int] = set()
        self._on: list[Fault] = []
        self._on_calls: list[Fault] = []

    @property
    def elapsed_s(self) -> float:
        """Seconds since the emulator started."""
        return time.monotonic() - self._started_s

    @property
    def live(self) -> bool:
        """Whether any per-request fault is on."""
        return bool(self._on)

    @property
    def faults(self) -> tuple[Fault, ...]:
        """Every fault there is."""
        return tuple(self._faults)

    def add(self, fault: Fault) -> None:
        """One more fault."""
        self._faults.append(fault)
        self.tick()

    def clear(self) -> None:
        """No more faults; lost zones come back."""
        for fault in self._faults:
            self._end(fault)
        self._faults.clear()
        self._begun.clear()
        self.tick()

    def next_change_s(self) -> float:
        """Elapsed time of the next beginning or end; infinite for never."""
        now = self.elapsed_s
        edges = [e for f in self._faults for e in (f.from_s, f.until_s) if e > now]
        return min(edges, default=math.inf)

    def tick(self) -> None:
        """Let faults begin and end."""
        now = self.elapsed_s
        on = [f for f in self._faults if f.active(now)]
        self._on = [f for f in on if f.kind in PER_REQUEST]
        self._on_calls = [f for f in on if f.kind in PER_CALL]
        self._account.have_launch_faults({f.kind for f in on} & PER_LAUNCH)
        for fault in list(self._faults):
            if fault.kind not in ONCE:
                continue
            if fault.active(now) and id(fault) not in self._begun:
                self._begun.add(id(fault))
                self._begin(fault)
            elif now >= fault.until_s and id(fault) in self._begun:
                self._end(fault)
                self._begun.discard(id(fault))
                self._faults.remove(fault)

    def _begin(self, fault: Fault) -> None:
        for endpoint in list(self._account.endpoints.values()):
            if fault.endpoint in ("", endpoint.name):
                if fault.kind is FaultKind.FAIL_ENDPOINT:
                    self._account.break_down(endpoint)
                elif fault.kind is FaultKind.DELETE_ENDPOINT:
                    self._account.remove(endpoint)
                else:
                    _strike_instances(endpoint, fault)

    def _end(self, fault: Fault) -> None:
        if fault.kind is FaultKind.LOSE_ZONE:
            for endpoint in self._account.endpoints.values():
                for variant in endpoint.variants.values():
                    variant.backend.open_zone(fault.zone)

    def delay_s(self, operation: str) -> float:
        """How long the answer to a control-plane call is held back."""
        found = self._draw_call(operation, FaultKind.CONTROL_DELAY)
        return 0.0 if found is None else found.delay_s

    def guarded(self, name: str, operation: Operation) -> Operation:
        """An operation of the control plane that fails when it is told to."""

        def call(params: Params) -> dict[str, Any] | None:
            fault = self._draw_call(name, FaultKind.CONTROL_ERROR)
            if fault is None:
                return operation(params)
            if fault.applied:
                operation(params)
            raise AwsError(fault.code, MESSAGES.get(fault.code, "Asked for"), fault.status)

        return call

    def _draw_call(self, operation: str, kind: FaultKind) -> Fault | None:
        for fault in self._on_calls:
            meant = fault.kind is kind and fault.operation in ("", operation)
            if meant and next(self._uniform) < fault.share:
                return fault
        return None

    def draw(self, endpoint: str) -> Mishap | None:
        """What strikes the next request to ``endpoint``, if anything."""
        for fault in self._on:
            if fault.endpoint in ("", endpoint) and next(self._uniform) < fault.share:
                return Mishap(fault.kind, fault.status, fault.factor, fault.drip_s)
        return None


def _strike_instances(endpoint: Endpoint, fault: Fault) -> None:
    for variant in endpoint.variants.values():
        if fault.kind is FaultKind.KILL_INSTANCE:
            variant.backend.kill(fault.count)
        elif fault.zone < variant.spec.fleet.zones and variant.spec.fleet.zones > 1:
            variant.backend.lose_zone(fault.zone)
