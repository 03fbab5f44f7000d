"""The rules of target tracking over arrays: one lane or a hundred thousand, any clock.

A *lane* is one scalable target. Arrays with a leading policy axis have shape (p, lanes):
several policies may act on one target. Times are seconds on the caller's clock.

Application Auto Scaling prints neither its formula nor its tie-breaks. What is modelled:

- alarms: metric > target for 3 datapoints; metric < 0.9 target for 15;
- capacity wanted = ceil(capacity the datapoint was measured on x metric / target). A
  datapoint is a minute or two old when it is acted on; multiplying it by instances that
  came later would order the same surge twice;
- out if any policy wants to, to the largest wish; in only if all policies that may scale
  in agree, to the largest wish, and never so far that the metric passes its target;
- the scale-out cooldown starts when the scale-out completes; while it runs only a larger
  scale-out (more instances than the one that started it) goes through;
- a scale-out ends a running scale-in cooldown; nothing is ordered while updating.

References
----------
Application Auto Scaling User Guide, "How target tracking scaling for Application Auto
Scaling works"; API reference, ``TargetTrackingScalingPolicyConfiguration``.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import IntEnum

import numpy as np
from numpy.typing import ArrayLike, NDArray

FloatArray = NDArray[np.float64]
BoolArray = NDArray[np.bool_]
IntArray = NDArray[np.int64]

OUT_DATAPOINTS = 3
IN_DATAPOINTS = 15
IN_THRESHOLD = 0.9
"""Alarm counts and the low threshold's share of the target, as seen in alarms AWS made."""
STANDARD_PERIOD_S = 60
HIGH_RESOLUTION_PERIOD_S = 10

_DUST = 1e-9
"""A metric is a sum of 1/instances: equality with the target must survive binary rounding."""


class Reason(IntEnum):
    """What came of one evaluation of a target."""

    NO_ALARM = 0
    SCALE_OUT = 1
    SCALE_IN = 2
    ALREADY_AT_MAX = 3
    ALREADY_AT_MIN = 4
    ALREADY_AT_DESIRED = 5
    ANTICIPATED_FLAPPING = 6
    COOLDOWN = 7
    UPDATING = 8
    SUSPENDED = 9
    SCALE_IN_DISAGREED = 10


@dataclass(frozen=True, slots=True, eq=False)
class Rules:
    """Policies and bounds of every lane.

    Parameters
    ----------
    target_value, scale_out_cooldown_s, scale_in_cooldown_s, disable_scale_in
        Shape (p, lanes).
    min_capacity, max_capacity
        Shape (lanes,).
    out_suspended, in_suspended
        Shape (lanes,): ``DynamicScalingOutSuspended`` and ``DynamicScalingInSuspended``.
    """

    target_value: FloatArray
    scale_out_cooldown_s: FloatArray
    scale_in_cooldown_s: FloatArray
    disable_scale_in: BoolArray
    min_capacity: IntArray
    max_capacity: IntArray
    out_suspended: BoolArray
    in_suspended: BoolArray


@dataclass(frozen=True, slots=True, eq=False)
class Cooldowns:
    """Running cooldowns of every lane, shape (lanes,); minus infinity means none.

    ``out_added`` is the number of instances ordered by the scale-out whose cooldown runs.
    """

    out_until_s: FloatArray
    out_added: FloatArray
    in_until_s: FloatArray

    @classmethod
    def none(cls, lanes: int) -> Cooldowns:
        """No cooldown running."""
        return cls(np.full(lanes, -np.inf), np.zeros(lanes), np.full(lanes, -np.inf))


@dataclass(frozen=True, slots=True, eq=False)
class Moves:
    """What every lane does now, shape (lanes,).

    ``desired`` is the new desired count (the old one when nothing changes); ``out`` and
    ``inward`` mark the lanes that scale; ``policy`` is the index of the policy whose wish
    decided (0 where none did). ``grows`` and ``shrinks`` mark the lanes whose policies ask
    for a change, whether or not it goes through.
    """

    desired: IntArray
    out: BoolArray
    inward: BoolArray
    policy: IntArray
    grows: BoolArray
    shrinks: BoolArray


def breaches(metric: ArrayLike, target_value: ArrayLike) -> tuple[BoolArray, BoolArray]:
    """Whether datapoints breach the high and the low alarm; NaN (missing) breaches neither."""
    value = np.asarray(metric, dtype=np.float64)
    target = np.asarray(target_value, dtype=np.float64)
    return value > target * (1.0 + _DUST), value < IN_THRESHOLD * target * (1.0 - _DUST)


def count_run(run: NDArray[np.uint8], breaching: BoolArray, limit: int) -> None:
    """Lengthen or reset runs of breaching datapoints in place, up to ``limit``."""
    np.add(run, 1, out=run)
    np.multiply(run, breaching.view(np.uint8), out=run)
    np.minimum(run, limit, out=run)


