"""How UpdateEndpoint moves the traffic to a new fleet: at once, by a canary, or in steps."""

from __future__ import annotations

import math
from dataclasses import dataclass

from tuner.emulator.errors import validation
from tuner.emulator.params import Params

ROUTING_TYPES = ("ALL_AT_ONCE", "CANARY", "LINEAR")
SIZE_TYPES = ("INSTANCE_COUNT", "CAPACITY_PERCENT")
LARGEST_SHARE, SMALLEST_LINEAR_SHARE = 0.5, 0.1
LONGEST_WAIT_S = 3600


@dataclass(frozen=True, slots=True)
class Deployment:
    """A blue/green deployment.

    ``shares`` is the part of the traffic that the new fleet gets after each shift; after each,
    it is watched for ``wait_s`` (the baking period, control time), in which an alarm of
    ``alarms`` takes everything back. ``termination_wait_s`` later the old fleet goes.
    """

    shares: tuple[float, ...] = (1.0,)
    wait_s: float = 0.0
    termination_wait_s: float = 0.0
    alarms: tuple[str, ...] = ()


def deployment_of(config: Params | None, instance_count: int) -> Deployment:
    """A ``DeploymentConfig``; ``instance_count`` is the size of the new fleet.

    Raises
    ------
    AwsError
        If it is not valid, or a rolling one.
    """
    if config is None:
        return Deployment()
    if config.has("RollingUpdatePolicy"):
        raise validation("RollingUpdatePolicy is not emulated; use BlueGreenUpdatePolicy.")
    rollback = config.structure("AutoRollbackConfiguration") or Params({})
    alarms = tuple(a.text("AlarmName", longest=255) for a in rollback.structures("Alarms"))
    policy = config.structure("BlueGreenUpdatePolicy")
    if policy is None:
        return Deployment(alarms=alarms)
    routing = policy.structure("TrafficRoutingConfiguration")
    if routing is None:
        raise validation("TrafficRoutingConfiguration must be specified.")
    kind = routing.choice("Type", ROUTING_TYPES)
    shares: tuple[float, ...] = (1.0,)
    if kind == "CANARY":
        shares = (_share(routing, "CanarySize", 0.0, instance_count), 1.0)
    elif kind == "LINEAR":
        step = _share(routing, "LinearStepSize", SMALLEST_LINEAR_SHARE, instance_count)
        shares = tuple(min(k * step, 1.0) for k in range(1, math.ceil(1.0 / step - 1e-9) + 1))
    policy.integer("MaximumExecutionTimeoutInSeconds", 600, low=600, high=28_800)
    return Deployment(
        shares,
        routing.integer("WaitIntervalInSeconds", high=LONGEST_WAIT_S),
        policy.integer("TerminationWaitInSeconds", 0, high=LONGEST_WAIT_S),
        alarms,
    )


def _share(routing: Params, key: str, least: float, instance_count: int) -> float:
    size = routing.structure(key)
    if size is None:
        raise validation(f"{key} must be specified for this type of traffic routing.")
    whole = 100 if size.choice("Type", SIZE_TYPES) == "CAPACITY_PERCENT" else instance_count
    share = size.integer("Value", low=1) / whole
    if not least <= share <= LARGEST_SHARE:
        raise validation(
            f"{key} must be between {least:.0%} and {LARGEST_SHARE:.0%} of the new fleet's "
            f"capacity of {instance_count} instances."
        )
    return share
