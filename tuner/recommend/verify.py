"""Did the endpoint with its live policy do what the recommendation expects of it?"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tuner.interval import Interval
from tuner.recommend.replay import Forecast
from tuner.recommend.verify_types import Comparison, MinuteSeen
from tuner.slo import LatencyObjective, Slo, Verdict
from tuner.stats.proportions import (
    ShareEstimate,
    clopper_pearson,
    independent_share,
    share_interval,
)
from tuner.stats.quantiles import rank_of
from tuner.stats.requests import RequestLog
from tuner.units import SECONDS_PER_MINUTE

FloatArray = NDArray[np.float64]

TOLERANCE_MIN = 2
"""Minutes the endpoint may be behind the slowest forecast: one of them is the phase of its
minutes against the replay's, the other the time until a poll shows a change."""
LEVEL = 0.95
PARTS = 6
"""Parts of a minute between which bursts of late requests show."""
SURE = 0.99
"""A single minute is called bad when its share of late requests is above the allowance for sure."""


@dataclass(frozen=True, slots=True, eq=False)
class Seen:
    """What the replay showed.

    Parameters
    ----------
    log
        Every request; times in seconds since the replay began.
    minute_s
        Seconds of a control minute.
    instances
        Shape (minutes,): in service at the end of each minute; NaN where no poll was answered.
    void_reasons
        Why the generator, and not the endpoint, was the limit; empty when it was not.
    """

    log: RequestLog
    minute_s: float
    instances: FloatArray
    void_reasons: tuple[str, ...] = ()

    @property
    def minutes(self) -> int:
        """Minutes replayed."""
        return len(self.instances)

    @property
    def requests_per_min(self) -> FloatArray:
        """Requests per real minute in each control minute, shape (minutes,)."""
        counted = np.bincount(_minute_index(self), minlength=self.minutes).astype(np.float64)
        return counted * (SECONDS_PER_MINUTE / self.minute_s)

    def late(self, objective: LatencyObjective) -> NDArray[np.bool_]:
        """Which requests missed an objective, shape (n,)."""
        return ~(self.log.times_s(objective.measure) <= objective.threshold_s)


def judge(
    slo: Slo, binding: LatencyObjective | None, seen: Seen, expected: Forecast, *, meets: bool
) -> tuple[Verdict, tuple[Comparison, ...], tuple[MinuteSeen, ...]]:
    """Compare a replay with its forecast and with the SLO.

    Parameters
    ----------
    binding
        The objective the forecast is about; None takes the first.
    meets
        Whether the policy holds the budgets of the whole traffic in simulation. Only then may a
        surge cost more late requests than the SLO allows on average, as far as the forecast
        says so.

    Returns
    -------
    The verdict, what it rests on, and every minute. A generator that was the limit makes it
    INCONCLUSIVE: then nothing is known about the endpoint.
    """
    if not len(seen.log):
        nothing = Comparison(
            "generator", Verdict.INCONCLUSIVE, None, 0.0, None, "No request was sent."
        )
        return Verdict.INCONCLUSIVE, (nothing,), ()
    main = binding or slo.objectives[0]
    sent = seen.requests_per_min
    worst = float((expected.worst_share * sent).sum() / sent.sum())
    found = [_requests(o, seen, worst, meets=meets) for o in slo.objectives]
    if slo.max_error_rate is not None:
        found.append(_errors(slo.max_error_rate, seen))
    found.append(_instances(seen, expected))
    found.append(_recovery(main, seen, expected))
    found.append(_generator(seen))
    verdicts = [c.verdict for c in found]
    if found[-1].verdict is not Verdict.MET:
        verdict = Verdict.INCONCLUSIVE
    elif Verdict.VIOLATED in verdicts:
        verdict = Verdict.VIOLATED
    else:
        verdict = Verdict.INCONCLUSIVE if Verdict.INCONCLUSIVE in verdicts else Verdict.MET
    return verdict, tuple(found), _minutes(main, seen, expected)


