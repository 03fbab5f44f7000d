"""Data capture: what recording requests costs, and how much of them may be recorded.

SageMaker appends captured requests as JSON lines to files in S3. Three things cost: the bytes
that are kept, the PUT requests that write the files, and the time capturing takes from the
instance. The first two are arithmetic; the third is measured (``tuner capture``).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import StrEnum

from tuner.interval import Interval
from tuner.units import HOURS_PER_MONTH, MINUTES_PER_DAY

BYTES_PER_GB = 2**30
"""S3 bills in units of 2**30 bytes (Amazon S3 FAQ, "How will I be charged")."""
ENVELOPE_BYTES = 370
"""Keys, content types, event id, inference id and time around the two payloads of a record, in
the format of the SageMaker guide's chapter on data capture, for JSON content types and an empty
inference id."""
FILES_PER_INSTANCE_MIN = 1.0
"""How often an instance writes a file. AWS does not publish it; files a minute or more apart are
what users see. The PUT requests follow from it, and a plan may name another."""
DAYS_PER_MONTH = HOURS_PER_MONTH / 24.0
MINUTES_PER_MONTH = DAYS_PER_MONTH * MINUTES_PER_DAY

_STORAGE_TIERS = ((50.0 * 1024.0, 1.0), (500.0 * 1024.0, 0.022 / 0.023), (math.inf, 0.021 / 0.023))


@dataclass(frozen=True, slots=True)
class CapturePrices:
    """Prices of S3 Standard in USD: a stored GB for a month (first tier), a thousand PUTs.

    Defaults: Amazon S3 pricing page, us-east-1, S3 Standard. Later tiers of storage keep the
    price list's proportion to the first.
    """

    storage_usd_per_gb_month: float = 0.023
    put_usd_per_1000: float = 0.005
    source: str = "Amazon S3 pricing, S3 Standard, us-east-1"


S3_STANDARD = CapturePrices()


@dataclass(frozen=True, slots=True)
class CaptureLoad:
    """What there is to capture.

    Parameters
    ----------
    request_bytes, response_bytes
        Mean payload sizes as sent.
    requests_per_month
        On the traffic, in 30 days.
    instances
        Mean instances in service: each writes its own files.
    base64
        Whether payloads are stored as base64 (the default for content types that the
        configuration does not name as CSV or JSON), which takes four bytes for three.
    """

    request_bytes: float
    response_bytes: float
    requests_per_month: float
    instances: float
    base64: bool = True
    files_per_instance_min: float = FILES_PER_INSTANCE_MIN

    @property
    def record_bytes(self) -> float:
        """Bytes of one captured request in the file."""
        return ENVELOPE_BYTES + self._stored(self.request_bytes) + self._stored(self.response_bytes)

    def _stored(self, size: float) -> float:
        return 4.0 * math.ceil(size / 3.0) if self.base64 else size


@dataclass(frozen=True, slots=True)
class CaptureCost:
    """A month of capturing ``sampling_percent`` of the requests, with a full retention's store.

    ``stored_gb`` is what lies in S3 once the retention is full; before that it is less.
    """

    sampling_percent: float
    captured_per_month: float
    stored_gb: float
    put_requests_per_month: float
    storage_usd_per_month: float
    put_usd_per_month: float

    @property
    def usd_per_month(self) -> float:
        """Storage and PUT requests."""
        return self.storage_usd_per_month + self.put_usd_per_month


def capture_cost(
    load: CaptureLoad,
    sampling_percent: float,
    *,
    retention_days: float,
    prices: CapturePrices = S3_STANDARD,
) -> CaptureCost:
    """What a month costs once the retention is full.

    Parameters
    ----------
    sampling_percent
        0 to 100.
    retention_days
        After which a lifecycle rule deletes the files.
    """
    captured = load.requests_per_month * sampling_percent / 100.0
    stored_gb = captured / DAYS_PER_MONTH * retention_days * load.record_bytes / BYTES_PER_GB
    # An instance that captured nothing writes no file.
    files = load.instances * load.files_per_instance_min * MINUTES_PER_MONTH
    puts = min(captured, files)
    return CaptureCost(
        sampling_percent=sampling_percent,
        captured_per_month=captured,
        stored_gb=stored_gb,
        put_requests_per_month=puts,
        storage_usd_per_month=storage_usd(stored_gb, prices),
        put_usd_per_month=puts / 1000.0 * prices.put_usd_per_1000,
    )


def storage_usd(stored_gb: float, prices: CapturePrices) -> float:
    """A month of ``stored_gb``, tier by tier."""
    total, below = 0.0, 0.0
    for top, share in _STORAGE_TIERS:
        total += max(0.0, min(stored_gb, top) - below) * prices.storage_usd_per_gb_month * share
        below = top
    return total


class CaptureStanding(StrEnum):
    """What holds for one sampling percentage."""

    FITS = "fits"
    OVER_BUDGET = "over_budget"
    TOO_SLOW = "too_slow"
    UNCLEAR = "unclear"
    NOT_MEASURED = "not_measured"


@dataclass(frozen=True, slots=True)
class CaptureEffect:
    """Latency with capture on over latency with it off, under the same arrivals.

    ``rate_per_instance_per_s`` is the load it was measured at.
    """

    sampling_percent: int
    p99_ratio: Interval
    mean_ratio: Interval
    p_value: float
    requests: int
    rate_per_instance_per_s: float


@dataclass(frozen=True, slots=True)
class CaptureRules:
    """What is asked: percentages to look at, a budget, an allowance on p99."""

    sampling_percent: tuple[int, ...]
    budget_usd_per_month: float | None
    p99_allowance: float
    retention_days: float
    destination: str | None = None
    prices: CapturePrices = S3_STANDARD


@dataclass(frozen=True, slots=True)
class CaptureOption:
    """One percentage with its cost, its effect on latency if measured, and where it stands."""

    sampling_percent: int
    cost: CaptureCost | None
    effect: CaptureEffect | None
    standing: CaptureStanding


@dataclass(frozen=True, slots=True)
class CaptureDecision:
    """How much to capture.

    Parameters
    ----------
    sampling_percent
        The highest that fits the budget and leaves p99 inside the allowance; None when that
        is not known, 0 when none does.
    affordable_percent
        The highest that fits the budget alone; None without sizes.
    load
        What the costs rest on; None when a payload size is unknown.
    """

    rules: CaptureRules
    load: CaptureLoad | None
    options: tuple[CaptureOption, ...]
    sampling_percent: int | None
    affordable_percent: int | None
    sentence: str

    @property
    def cost(self) -> CaptureCost | None:
        """The cost of what was decided."""
        if self.sampling_percent is None or self.load is None:
            return None
        rules = self.rules
        return capture_cost(
            self.load,
            self.sampling_percent,
            retention_days=rules.retention_days,
            prices=rules.prices,
        )


def affordable(load: CaptureLoad, rules: CaptureRules) -> int:
    """The highest whole percentage inside the budget, 0 to 100."""
    if rules.budget_usd_per_month is None:
        return 100
    for percent in range(100, 0, -1):
        cost = capture_cost(load, percent, retention_days=rules.retention_days, prices=rules.prices)
        if cost.usd_per_month <= rules.budget_usd_per_month:
            return percent
    return 0


def decide_capture(
    rules: CaptureRules, load: CaptureLoad | None, effects: tuple[CaptureEffect, ...] = ()
) -> CaptureDecision:
    """The highest sampling that fits the budget and leaves p99 inside the allowance.

    Capturing less cannot slow requests more: a percentage below one that was measured inside
    the allowance is inside it too.
    """
    known = {e.sampling_percent: e for e in effects}
    percents = sorted({*rules.sampling_percent, *known} - {0})
    top = None if load is None else affordable(load, rules)
    quick = [p for p, e in known.items() if e.p99_ratio.high <= 1.0 + rules.p99_allowance]
    slow = [p for p, e in known.items() if e.p99_ratio.low > 1.0 + rules.p99_allowance]
    quick_to = max(quick, default=0)
    options = tuple(_option(p, rules, load, known.get(p), top, quick_to) for p in percents)
    chosen: int | None = None
    if top == 0:
        chosen = 0
    elif top is not None and quick:
        chosen = min(top, quick_to)
    elif slow and min(slow) <= min(percents):
        chosen = 0
    return CaptureDecision(
        rules, load, options, chosen, top, _sentence(rules, load, known, chosen, top)
    )


def _option(
    percent: int,
    rules: CaptureRules,
    load: CaptureLoad | None,
    effect: CaptureEffect | None,
    top: int | None,
    quick_to: int,
) -> CaptureOption:
    limit = 1.0 + rules.p99_allowance
    cost = None
    if load is not None:
        cost = capture_cost(load, percent, retention_days=rules.retention_days, prices=rules.prices)
    standing = CaptureStanding.FITS
    if top is not None and percent > top:
        standing = CaptureStanding.OVER_BUDGET
    elif percent <= quick_to:
        pass
    elif effect is None:
        standing = CaptureStanding.NOT_MEASURED
    elif effect.p99_ratio.low > limit:
        standing = CaptureStanding.TOO_SLOW
    elif effect.p99_ratio.high > limit:
        standing = CaptureStanding.UNCLEAR
    return CaptureOption(percent, cost, effect, standing)


def _sentence(
    rules: CaptureRules,
    load: CaptureLoad | None,
    known: dict[int, CaptureEffect],
    chosen: int | None,
    top: int | None,
) -> str:
    allowance = f"{rules.p99_allowance:.0%}"
    if load is None:
        return (
            "What data capture costs is not known without the size of an answer: give "
            "data_capture.response_bytes, or measure with `tuner capture`."
        )
    assert top is not None
    budget = rules.budget_usd_per_month
    money = "no budget is set" if budget is None else f"{budget:g} USD a month pay for {top} %"
    if top == 0:
        return f"Not even 1 % of the requests fits {budget:g} USD a month: leave data capture off."
    if chosen == 0:
        return (
            f"Leave data capture off: it slows p99 by more than the {allowance} allowed even at "
            f"{min(known)} % sampling."
        )
    if chosen is not None:
        best = max(e for e in known if known[e].p99_ratio.high <= 1.0 + rules.p99_allowance)
        effect = known[best]
        return (
            f"Capture {chosen} % of the requests: at {best} % p99 was x{effect.p99_ratio.mid:.3f} "
            f"({effect.p99_ratio.low:.3f} to {effect.p99_ratio.high:.3f}), inside the {allowance} "
            f"allowed; {money}."
        )
    if not known:
        return (
            f"{money[0].upper()}{money[1:]}; how much capturing slows requests was not measured: "
            "`tuner capture PLAN --run RUN` does that."
        )
    return (
        f"No sampling percentage was shown to keep p99 inside {allowance}: measure for longer "
        "(`tuner capture --minutes`), or at smaller percentages."
    )
