"""How a new release is let in: canary size, waiting time, and the alarms that take it back.

Alarms look at the new fleet alone: AWS publishes a variant's metrics also by the name of the
endpoint configuration, which differs between the old and the new fleet.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from tuner.campaign.canary import CanaryTest, MinutePair, Side, minutes_to_see
from tuner.errors import InsufficientDataError
from tuner.slo import LatencyObjective, Measure, Slo
from tuner.stats.proportions import independent_share
from tuner.stats.sequences import START
from tuner.units import SECONDS_PER_MINUTE, s_to_us

LONGEST_WAIT_S = 3600
"""AWS's limit of ``WaitIntervalInSeconds``."""
LARGEST_PERCENT = 50
"""AWS's limit of a canary in percent of capacity."""
STEP_PERCENT = 5
PUBLISH_S = 120
"""CloudWatch shows a minute's metrics up to two minutes late."""
FALSE_ALARM = 0.01
"""Probability that a release as good as the old one is rolled back by latency alarms."""
SEEN = 0.9
"""Chance with which an alarm sees the slow-down it is said to see."""
PERIODS_S = ((60, 3), (300, 2))
"""Length of an alarm's period, and how many in a row must be too high."""
USUAL_ERROR_SHARE = 0.01
LAUNCH_S = 3600
LONGEST_EXECUTION_S = 28_800

STATISTICS: tuple[tuple[str, float | None], ...] = (
    ("Average", None),
    ("p50", 0.5),
    ("p90", 0.9),
    ("p95", 0.95),
    ("p99", 0.99),
)
"""CloudWatch's statistics of ModelLatency that are tried, with their quantiles."""


@dataclass(frozen=True, slots=True)
class Alarm:
    """A CloudWatch alarm on the new fleet.

    Parameters
    ----------
    threshold
        In the metric's own unit: microseconds for ModelLatency, a share for errors.
    sees
        Smallest slow-down of the new fleet that it sees nine times in ten; None where the
        threshold is a limit of its own.
    """

    name: str
    metric_name: str
    statistic: str
    threshold: float
    period_s: int
    periods: int
    sees: float | None
    sentence: str

    @property
    def time_s(self) -> int:
        """From the first slow request to the alarm."""
        return self.period_s * (self.periods + 1) + PUBLISH_S


@dataclass(frozen=True, slots=True)
class Deployment:
    """A blue/green canary deployment with its reasons.

    ``minutes_to_see`` is what the stated slow-down takes at this size; None when more than an
    hour, AWS's longest wait, would be needed at every size.
    """

    size_percent: int
    wait_s: int
    termination_wait_s: int
    timeout_s: int
    alarms: tuple[Alarm, ...]
    minutes_to_see: int | None
    sentences: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Release:
    """What is known of the endpoint a release goes to.

    Parameters
    ----------
    rate_per_s
        Requests a second of the whole endpoint while the release is let in.
    instance_count
        Its instances: a canary is at least one of them.
    minute_s
        Length of the test's "minutes".
    beyond_model_s
        What clients wait beyond ModelLatency.
    size_percent
        The canary's size where it is given.
    """

    rate_per_s: float
    instance_count: int
    minute_s: float = SECONDS_PER_MINUTE
    beyond_model_s: float = 0.0
    size_percent: int | None = None


def plan_deployment(
    pairs: Sequence[MinutePair], test: CanaryTest, slo: Slo, release: Release
) -> Deployment:
    """Work out how a release like the candidate is to be let in.

    Raises
    ------
    InsufficientDataError
        With fewer minutes than a first look takes.
    """
    known = [p for p in pairs if not math.isnan(p.baseline.mean_ln + p.candidate.mean_ln)]
    if len(known) < START:
        raise InsufficientDataError(
            "too few minutes for a waiting time and alarm thresholds",
            value=len(known),
            allowed=f"at least {START}",
            hint="run the canary again, for longer",
        )
    size, minutes = _size(known, test, release)
    alarms = _alarms([p.baseline for p in known], slo, release, size)
    alarm_s = max(a.time_s for a in alarms)
    seen_s = LONGEST_WAIT_S if minutes is None else round(minutes * SECONDS_PER_MINUTE)
    wait = min(LONGEST_WAIT_S, max(seen_s, alarm_s))
    timeout = min(LONGEST_EXECUTION_S, wait + alarm_s + LAUNCH_S)
    return Deployment(
        size,
        wait,
        alarm_s,
        timeout,
        alarms,
        minutes,
        (_size_sentence(size, minutes, test, release), *(a.sentence for a in alarms)),
    )


