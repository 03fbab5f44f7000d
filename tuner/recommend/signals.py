"""Utilisation and concurrency as scaling metrics: how they answer to load, and which to follow.

A relation is fitted in the statistic that the alarm reads (utilisation: Average over a minute;
concurrency: Maximum over ten seconds), never in what the client saw: the server's maximum is a
multiple of the client's mean, and a different one at every load.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy import special

from tuner.autoscaling.policy import ScalingMetric
from tuner.interval import Interval
from tuner.recommend.evaluate import describe
from tuner.recommend.types import Candidate, Recommendation, SignalChoice, SignalFit, Statement
from tuner.simulator.inputs import MetricCurve

FloatArray = NDArray[np.float64]

NAMES = {
    ScalingMetric.INVOCATIONS: "invocations per instance",
    ScalingMetric.CONCURRENCY: "concurrency",
    ScalingMetric.CPU: "CPU utilisation",
    ScalingMetric.GPU: "GPU utilisation",
    ScalingMetric.GPU_MEMORY: "GPU memory utilisation",
    ScalingMetric.MEMORY: "memory utilisation",
}
LEAST_STAGES = 3
LEAST_UTILIZATION = 0.5
LARGEST_MISFIT = 0.15
LEAST_RISE = 0.5
"""The metric must rise at least half as fast as the load between the extreme stages."""
ROOM = 1.05
"""Where the waiting term of concurrency would be infinite, over saturation."""
POINTS = 201


@dataclass(frozen=True, slots=True)
class Reading:
    """One metric over the whole datapoints of one stage."""

    metric: ScalingMetric
    stage: int
    rate_per_instance_per_s: float
    instance_count: int
    values: tuple[float, ...]


@dataclass(frozen=True, slots=True, eq=False)
class FittedSignal:
    """A relation, with those fitted without each stage in turn.

    ``members`` has shape (stages, POINTS): the curve's values by each of them; ``curve`` is
    None when it was refused.
    """

    fit: SignalFit
    curve: MetricCurve | None
    members: FloatArray


def datapoints(
    at_unix_s: Sequence[float],
    values: Sequence[float],
    period_s: float,
    start_unix_s: float,
    end_unix_s: float,
) -> tuple[float, ...]:
    """Values of the periods that lie wholly between two times."""
    edge = 1e-3 * period_s
    return tuple(
        v
        for t, v in zip(at_unix_s, values, strict=True)
        if t >= start_unix_s - edge and t + period_s <= end_unix_s + edge
    )


def fit_signal(
    metric: ScalingMetric,
    readings: Sequence[Reading],
    saturation_rate_per_s: float,
    *,
    instance_count: int = 1,
    pace: float = 1.0,
) -> FittedSignal:
    """Fit how a metric answers to load.

    Utilisation is fitted as a + b u + c u², concurrency as b u + c u² / (1.05 - u) +
    d sqrt(u ln n), with u the offered rate over saturation and n the instances over which the
    maximum is taken; every coefficient is at least 0, so that the relation cannot fall. The last
    term is how the largest of n like counts grows.

    Parameters
    ----------
    saturation_rate_per_s
        Rate per instance at utilisation 1.
    instance_count
        The n at which the curve is wanted.
    pace
        Length of the periods over AWS's. An average over more time scatters less: it is worked
        out for AWS's periods, with datapoints taken as sums of independent parts.

    References
    ----------
    Lawson and Hanson (1974), Solving Least Squares Problems, chapter 23 (non-negative least
    squares); Cramér (1946), Mathematical Methods of Statistics, section 28.6 (the largest of n
    normal values grows with sqrt(2 ln n)).
    """
    used = [r for r in readings if r.metric is metric and r.values]
    u = np.array([r.rate_per_instance_per_s / saturation_rate_per_s for r in used])
    keep = u < 1.0
    used = [r for r, k in zip(used, keep.tolist(), strict=True) if k]
    u = u[keep]
    n = np.array([float(r.instance_count) for r in used])
    means = np.array([float(np.mean(r.values)) for r in used])
    known = _known(metric, used)
    if metric.customized:
        known = replace(known, scatter=known.scatter * math.sqrt(pace))
    refused = _too_little(metric, u, means)
    if refused is not None:
        return _refused(known, refused)
    weight = 1.0 / np.maximum(means, 1e-9)
    design = _basis(metric, u, n)
    best = _solve(design, means, weight)
    misfit = float(np.sqrt(np.mean(((design @ best - means) * weight) ** 2)))
    if misfit > LARGEST_MISFIT:
        return _refused(
            replace(known, misfit=misfit),
            f"{NAMES[metric]} follows the load only to within {misfit:.0%}",
        )
    grid = np.linspace(0.0, 1.0, POINTS)
    at = _basis(metric, grid, np.full(POINTS, float(instance_count)))
    members = np.array(
        [
            at @ _solve(np.delete(design, i, 0), np.delete(means, i), np.delete(weight, i))
            for i in range(len(used))
        ]
    )
    fit = replace(known, misfit=misfit)
    per_waiting = 1.0 if metric is ScalingMetric.CONCURRENCY else 0.0
    curve = MetricCurve(grid, at @ best, per_waiting, fit.scatter, metric.alarm.period_s)
    return FittedSignal(fit, curve, members)


def _known(metric: ScalingMetric, used: Sequence[Reading]) -> SignalFit:
    parts = [np.array(r.values) for r in used if len(r.values) > 1 and np.mean(r.values) > 0.0]
    freedom = sum(p.size - 1 for p in parts)
    squares = sum(float(((p / p.mean() - 1.0) ** 2).sum()) for p in parts)
    scatter = math.sqrt(squares / freedom) if freedom else math.nan
    periods = sum(len(r.values) for r in used)
    alarm = metric.alarm
    return SignalFit(metric, alarm.statistic, alarm.period_s, len(used), periods, math.nan, scatter)


def _refused(known: SignalFit, reason: str) -> FittedSignal:
    return FittedSignal(replace(known, refused=reason), None, np.empty((0, POINTS)))


def _too_little(metric: ScalingMetric, u: FloatArray, means: FloatArray) -> str | None:
    name = NAMES[metric]
    if not u.size:
        return f"CloudWatch has no {metric.alarm.name} of a whole period within a stage"
    if u.size < LEAST_STAGES:
        return (
            f"{name} was read in {u.size} stages; a relation needs {LEAST_STAGES} with a whole "
            "period of CloudWatch in each"
        )
    top, least = int(np.argmax(u)), int(np.argmin(u))
    if u[top] < LEAST_UTILIZATION:
        return f"{name} was read up to {u[top]:.0%} of saturation only"
    if u[top] < 1.2 * u[least]:
        return f"{name} was read at one load only"
    rise = (means[top] - means[least]) / max(float(means[top]), 1e-9)
    if rise < LEAST_RISE * (1.0 - u[least] / u[top]):
        return f"{name} hardly rises with the load, so it cannot steer the number of instances"
    return None


def _basis(metric: ScalingMetric, u: FloatArray, n: FloatArray) -> FloatArray:
    """Shape (points, terms), every term non-decreasing in u."""
    if metric is ScalingMetric.CONCURRENCY:
        waiting = u**2 / (ROOM - u)
        return np.column_stack([u, waiting, np.sqrt(u * np.log(np.maximum(n, 1.0)))])
    return np.column_stack([np.ones_like(u), u, u**2])


def _solve(design: FloatArray, values: FloatArray, weight: FloatArray) -> FloatArray:
    # It takes a while to import, and most answers do without.
    from scipy import optimize

    found, _ = optimize.nnls(design * weight[:, None], values * weight)
    return np.asarray(found, np.float64)


def value_interval(fitted: FittedSignal, value: float, level: float = 0.95) -> Interval | None:
    """What a value of the metric may be known as: the jackknife over stages at its utilisation.

    None when nothing was fitted.

    References
    ----------
    Efron and Tibshirani (1993), An Introduction to the Bootstrap, eq. 11.5.
    """
    curve, members = fitted.curve, fitted.members
    if curve is None or not len(members):
        return None
    at = float(np.interp(value, *_ascending(curve)))
    each = np.array([np.interp(at, curve.utilization, m) for m in members])
    m = len(each)
    se = math.sqrt((m - 1) / m * float(((each - each.mean()) ** 2).sum()))
    reach = float(special.stdtrit(max(m - 1, 1), 0.5 + level / 2.0)) * se
    return Interval(max(0.0, value - reach), value, value + reach, level)


def _ascending(curve: MetricCurve) -> tuple[FloatArray, FloatArray]:
    """The curve as utilisation over value; flat stretches keep their first point."""
    value, first = np.unique(curve.value, return_index=True)
    return value, curve.utilization[first]


def false_alarms_per_day(scatter: float, period_s: int, *, share: float = 0.9) -> float:
    """How often three datapoints in a row exceed the target while their mean is below it.

    Parameters
    ----------
    scatter
        Standard deviation of a datapoint over the mean; datapoints are taken as independent
        and normal.
    share
        The mean over the target.
    """
    if not scatter > 0.0:
        return 0.0
    above = float(special.ndtr(-(1.0 / share - 1.0) / scatter))
    return above**3 * 86_400.0 / period_s


def explain(
    recommendation: Recommendation,
    fitted: Mapping[ScalingMetric, FittedSignal],
    *,
    vcpus: int | None = None,
    gpus: int | None = None,
) -> Recommendation:
    """The recommendation with what is known of each signal, and a sentence on which to use.

    Parameters
    ----------
    fitted
        Every metric that was asked for besides invocations, refused ones too.
    vcpus, gpus
        Of an instance; CPU and GPU utilisation run to 100 times as much.
    """
    full = {
        ScalingMetric.CPU: vcpus,
        ScalingMetric.GPU: gpus,
        ScalingMetric.GPU_MEMORY: gpus,
        ScalingMetric.MEMORY: 1,
    }
    known = {s.metric: s for s in recommendation.signals}
    if not known and recommendation.chosen is not None:
        alone = SignalChoice(ScalingMetric.INVOCATIONS, recommendation.chosen, recommended=True)
        known[alone.metric] = alone
    first = known.get(ScalingMetric.INVOCATIONS)
    choices = [] if first is None else [replace(first, reason=_reason(first, first, None))]
    for metric, found in fitted.items():
        base = known.get(metric, SignalChoice(metric, None))
        policy = None if base.candidate is None else base.candidate.policy
        target = None if policy is None else policy.target_value
        parts = full.get(metric)
        choices.append(
            replace(
                base,
                fit=found.fit,
                reason=_reason(base, first, found.fit),
                target_value=None if target is None else value_interval(found, target),
                machine_share=target / (100.0 * parts) if target and parts else None,
            )
        )
    said = _which(choices)
    statements = recommendation.statements
    if said is not None:
        statements = (Statement("signal", said), *statements)
    return replace(recommendation, signals=tuple(choices), statements=statements)


def _reason(choice: SignalChoice, first: SignalChoice | None, fit: SignalFit | None) -> str:
    """One sentence on a signal, beside invocations."""
    if fit is not None and fit.refused is not None:
        return f"Not compared: {fit.refused}."
    if choice.candidate is None:
        return "No policy on it holds the SLO budgets on this traffic."
    text = describe((choice.candidate.policy, choice.candidate.bounds))
    parts = [text[0].upper() + text[1:]]
    if choice.metric is not ScalingMetric.INVOCATIONS and first is not None and first.candidate:
        own, base = _hours(choice.candidate), _hours(first.candidate)
        parts.append(f"{own / base - 1.0:+.1%} cost against invocations")
    if fit is not None:
        alarms = false_alarms_per_day(fit.scatter, fit.period_s)
        if alarms >= 1.0:
            parts.append(
                f"its datapoints scatter by {fit.scatter:.0%}, enough for about {alarms:.0f} "
                "needless alarms a day at 90 % of the target, which the simulation leaves out"
            )
    return "; ".join(parts) + "."


def _hours(candidate: Candidate) -> float:
    return candidate.expected.instance_hours_per_day.mid


def _which(choices: Sequence[SignalChoice]) -> str | None:
    """Which signal to scale on and why, in one or two plain sentences."""
    taken = next((c for c in choices if c.recommended), None)
    if taken is None or taken.candidate is None:
        return None
    name = NAMES[taken.metric]
    others = [c for c in choices if c is not taken and c.candidate is not None]
    if not others:
        refused = [c for c in choices if c.fit is not None and c.fit.refused is not None]
        because = "; ".join(f"{c.fit.refused}" for c in refused if c.fit is not None)
        return f"Scale on {name}: no other signal can be judged ({because})." if refused else None
    own = _hours(taken.candidate)
    cheapest = min(others, key=lambda c: _hours(c.candidate) if c.candidate else math.inf)
    assert cheapest.candidate is not None
    change = _hours(cheapest.candidate) / own - 1.0
    against = f"{NAMES[cheapest.metric]} would cost {change:+.1%}"
    if taken.metric is ScalingMetric.INVOCATIONS:
        why = "it counts demand itself, so that slower or faster code does not move it, and " + (
            "nothing else is worth more than it costs" if change > -0.02 else "it is steadier"
        )
    elif taken.metric is ScalingMetric.CONCURRENCY:
        why = (
            "its ten-second datapoints order instances minutes earlier, and it sees requests "
            "that take longer"
        )
    else:
        why = "it sees requests that cost more; a change of the code moves the target"
    return f"Scale on {name}: {why}; {against}."
