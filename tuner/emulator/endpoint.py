"""An emulated endpoint, its variants, and what it is changing to."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from tuner.emulator.backend import Backend
from tuner.emulator.deployment import Deployment
from tuner.emulator.metrics import VariantMetrics
from tuner.emulator.spec import VariantSpec
from tuner.emulator.timing import ControlClock


@dataclass(slots=True)
class Variant:
    """One production variant of an endpoint.

    ``metrics`` have the dimensions EndpointName and VariantName, whichever the fleet; ``own``
    are by EndpointConfigName as well, and only kept once there was a second configuration.
    """

    name: str
    config: dict[str, Any]
    spec: VariantSpec
    backend: Backend
    metrics: VariantMetrics
    weight: float
    desired: int
    own: VariantMetrics | None = None

    @property
    def settled(self) -> bool:
        """Whether as many instances are in service as are wanted."""
        return self.backend.starting == 0 and self.backend.in_service == self.desired


@dataclass(slots=True)
class Rollout:
    """A deployment on its way: launching (step -1), shifting, and at last only terminating."""

    variants: dict[str, Variant]
    config_name: str
    deployment: Deployment
    step: int = -1
    until_unix_s: float = math.inf

    @property
    def share(self) -> float:
        """The part of the traffic that the new fleet gets now."""
        shares = self.deployment.shares
        return 0.0 if self.step < 0 else shares[min(self.step, len(shares) - 1)]

    @property
    def baking(self) -> bool:
        """Whether an alarm would take everything back."""
        return 0 <= self.step < len(self.deployment.shares)

    def advance(self, now_unix_s: float, clock: ControlClock) -> bool:
        """Go as far as the time allows; True when the old fleet may go."""
        if self.step < 0 and all(v.settled for v in self.variants.values()):
            self._enter(0, now_unix_s, clock)
        while now_unix_s >= self.until_unix_s:
            if not self.baking:
                return True
            self._enter(self.step + 1, self.until_unix_s, clock)
        return False

    def _enter(self, step: int, begins_unix_s: float, clock: ControlClock) -> None:
        self.step = step
        wait_s = self.deployment.wait_s if self.baking else self.deployment.termination_wait_s
        self.until_unix_s = begins_unix_s + clock.wall_duration_s(wait_s)

    def summary(self, started_unix_s: float, variants: list[dict[str, Any]]) -> dict[str, Any]:
        """PendingDeploymentSummary."""
        stage = "Creating" if self.step < 0 else "Baking" if self.baking else "ActivatingTraffic"
        status = [{"Status": stage, "StartTime": started_unix_s}]
        return {
            "EndpointConfigName": self.config_name,
            "ProductionVariants": [{**v, "VariantStatus": status} for v in variants],
            "StartTime": started_unix_s,
        }


@dataclass(slots=True)
class Rollback:
    """A change that is going to fail, and what to go back to."""

    at_unix_s: float
    counts: dict[str, int]
    reason: str


@dataclass(slots=True)
class Endpoint:
    """One endpoint."""

    name: str
    arn: str
    config_name: str
    variants: dict[str, Variant]
    status: str
    created_unix_s: float
    modified_unix_s: float
    failure_reason: str | None = None
    rollout: Rollout | None = None
    deployment_config: dict[str, Any] | None = None
    rollback: Rollback | None = None
    delete_at_unix_s: float = math.inf

    @property
    def fleets(self) -> tuple[Variant, ...]:
        """The variants that serve, and those that are to replace them."""
        new = () if self.rollout is None else self.rollout.variants.values()
        return (*self.variants.values(), *new)

    def variants_of(self, config_name: str) -> dict[str, Variant]:
        """The variants of a configuration: of the fleet that serves, or of the one that comes."""
        if config_name == self.config_name:
            return self.variants
        coming = self.rollout
        return {} if coming is None or coming.config_name != config_name else coming.variants

    @property
    def arriving(self) -> bool:
        """Whether it waits for its instances, and for nothing else."""
        return self.rollback is None and self.status in ("Creating", "Updating", "RollingBack")

    @property
    def serving(self) -> bool:
        """Whether it takes requests."""
        return self.status not in ("Creating", "Failed", "Deleting", "OutOfService")