def _size(
    known: Sequence[MinutePair], test: CanaryTest, release: Release
) -> tuple[int, int | None]:
    """The smallest canary that shows the slow-down within AWS's longest wait."""
    smallest = max(STEP_PERCENT, math.ceil(100 / release.instance_count / STEP_PERCENT) * 5)
    sizes = range(min(smallest, LARGEST_PERCENT), LARGEST_PERCENT + 1, STEP_PERCENT)
    minutes = None
    for size in [release.size_percent] if release.size_percent is not None else sizes:
        try:
            minutes = minutes_to_see(_sd_in_production(known, release, size / 100), test)
        except InsufficientDataError:
            continue
        if minutes * SECONDS_PER_MINUTE <= LONGEST_WAIT_S:
            return size, minutes
    return release.size_percent or LARGEST_PERCENT, None


def _sd_in_production(known: Sequence[MinutePair], release: Release, share: float) -> float:
    """Standard deviation of a production minute's difference of mean logarithms.

    Two fleets under their own shares of the traffic are not paired.
    """
    parts = []
    for sides, part in (
        ([p.candidate for p in known], share),
        ([p.baseline for p in known], 1.0 - share),
    ):
        variance = float(np.var([s.mean_ln for s in sides], ddof=1))
        parts.append(variance * _noisier(sides, release, part))
    return math.sqrt(sum(parts))


def _noisier(sides: Sequence[Side], release: Release, share: float) -> float:
    """Factor from the variance of the test's minute to a minute at a share of production.

    More requests a second are not taken to make it quieter: some noise is common to them.
    """
    tested = float(np.mean([s.requests for s in sides]))
    there = share * release.rate_per_s * SECONDS_PER_MINUTE
    return max(release.minute_s / SECONDS_PER_MINUTE, tested / there)


def _size_sentence(size: int, minutes: int | None, test: CanaryTest, release: Release) -> str:
    head = f"A canary of {size} % at {release.rate_per_s:.4g} requests/s"
    if minutes is None:
        return (
            f"{head} cannot show a slow-down of {test.slower_by:.1%} within AWS's longest wait of "
            "an hour: find it with tuner canary before the release."
        )
    return (
        f"{head} shows a slow-down of {test.slower_by:.1%} within {minutes} minutes, "
        "nine times in ten."
    )


def _alarms(
    baseline: Sequence[Side], slo: Slo, release: Release, size_percent: int
) -> tuple[Alarm, ...]:
    # ModelLatency is the time to the last byte; AWS has no statistic of first chunks here.
    whole = (o for o in slo.objectives if o.measure is Measure.LATENCY)
    return (
        _slow_alarm(baseline, release, size_percent),
        *(_slo_alarm(baseline, objective, release) for objective in whole),
        _error_alarm(baseline, slo),
    )


def _slow_alarm(baseline: Sequence[Side], release: Release, size_percent: int) -> Alarm:
    """The statistic and period that see the smallest slow-down without false alarms."""
    noisier = _noisier(baseline, release, size_percent / 100)
    tries = [
        _threshold(baseline, statistic, quantile, period_s, periods, noisier, release)
        for statistic, quantile in STATISTICS
        for period_s, periods in PERIODS_S
    ]
    known = [t for t in tries if t is not None]
    if not known:
        raise InsufficientDataError(
            "clients waited less than what is outside of the model: no threshold follows",
            value=release.beyond_model_s,
        )
    sees, threshold_s, statistic, period_s, periods = min(known)
    threshold = float(math.ceil(round(s_to_us(threshold_s), 3)))
    sentence = (
        f"Roll back when ModelLatency {statistic} of the new fleet is above {threshold:,.0f} "
        f"microseconds for {periods} periods of {period_s} s: this sees a slow-down of "
        f"{sees:.0%} nine times in ten, and takes a release as good as the old one back at most "
        f"once in {round(1 / FALSE_ALARM)}."
    )
    return Alarm(
        "slow", "ModelLatency", statistic, threshold, period_s, periods, sees, sentence
    )  # fmt: skip