def _requests(
    objective: LatencyObjective, seen: Seen, expected: float, *, meets: bool
) -> Comparison:
    estimate = _share(seen, seen.late(objective))
    limit = max(objective.allowance, expected) if meets else objective.allowance
    verdict = estimate.verdict(limit)
    share = estimate.interval
    why = "" if limit == objective.allowance else " (as the forecast has it for this surge)"
    sentence = (
        f"{share.mid:.2%} ({share.low:.2%} to {share.high:.2%}) of {estimate.n:,} requests missed "
        f"{objective.threshold_s * 1e3:g} ms, {_quantile(objective, seen)}; at most "
        f"{expected:.2%} was expected and {limit:.2%}{why} is allowed."
    )
    if verdict is Verdict.INCONCLUSIVE:
        sentence += " More requests would decide: replay more minutes."
    return Comparison(f"requests:{objective.name}", verdict, expected, share.mid, limit, sentence)


def _share(seen: Seen, late: NDArray[np.bool_]) -> ShareEstimate:
    """Share over the replay. Minutes differ as their load does, which is no uncertainty.

    What is uncertain is what happens inside a minute: the variance is that of parts of a minute
    around the minute's own share, and late requests that come in bursts widen it.
    """
    n, count = len(late), int(np.count_nonzero(late))
    if count in (0, n):
        return independent_share(count, n)
    minute = _minute_index(seen)
    total = np.bincount(minute, minlength=seen.minutes)
    share = np.bincount(minute[late], minlength=seen.minutes) / np.maximum(total, 1)
    first = np.cumsum(total) - total
    part = minute * PARTS + (np.arange(n) - first[minute]) * PARTS // total[minute]
    cells = np.bincount(part, minlength=seen.minutes * PARTS)
    found = np.bincount(part[late], minlength=seen.minutes * PARTS)
    off = found - cells * np.repeat(share, PARTS)
    alone = float((total * share * (1.0 - share)).sum())
    inflation = max(1.0, float((off**2).sum()) * PARTS / (PARTS - 1) / max(alone, 1e-12))
    variance = inflation * alone / n**2
    p = count / n
    effective = min(float(n), p * (1.0 - p) / variance) if variance > 0.0 else float(n)
    low, high = clopper_pearson(p * effective, effective, LEVEL)
    return ShareEstimate(Interval(min(low, p), p, max(high, p), LEVEL), count, n, inflation)


def _quantile(objective: LatencyObjective, seen: Seen) -> str:
    value = _order(seen.log.times_s(objective.measure), objective.quantile)
    shown = f"{value * 1e3:.4g} ms" if math.isfinite(value) else "among the failures"
    return f"{objective.name} {'was' if math.isfinite(value) else 'lies'} {shown}"


def _order(times: FloatArray, quantile: float) -> float:
    return float(np.sort(times)[rank_of(len(times), quantile) - 1])


def _errors(most: float, seen: Seen) -> Comparison:
    """Errors only fail: the campaign judged them on many more requests."""
    failed = ~seen.log.ok
    share = share_interval(failed).interval
    verdict = Verdict.VIOLATED if share.low > most else Verdict.MET
    if verdict is Verdict.MET and share.mid > most:
        verdict = Verdict.INCONCLUSIVE
    sentence = (
        f"{int(failed.sum()):,} of {len(failed):,} requests failed ({share.mid:.3%}); "
        f"{most:.3%} is allowed."
    )
    return Comparison("errors", verdict, None, share.mid, most, sentence)