def wanted_capacity(
    measured_capacity: ArrayLike, metric: ArrayLike, target_value: ArrayLike
) -> FloatArray:
    """Instances that bring the metric to its target, rounded up; NaN where data are missing."""
    need = np.asarray(measured_capacity, dtype=np.float64) * np.asarray(metric, dtype=np.float64)
    return np.ceil(need / np.asarray(target_value, dtype=np.float64) * (1.0 - _DUST))


def decide(
    now_s: float,
    high: BoolArray,
    low: BoolArray,
    wanted: FloatArray,
    capacity: IntArray,
    updating: BoolArray,
    cooldowns: Cooldowns,
    rules: Rules,
) -> Moves:
    """Evaluate every lane once.

    Parameters
    ----------
    now_s
        Time of the evaluation.
    high, low
        Shape (p, lanes): alarms in state ALARM.
    wanted
        Shape (p, lanes): `wanted_capacity` of each policy; NaN without data.
    capacity
        Shape (lanes,): desired instance count, that is in service and starting.
    updating
        Shape (lanes,): an update or a scaling activity is in progress.
    cooldowns, rules
        State and policies of the lanes.

    Returns
    -------
    Moves
        New desired counts. Cooldowns are moved on by `scaled_out` and `scaled_in`.
    """
    wish, out_policy = _largest(wanted, high)
    growth = np.minimum(wish, rules.max_capacity) - capacity
    grows = growth > 0
    cooling = (now_s < cooldowns.out_until_s) & (growth <= cooldowns.out_added)
    go_out = grows & ~(rules.out_suspended | updating | cooling)

    votes = ~rules.disable_scale_in
    agreed = (low | ~votes).all(axis=0) & votes.any(axis=0) & ~high.any(axis=0)
    wish, in_policy = _largest(wanted, votes)
    change = np.maximum(wish, rules.min_capacity) - capacity
    shrinks = agreed & (wish > -np.inf) & (change < 0)
    go_in = shrinks & ~(rules.in_suspended | updating | (now_s < cooldowns.in_until_s))

    moved = np.where(go_out, growth, np.where(go_in, change, 0.0)).astype(np.int64)
    policy = np.where(grows, out_policy, np.where(shrinks, in_policy, 0))
    return Moves(capacity + moved, go_out, go_in, policy, grows, shrinks)


def _largest(wanted: FloatArray, among: BoolArray) -> tuple[FloatArray, IntArray]:
    """The largest wish of the policies marked, minus infinity without one, and its policy."""
    wish = np.where(among & ~np.isnan(wanted), wanted, -np.inf)
    if len(wish) == 1:
        return wish[0], np.zeros(wish.shape[1], np.int64)
    policy = wish.argmax(axis=0)
    return wish[policy, np.arange(wish.shape[1])], policy


def explain(
    moves: Moves,
    high: BoolArray,
    low: BoolArray,
    capacity: IntArray,
    updating: BoolArray,
    rules: Rules,
) -> NDArray[np.uint8]:
    """A `Reason` for what `decide` made of the same arrays, shape (lanes,)."""
    any_high = high.any(axis=0)
    votes = ~rules.disable_scale_in
    any_low = (low & votes).any(axis=0) & ~any_high
    asks = moves.grows | moves.shrinks
    suspended = moves.grows & rules.out_suspended | moves.shrinks & rules.in_suspended
    cases = [
        (~any_high & ~any_low, Reason.NO_ALARM),
        (moves.out, Reason.SCALE_OUT),
        (moves.inward, Reason.SCALE_IN),
        (suspended, Reason.SUSPENDED),
        (asks & updating, Reason.UPDATING),
        (asks, Reason.COOLDOWN),
        (any_high & (capacity >= rules.max_capacity), Reason.ALREADY_AT_MAX),
        (any_high, Reason.ALREADY_AT_DESIRED),
        (~(low | ~votes).all(axis=0), Reason.SCALE_IN_DISAGREED),
        (capacity <= rules.min_capacity, Reason.ALREADY_AT_MIN),
    ]
    reason = np.select([c for c, _ in cases], [r for _, r in cases], Reason.ANTICIPATED_FLAPPING)
    return reason.astype(np.uint8)


def scaled_out(
    cooldowns: Cooldowns, lanes: BoolArray, added: ArrayLike, until_s: ArrayLike
) -> Cooldowns:
    """Cooldowns after scale-outs in ``lanes`` (a mask): theirs ends at ``until_s``.

    The scale-in cooldown of these lanes stops without completing.
    """
    return replace(
        cooldowns,
        out_until_s=np.where(lanes, until_s, cooldowns.out_until_s),
        out_added=np.where(lanes, added, cooldowns.out_added),
        in_until_s=np.where(lanes, -np.inf, cooldowns.in_until_s),
    )


def scaled_in(cooldowns: Cooldowns, lanes: BoolArray, until_s: ArrayLike) -> Cooldowns:
    """Cooldowns after scale-ins in ``lanes`` (a mask): the next waits for ``until_s``."""
    return replace(cooldowns, in_until_s=np.where(lanes, until_s, cooldowns.in_until_s))
