"""Two variants under the same arrivals, minute by minute: is the new one slower?

The answer may be looked at after every minute. Two running comparisons are kept, of the mean
logarithm of latency and of the share of late requests; each interval holds at all minutes at
once, so that stopping at the first clear answer costs no confidence.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import cache

import numpy as np
from numpy.typing import NDArray

from tuner.campaign.evidence import needs_requests
from tuner.campaign.types import StageResult
from tuner.errors import InsufficientDataError
from tuner.interval import Interval
from tuner.slo import LatencyObjective
from tuner.stats.histogram import LatencyHistogram, Window
from tuner.stats.requests import FloatArray
from tuner.stats.sequences import START, mean_radius, mean_sequence

CLEAR = 1.645
"""Standard errors of a correlation of minutes that count as a clear sign of it."""
MOST_LASTING = 0.8
LONGEST_MINUTES = 100_000
"""A test that needs longer than this is called impossible."""


class CanaryVerdict(StrEnum):
    """What the minutes so far say."""

    NOT_SLOWER = "NOT_SLOWER"
    SLOWER = "SLOWER"
    OPEN = "OPEN"


@dataclass(frozen=True, slots=True)
class CanaryTest:
    """What is asked.

    Parameters
    ----------
    slower_by
        The slow-down that must not go unseen, as a share of latency: 0.05 is 5 %.
    late_allowance
        Rise of the share of late requests that must not go unseen: what the SLO allows.
    alpha
        Probability of a false alarm, whenever and however often one looks.
    max_minutes
        After so many minutes an open question stays open.
    max_error_share
        A candidate that fails more than this share of a minute's requests is stopped at once.
    """

    slower_by: float
    late_allowance: float
    alpha: float = 0.05
    max_minutes: int = 120
    max_error_share: float = 0.5

    def __post_init__(self) -> None:
        if not self.slower_by > 0.0 or not self.late_allowance > 0.0:
            raise ValueError(f"nothing to look for: {self.slower_by}, {self.late_allowance}")
        if not 0.0 < self.alpha < 1.0:
            raise ValueError(f"alpha must be inside (0, 1): {self.alpha}")

    @property
    def ln_limit(self) -> float:
        """``slower_by`` as a difference of logarithms."""
        return math.log1p(self.slower_by)

    @property
    def level(self) -> float:
        """Confidence of either interval: two tails can raise an alarm, each of alpha / 2."""
        return 1.0 - self.alpha


@dataclass(frozen=True, slots=True)
class Side:
    """One variant's minute. Times in seconds; statistics are of answered requests.

    ``late`` and ``mean_ln`` are of the time the SLO is about (failures are late; NaN when
    nothing was answered), ``answered`` is always of the whole latency.
    """

    requests: int
    failures: int
    late: int
    mean_ln: float
    answered: LatencyHistogram

    @property
    def late_share(self) -> float:
        """Share of requests that failed or were late."""
        return self.late / self.requests

    @property
    def error_share(self) -> float:
        """Share of requests that failed."""
        return self.failures / self.requests


@dataclass(frozen=True, slots=True)
class MinutePair:
    """A minute of both variants under the same arrivals."""

    number: int
    baseline: Side
    candidate: Side


@dataclass(frozen=True, slots=True)
class Look:
    """What is known after so many minutes.

    Parameters
    ----------
    minutes
        Pairs the answer rests on.
    slower
        Candidate's latency over the baseline's, less one (geometric mean); None before the
        first look.
    late
        Difference of the shares of late requests; None before the first look.
    minutes_needed
        Minutes a test of this variability takes to see ``slower_by`` nine times in ten.
    """

    verdict: CanaryVerdict
    minutes: int
    slower: Interval | None
    late: Interval | None
    minutes_needed: int | None
    sentence: str


def side_of(result: StageResult, objective: LatencyObjective) -> Side:
    """One variant's minute from its stage.

    Raises
    ------
    InsufficientDataError
        If the stage has no requests, or was not kept as the objective needs it.
    """
    if result.requests == 0:
        raise InsufficientDataError(
            "a minute without a request cannot be compared",
            hint="offer a higher rate, or compare over longer intervals",
        )
    whole = Window.merge(result.windows)
    log = result.log
    if log is None:
        if objective.measure.streamed:
            raise needs_requests(objective)
        middles, count = whole.ok.middles_s(), whole.ok.count
        late = whole.failures + int(count[middles > objective.threshold_s].sum())
        mean_ln = float(np.average(np.log(middles), weights=count)) if count.size else math.nan
        return Side(whole.total, whole.failures, late, mean_ln, whole.ok)
    times = log.times_s(objective.measure)
    good = times[np.isfinite(times)]
    return Side(
        len(log),
        int(np.count_nonzero(~log.ok)),
        int(np.count_nonzero(~(times <= objective.threshold_s))),
        float(np.mean(np.log(np.maximum(good, 1e-9)))) if good.size else math.nan,
        whole.ok,
    )


def look(pairs: Sequence[MinutePair], test: CanaryTest) -> Look:
    """What the pairs so far say; pairs in time order."""
    broken = _broken(pairs, test)
    if broken is not None:
        return broken
    known = [p for p in pairs if not math.isnan(p.baseline.mean_ln + p.candidate.mean_ln)]
    if len(known) < START:
        sentence = f"{len(known)} of the {START} minutes before the first look"
        return Look(CanaryVerdict.OPEN, len(known), None, None, None, sentence)
    ln = np.array([p.candidate.mean_ln - p.baseline.mean_ln for p in known])
    late = np.array([p.candidate.late_share - p.baseline.late_share for p in known])
    ln_ratio = mean_sequence(ln, level=test.level, least_variance=_lasting(ln))
    independent = _least_variance(known)
    rise = mean_sequence(late, level=test.level, least_variance=max(independent, _lasting(late)))
    slower = Interval(
        math.expm1(ln_ratio.low), math.expm1(ln_ratio.mid), math.expm1(ln_ratio.high), test.level
    )
    verdict, sentence = _decide(ln_ratio, slower, rise, test)
    needed = minutes_to_see(float(np.std(ln, ddof=1)), test, chance=0.9)
    return Look(verdict, len(known), slower, rise, needed, sentence)


def _broken(pairs: Sequence[MinutePair], test: CanaryTest) -> Look | None:
    """The end at once when the candidate fails where the baseline does not."""
    if not pairs:
        return None
    last = pairs[-1]
    share, other = last.candidate.error_share, last.baseline.error_share
    if share <= test.max_error_share or other > test.max_error_share:
        return None
    sentence = (
        f"the candidate failed {share:.1%} of the requests of minute {last.number + 1}, "
        f"the baseline {other:.1%}"
    )
    return Look(CanaryVerdict.SLOWER, len(pairs), None, None, None, sentence)


def _least_variance(pairs: Sequence[MinutePair]) -> float:
    """Variance of a minute's difference of shares if requests were independent.

    With one late request added, so that minutes without any are not taken for certainty.
    """
    late = sum(p.baseline.late + p.candidate.late for p in pairs)
    n = sum(p.baseline.requests + p.candidate.requests for p in pairs)
    share = (late + 1.0) / (n + 2.0)
    return 4.0 * len(pairs) * share * (1.0 - share) / n


def _lasting(differences: FloatArray) -> float:
    """Variance as if of independent minutes, where a minute clearly takes after the last one.

    One variant's slow spells outlast a minute. The factor is that of a first-order
    autoregressive series; without a clear sign of one, nothing is widened.
    """
    n = len(differences)
    centred = differences - differences.mean()
    total = float(np.sum(centred**2))
    if total == 0.0:
        return 0.0
    r = float(np.sum(centred[1:] * centred[:-1])) / total + 1.0 / n
    if r <= CLEAR / math.sqrt(n):
        return 0.0
    r = min(r, MOST_LASTING)
    return total / (n - 1) * (1.0 + r) / (1.0 - r)


def _decide(
    ln_ratio: Interval, slower: Interval, late: Interval, test: CanaryTest
) -> tuple[CanaryVerdict, str]:
    shown = f"{slower.mid:+.1%} ({slower.low:+.1%} to {slower.high:+.1%})"
    limit = f"{test.slower_by:.3g}"
    if ln_ratio.high < test.ln_limit and late.high < test.late_allowance:
        return CanaryVerdict.NOT_SLOWER, (
            f"latency differs by {shown}: less than the {float(limit):.1%} that had to be seen"
        )
    if ln_ratio.low > 0.0:
        return CanaryVerdict.SLOWER, f"the candidate is slower: latency differs by {shown}"
    if late.low > 0.0:
        return CanaryVerdict.SLOWER, (
            f"the candidate is late or fails more often, by {late.mid:.2%} of requests "
            f"({late.low:.2%} to {late.high:.2%})"
        )
    return CanaryVerdict.OPEN, f"open: latency differs by {shown}"


def minutes_to_see(sd_ln: float, test: CanaryTest, *, chance: float = 0.9) -> int:
    """Minutes until a slow-down of ``slower_by`` is seen with this chance.

    By symmetry also until it is excluded when there is none.

    Parameters
    ----------
    sd_ln
        Standard deviation of a minute's difference of mean logarithms.
    chance
        Probability of an answer by then.

    Raises
    ------
    InsufficientDataError
        If more than `LONGEST_MINUTES` would be needed.

    References
    ----------
    The radius is that of `tuner.stats.sequences.mean_sequence`. The running mean varies by its
    standard error, and the radius by that of the standard deviation it is made from, one part
    in sqrt(2 (n - 1)) for normal differences.
    """
    if sd_ln == 0.0:
        return START
    n, reach = _reach(test.level, chance)
    enough = n[sd_ln * reach < test.ln_limit]
    if not enough.size:
        raise InsufficientDataError(
            "no test of a reasonable length can see this slow-down",
            value=f"{test.slower_by:.1%} at a minute's variability of {sd_ln:.1%}",
            hint="ask for a larger slow-down, or offer a higher rate",
        )
    return int(enough[0])


@cache
def _reach(level: float, chance: float) -> tuple[NDArray[np.int64], FloatArray]:
    """Minutes, and the difference seen by then, in standard deviations of one minute."""
    from scipy.special import ndtri

    n = np.unique(np.geomspace(START, LONGEST_MINUTES, 4000).astype(np.int64))
    radius = mean_radius(n, 1.0, level=level)
    spread = np.sqrt(1.0 / n + radius**2 / (2.0 * (n - 1.0)))
    return n, np.asarray(radius + float(ndtri(chance)) * spread)