def _instances(seen: Seen, expected: Forecast) -> Comparison:
    """Instances may be late by the tolerance; more of them than forecast does no harm."""
    late = TOLERANCE_MIN
    floor = np.array(
        [expected.least_in_service[max(0, m - late) : m + 1].min() for m in range(seen.minutes)]
    )
    floor[:late] = np.minimum(floor[:late], expected.least_in_service[0])
    known = np.isfinite(seen.instances)
    peak = float(expected.likely.in_service.max())
    if not known.any():
        text = "No poll of the endpoint was answered, so nothing is known of its instances."
        return Comparison("instances", Verdict.INCONCLUSIVE, peak, None, None, text)
    short = known & (seen.instances < floor)
    most = float(seen.instances[known].max())
    if not short.any():
        text = (
            f"At most {most:.0f} instances were in service and {peak:.0f} were expected; never "
            f"more than {late} minutes behind the forecast."
        )
        return Comparison("instances", Verdict.MET, peak, most, None, text)
    m = int(np.argmax(short))
    text = (
        f"In minute {m + 1} {seen.instances[m]:.0f} instances were in service; by then the "
        f"forecast has had {floor[m]:.0f} for {late} minutes or more."
    )
    return Comparison(
        "instances", Verdict.VIOLATED, float(floor[m]), float(seen.instances[m]), None, text
    )


def _recovery(objective: LatencyObjective, seen: Seen, expected: Forecast) -> Comparison:
    """Minutes from the first bad one until the last is over."""
    total = np.bincount(_minute_index(seen), minlength=seen.minutes)
    late = np.bincount(_minute_index(seen)[seen.late(objective)], minlength=seen.minutes)
    bad = np.array(
        [
            n > 0 and clopper_pearson(k, n, SURE)[0] > objective.allowance
            for k, n in zip(late.tolist(), total.tolist(), strict=True)
        ]
    )
    took, forecast = _span(bad), _span(expected.worst_share > objective.allowance)
    limit = forecast + TOLERANCE_MIN
    open_end = bool(bad[-1])
    verdict = Verdict.VIOLATED if took > limit else Verdict.MET
    text = (
        f"{took} minutes passed from the first minute outside the SLO until it held for good"
        if took
        else "No minute was outside the SLO for sure"
    )
    if open_end:
        text += " (it did not, by the end of the replay)"
    text += f"; at most {forecast} were expected."
    return Comparison("recovery", verdict, float(forecast), float(took), float(limit), text)


def _span(bad: NDArray[np.bool_]) -> int:
    at = np.flatnonzero(bad)
    return int(at[-1] - at[0] + 1) if len(at) else 0


def _minute_index(seen: Seen) -> NDArray[np.int64]:
    index = (seen.log.scheduled_s / seen.minute_s).astype(np.int64)
    return np.minimum(index, seen.minutes - 1)


def _generator(seen: Seen) -> Comparison:
    if seen.void_reasons:
        text = "The load generator was the limit: " + "; ".join(seen.void_reasons) + "."
        return Comparison("generator", Verdict.INCONCLUSIVE, None, None, None, text)
    return Comparison(
        "generator", Verdict.MET, None, None, None, "The load generator kept its schedule."
    )


def _minutes(objective: LatencyObjective, seen: Seen, expected: Forecast) -> tuple[MinuteSeen, ...]:
    index, late = _minute_index(seen), seen.late(objective)
    times = seen.log.times_s(objective.measure)
    rows = []
    for m in range(seen.minutes):
        here = index == m
        n = int(np.count_nonzero(here))
        quantile = _order(times[here], objective.quantile) if n else math.inf
        count = seen.instances[m]
        rows.append(
            MinuteSeen(
                requests=n,
                late=int(np.count_nonzero(late & here)),
                p99_s=quantile if math.isfinite(quantile) else None,
                predicted_share=float(expected.likely.violation_share[m]),
                instances=int(count) if math.isfinite(count) else None,
                predicted_instances=float(expected.likely.in_service[m]),
            )
        )
    return tuple(rows)


def in_service_by_minute(
    samples: Sequence[tuple[float, int]], minutes: int, minute_s: float
) -> FloatArray:
    """The last count seen by the end of each minute, shape (minutes,).

    Parameters
    ----------
    samples
        Seconds since the replay began and instances in service, in order.
    """
    counts = np.full(minutes, np.nan)
    for at_s, count in samples:
        # A count stands until another one is seen.
        first = max(0, math.ceil(at_s / minute_s) - 1)
        counts[first:] = count
    return counts