def _threshold(
    baseline: Sequence[Side],
    statistic: str,
    quantile: float | None,
    period_s: int,
    periods: int,
    noisier: float,
    release: Release,
) -> tuple[float, float, str, int, int] | None:
    """(slow-down seen, threshold in s, ...) from the baseline's minutes.

    A prediction bound for a future period's statistic, taken as lognormal, with the chance of
    a false alarm shared out over all periods of the longest wait: whatever their dependence,
    they do not add up to more than `FALSE_ALARM`.

    References
    ----------
    Hahn, G. J. and Meeker, W. Q., Statistical Intervals, 1991, section 4.7.
    """
    from scipy.special import chdtri, ndtri, stdtrit

    values = np.array([statistic_s(s, quantile) for s in baseline]) - release.beyond_model_s
    if values.min() <= 0.0:
        return None
    ln = np.log(values)
    n = len(ln)
    sd = float(np.std(ln, ddof=1)) * math.sqrt(noisier * SECONDS_PER_MINUTE / period_s)
    tail = FALSE_ALARM * period_s / LONGEST_WAIT_S
    reach = float(stdtrit(n - 1, 1.0 - tail)) * math.sqrt(1.0 + 1.0 / n) * sd
    # The statistic with the smallest spread seen is taken, so that its spread is doubted.
    doubted = sd * math.sqrt((n - 1) / float(chdtri(n - 1, SEEN))) * math.sqrt(1.0 + 1.0 / n)
    power = float(ndtri(SEEN ** (1.0 / periods))) * doubted
    threshold = math.exp(float(ln.mean()) + reach)
    return math.expm1(reach + power), threshold, statistic, period_s, periods


def statistic_s(side: Side, quantile: float | None) -> float:
    """CloudWatch's statistic of a minute's answered requests, in seconds; None is the mean."""
    if quantile is not None:
        return side.answered.quantile_s(quantile)
    return float(np.average(side.answered.middles_s(), weights=side.answered.count))


def _slo_alarm(baseline: Sequence[Side], objective: LatencyObjective, release: Release) -> Alarm:
    """Rolls back what breaks the SLO, whatever its cause."""
    usual = max(statistic_s(s, objective.quantile) for s in baseline)
    limit = objective.threshold_s
    held = usual < limit
    # A baseline that breaks the SLO itself would roll every release back.
    threshold_s = (limit if held else usual) - release.beyond_model_s
    threshold = float(math.floor(round(s_to_us(max(threshold_s, 1e-6)), 3)))
    why = f"the SLO of {objective.name}" if held else f"the baseline's worst minute ({usual:.3g} s)"
    period_s, periods = PERIODS_S[0]
    sentence = (
        f"Roll back when ModelLatency {objective.name} of the new fleet is above "
        f"{threshold:,.0f} microseconds for {periods} periods of {period_s} s: {why}, less what "
        "clients wait beyond the model."
    )
    name = f"slo-{objective.name.replace('.', '-')}"
    return Alarm(
        name, "ModelLatency", objective.name, threshold, period_s, periods, None, sentence
    )  # fmt: skip


def _error_alarm(baseline: Sequence[Side], slo: Slo) -> Alarm:
    """Rolls back what fails more than the SLO allows and the baseline does."""
    allowed = USUAL_ERROR_SHARE if slo.max_error_rate is None else slo.max_error_rate
    failures, n = sum(s.failures for s in baseline), sum(s.requests for s in baseline)
    usual = independent_share(failures, n, level=0.99).interval.high
    threshold = math.ceil(max(allowed, usual) * 1e5) / 1e5
    period_s, periods = PERIODS_S[0]
    sentence = (
        f"Roll back when more than {threshold:.3%} of the new fleet's requests end with 5xx for "
        f"{periods} periods of {period_s} s."
    )
    return Alarm(
        "errors", "Invocation5XXErrors", "Average", threshold, period_s, periods, None, sentence
    )  # fmt: skip
