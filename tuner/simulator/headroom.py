"""How much load may grow, or capacity shrink, before the SLO is missed.

The rules are arithmetic on the reaction time of target tracking; `largest_ramp` and
`largest_jump` put the same question to the simulator.

Notation: ``share`` is the target value over the capacity of one instance, both per minute.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from tuner.autoscaling.kernel import OUT_DATAPOINTS
from tuner.autoscaling.policy import CapacityBounds, TargetTrackingPolicy
from tuner.queueing.capacity import ViolationTable
from tuner.simulator.inputs import LaunchLag, PolicyGrid, SimulationOptions
from tuner.simulator.simulate import SimulationResult, simulate
from tuner.units import s_to_min

_QUIET_MIN = 30
"""Minutes of steady load before the change: longer than the low alarm."""
_HOLD_MIN = 60
_SLOWEST_RAMP = 4e-3
"""Per minute: a ramp of four hours to double the load."""
_DEFAULT = SimulationOptions()


def reaction_min(launch_lag_s: float, publish_delay_s: float = 60.0) -> float:
    """Minutes from the start of a ramp until instances ordered because of it take traffic.

    Three datapoints above the target, the publishing delay, half a minute because the ramp
    does not start with a period, and the launch.
    """
    return OUT_DATAPOINTS + 0.5 + s_to_min(publish_delay_s) + s_to_min(launch_lag_s)


def share_for_ramp(
    growth_per_min: float,
    launch_lag_s: float,
    *,
    up_to: float = 2.0,
    publish_delay_s: float = 60.0,
    serialised: bool = True,
) -> float:
    """Largest share that carries a linear ramp of ``growth_per_min`` of the starting load.

    Until the first batch of instances arrives the old ones carry the growth of the whole
    reaction time: 1 / (1 + g r). When scale-outs are serialised each batch is ordered for
    the load seen a minute and a half before its order, and carries the growth until the
    next one, a launch later, arrives. The ramp ends at ``up_to`` times the start, so a share
    of 1 / ``up_to`` carries any.

    Raises
    ------
    ValueError
        If growth is negative or ``up_to`` below 1.
    """
    if growth_per_min < 0.0 or up_to < 1.0:
        raise ValueError(f"need growth >= 0 and up_to >= 1: {growth_per_min}, {up_to}")
    lag_min = s_to_min(launch_lag_s)
    ordered_min = reaction_min(0.0, publish_delay_s)
    seen_before_min = 0.5 + s_to_min(publish_delay_s)
    share, fleet = 1.0, 1.0
    while True:
        load = min(1.0 + growth_per_min * (ordered_min + lag_min), up_to)
        share = min(share, fleet / load)
        if load >= up_to or lag_min <= 0.0 or growth_per_min <= 0.0 or not serialised:
            return max(share, 1.0 / up_to)
        fleet = 1.0 + growth_per_min * (ordered_min - seen_before_min)
        ordered_min += lag_min


def ramp_for_share(share: float, launch_lag_s: float, *, publish_delay_s: float = 60.0) -> float:
    """Steepest unending ramp, per minute of the starting load, that a share carries."""
    if not share > 0.0:
        raise ValueError(f"share must be positive: {share}")
    return max(0.0, 1.0 / share - 1.0) / reaction_min(launch_lag_s, publish_delay_s)


def share_for_jump(factor: float) -> float:
    """Largest share that carries a sudden jump to ``factor`` times the load."""
    if factor < 1.0:
        raise ValueError(f"factor must be at least 1: {factor}")
    return 1.0 / factor


def share_without(instance_count: int, lost: int) -> float:
    """Largest share at which ``lost`` of ``instance_count`` instances can go missing."""
    if not 0 <= lost <= instance_count or instance_count < 1:
        raise ValueError(f"need 0 <= lost <= instances: {lost}, {instance_count}")
    return (instance_count - lost) / instance_count


def lost_with_zone(instance_count: int, zones: int = 3) -> int:
    """Instances in the fullest of ``zones`` evenly filled zones."""
    return -(-instance_count // zones)


def share_for_zone_loss(instance_count: int, zones: int = 3) -> float:
    """Largest share at which a zone can be lost."""
    return share_without(instance_count, lost_with_zone(instance_count, zones))


def best_zone_count(least: int, zones: int = 3) -> int:
    """Least count from ``least`` on at which a zone holds no more than its even part."""
    return -(-max(least, 1) // zones) * zones


@dataclass(frozen=True, slots=True)
class Survived:
    """The largest disturbance without a bad minute among those tried.

    ``beyond`` says that the largest tried was survived: the truth is at least ``value``.
    """

    value: float
    beyond: bool


def largest_ramp(
    policy: TargetTrackingPolicy,
    bounds: CapacityBounds,
    table: ViolationTable,
    launch: LaunchLag,
    start_per_min: float,
    *,
    up_to: float = 2.0,
    options: SimulationOptions = _DEFAULT,
) -> Survived:
    """Steepest linear ramp, per minute of the starting load, that leaves no minute bad.

    Parameters
    ----------
    policy, bounds
        The policy.
    table
        Capacity.
    launch
        Of the lags given, the longest is used: the claim is about a bad day.
    start_per_min
        Requests per minute before the ramp. A multiple of the target is the worst start: no
        instance is idle and no alarm has begun to count.
    up_to
        The load at the end of the ramp over that at its start.
    options
        As for `simulate`; the lead-in is not used.
    """
    growth = np.geomspace(_SLOWEST_RAMP, max(up_to - 1.0, _SLOWEST_RAMP), 120)
    minute = np.arange(_QUIET_MIN + _HOLD_MIN + math.ceil((up_to - 1.0) / growth[0])) - _QUIET_MIN
    # A minute's requests are the mean of the ramp over it.
    rise = growth[:, None] * np.maximum(minute + 0.5, 0.0)
    load = start_per_min * np.minimum(1.0 + rise, up_to)
    return _survived(growth, _try(policy, bounds, table, launch, load, options))


def largest_jump(
    policy: TargetTrackingPolicy,
    bounds: CapacityBounds,
    table: ViolationTable,
    launch: LaunchLag,
    start_per_min: float,
    *,
    options: SimulationOptions = _DEFAULT,
) -> Survived:
    """Largest sudden factor on the load that leaves no minute bad.

    Parameters
    ----------
    policy, bounds, table, launch, start_per_min, options
        As for `largest_ramp`.
    """
    factor = np.linspace(1.0, 6.0, 251)
    minute = np.arange(_QUIET_MIN + _HOLD_MIN)
    load = start_per_min * np.where(minute < _QUIET_MIN, 1.0, factor[:, None])
    return _survived(factor, _try(policy, bounds, table, launch, load, options))


def _try(
    policy: TargetTrackingPolicy,
    bounds: CapacityBounds,
    table: ViolationTable,
    launch: LaunchLag,
    load: NDArray[np.float64],
    options: SimulationOptions,
) -> SimulationResult:
    grid = PolicyGrid.of([(policy, bounds)])
    slowest = LaunchLag.of(max(launch.seconds))
    plain = replace(options, lead_in_min=0, min_capacity_by_minute=None, losses=())
    return simulate(grid, load, table, slowest, options=plain)


def _survived(tried: NDArray[np.float64], result: SimulationResult) -> Survived:
    """The last of the ascending ``tried`` before the first with a bad minute; 0 if none."""
    bad = np.flatnonzero(result.bad_minutes[0])
    if not len(bad):
        return Survived(float(tried[-1]), beyond=True)
    return Survived(float(tried[bad[0] - 1]) if bad[0] else 0.0, beyond=False)
