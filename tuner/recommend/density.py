"""How many models an instance of a multi-model endpoint can hold inside the SLO."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from tuner.campaign.models import ModelStage
from tuner.interval import Interval
from tuner.recommend.constraints import survivors
from tuner.recommend.density_types import Density, DensityRow
from tuner.recommend.memory_fit import (
    LEAST_COLD,
    ColdSplit,
    MemoryFit,
    cold_counts,
    contradiction,
    fit_memory,
    split_cold,
)
from tuner.recommend.types import NOTHING_LOST, Resilience
from tuner.slo import Measure, Slo, Verdict
from tuner.stats.proportions import clopper_pearson, exceedance_interval
from tuner.stats.quantiles import quantile_interval
from tuner.workload.models import ModelMix

HOURS_PER_MONTH = 720.0
LEAST_REQUESTS = 500


@dataclass(frozen=True, slots=True)
class Need:
    """What the endpoint as a whole has to do.

    ``peak_per_s`` is of the whole endpoint; None asks for memory alone.
    """

    mix: ModelMix
    peak_per_s: float | None = None
    resilience: Resilience = NOTHING_LOST
    price_per_hour_usd: float | None = None
    level: float = 0.95


@dataclass(frozen=True, slots=True)
class _Objective:
    allowed: float
    threshold_s: float


def decide_density(stages: Sequence[ModelStage], slo: Slo, need: Need) -> Density:
    """Say how many models an instance can hold, from a sweep on one instance.

    With a sound memory fit the limit is the largest number whose share of late requests,
    cold and warm together, stays inside every objective; else it lies between the largest
    measured number that held and the smallest that did not. What is recommended was itself
    measured and held.

    Raises
    ------
    ValueError
        If there is no stage.
    """
    if not stages:
        raise ValueError("no stage was measured")
    ordered = sorted(stages, key=lambda s: s.models)
    split = split_cold(ordered)
    by_aws = all(s.hit_ratio is not None for s in ordered)
    objectives = _objectives(slo)
    rows = tuple(_row(s, split, objectives, need) for s in ordered)
    refusals = [] if objectives else ["the SLO has no latency objective and no error rate"]
    if min(s.requests for s in ordered) < LEAST_REQUESTS:
        refusals.append(f"a stage has fewer than {LEAST_REQUESTS} requests; measure longer")
    # Without a valley a plain answer is still sound while every stage holds the SLO.
    fit = fit_memory(ordered, split, need.level) if split.clear else None
    if fit is not None and fit.sound and (odd := contradiction(ordered, fit, split)):
        fit = replace(fit, sound=False, sentence=odd)
    found: Interval | None = None
    method, why = "none", list[str]()
    if not refusals and fit is not None and fit.sound:
        found, why = _by_memory(ordered, split, fit, objectives, need)
        found = _capped(found, rows)
        method = "memory"
    elif not refusals:
        found, why = _by_bracket(rows, need)
        method = "bracket"
        if fit is not None:
            why.append(fit.sentence)
    verdict, more = _verdict(found, rows, need, refusals)
    refusals += more
    recommended = _measured(rows, found) if verdict is Verdict.MET else None
    return Density(
        verdict=verdict,
        total_models=len(need.mix),
        models_per_instance=found,
        recommended=recommended,
        min_instances=None if recommended is None else _instances(recommended, need),
        method=method,
        rate_per_s=max(s.rate_per_s for s in ordered),
        slots=fit.slots if fit is not None else None,
        rows=rows,
        cold_seen_by="ModelCacheHit" if by_aws else ("latency" if split.clear else "nothing"),
        cold_threshold_s=split.threshold_s,
        sentences=(*why, *([fit.sentence] if fit and fit.sentence not in why else [])),
        refusals=tuple(refusals),
    )


def next_count(
    stages: Sequence[ModelStage], slo: Slo, need: Need, *, precision: float = 0.1, most: int = 10
) -> int | None:
    """How many models to measure next; None when the answer is as sharp as asked."""
    total = len(need.mix)
    tried = {s.models for s in stages}
    if len(stages) >= most:
        return None
    if not stages:
        return min(total, 4)
    top = max(tried)
    seen = decide_density(stages, slo, need)
    found = seen.models_per_instance
    failing = [r.models for r in seen.rows if r.verdict is Verdict.VIOLATED]
    if not failing:
        return None if top == total else min(2 * top, total)
    if seen.method == "memory" and found is not None and seen.slots is not None:
        # One number where misses are sure to show, and one that can be planned with: just
        # below the limit, where a stage can still hold the SLO clearly.
        above = math.ceil(1.2 * found.mid)
        held = seen.recommended or 0
        shown = any(abs(t - above) <= precision * above for t in tried)
        if shown and held >= (1.0 - 0.5 * precision) * found.mid - 0.5:
            return None
        below = [round(share * found.mid) for share in (0.95, 0.92, 0.89, 0.85)]
        wanted = [*([] if shown else [above]), *(k for k in below if k > held)]
    else:
        worst = min(failing)
        held = max((r.models for r in seen.rows if r.verdict is Verdict.MET), default=1)
        if worst - 1 - held <= precision * held:
            return None
        middle = math.sqrt(held * worst)
        wanted = sorted(range(held + 1, worst), key=lambda k: abs(k - middle))
    return next((k for k in wanted if 1 <= k <= total and k not in tried), None)


def _objectives(slo: Slo) -> list[_Objective]:
    found = [
        _Objective(1.0 - o.quantile, o.threshold_s)
        for o in slo.objectives
        if o.measure is Measure.LATENCY
    ]
    if slo.max_error_rate is not None:
        found.append(_Objective(slo.max_error_rate, math.inf))
    return found


def _late(stage: ModelStage, objective: _Objective) -> np.ndarray[tuple[int], np.dtype[np.bool_]]:
    failed = np.isinf(stage.latency_s)
    return np.asarray(failed | (stage.latency_s > objective.threshold_s))


def _row(
    stage: ModelStage, split: ColdSplit, objectives: Sequence[_Objective], need: Need
) -> DensityRow:
    verdicts, shares = [], []
    for o in objectives:
        threshold = min(o.threshold_s, 1e12)
        seen = exceedance_interval(stage.latency_s, threshold, level=need.level).interval
        shares.append((seen.mid / o.allowed if o.allowed > 0.0 else math.inf, seen, o.allowed))
        held = seen.high <= o.allowed
        broken = seen.low > o.allowed
        verdicts.append(
            Verdict.MET if held else Verdict.VIOLATED if broken else Verdict.INCONCLUSIVE
        )
    order = (Verdict.VIOLATED, Verdict.INCONCLUSIVE, Verdict.MET)
    verdict = next((v for v in order if v in verdicts), Verdict.INCONCLUSIVE)
    count = float(cold_counts([stage], split)[0])
    low, high = clopper_pearson(count, stage.requests, need.level)
    cold = Interval(low, count / stage.requests, high, need.level)
    warm = stage.latency_s[~split.cold(stage.latency_s)] if split.clear else stage.latency_s
    p99 = quantile_interval(stage.latency_s, 0.99, level=need.level)
    _, late, allowed = max(shares, key=lambda s: s[0], default=(0.0, cold, 1.0))
    instances = _instances(stage.models, need, stage.rate_per_s)
    price = need.price_per_hour_usd
    return DensityRow(
        stage.models,
        stage.rate_per_s,
        stage.requests,
        p99.interval,
        float(np.quantile(warm, 0.99, method="inverted_cdf"))
        if split.clear and len(warm)
        else None,
        late,
        allowed,
        cold,
        verdict,
        instances,
        None if price is None else instances * price * HOURS_PER_MONTH,
    )


def _instances(density: int, need: Need, rate_per_s: float | None = None) -> int:
    """Fewest instances that hold every model (and the peak) after the allowed loss."""
    wanted = math.ceil(len(need.mix) / density)
    if rate_per_s is not None and need.peak_per_s is not None:
        wanted = max(wanted, math.ceil(need.peak_per_s / rate_per_s - 1e-9))
    count = wanted
    while int(survivors(need.resilience, count)) < wanted:
        count += 1
    return count


def _by_memory(
    stages: Sequence[ModelStage],
    split: ColdSplit,
    fit: MemoryFit,
    objectives: Sequence[_Objective],
    need: Need,
) -> tuple[Interval | None, list[str]]:
    """The largest number of models whose late share stays inside every objective."""
    rate = max(s.rate_per_s for s in stages)
    ends: list[tuple[int, int, int]] = []
    for o in objectives:
        warm_late, cold_late = _late_shares(stages, split, o, need.level)

        def most(slots: float, warm: float, cold: float, allowed: float = o.allowed) -> int:
            def holds(count: int) -> bool:
                shares = need.mix.first(count).shares
                miss = fit.cold_share(shares, rate, slots, split.hidden_s)
                return warm + miss * max(cold - warm, 0.0) <= allowed

            return _largest(holds, len(need.mix))

        high = fit.slots.high if math.isfinite(fit.slots.high) else float(len(need.mix))
        ends.append(
            (
                most(fit.slots.low, warm_late[2], cold_late[2]),
                most(fit.slots.mid, warm_late[1], cold_late[1]),
                most(high, warm_late[0], cold_late[0]),
            )
        )
    low, mid, high_end = (min(column) for column in zip(*ends, strict=True))
    if high_end < 1:
        return None, ["not even one model per instance holds the SLO at this load"]
    unbounded = high_end >= len(need.mix)
    low = max(low, 0)
    text = f"{mid} models per instance hold the SLO ({need.level:.0%} interval {low} to {high_end})"
    return Interval(
        float(low), float(max(mid, low)), math.inf if unbounded else float(high_end), need.level
    ), [text]


def _capped(found: Interval | None, rows: Sequence[DensityRow]) -> Interval | None:
    """No model of the memory overrules a measured number that missed the SLO."""
    bad = [r.models - 1 for r in rows if r.verdict is Verdict.VIOLATED]
    if found is None or not bad:
        return found
    top = float(min(bad))
    return Interval(min(found.low, top), min(found.mid, top), min(found.high, top), found.level)


def _measured(rows: Sequence[DensityRow], found: Interval | None) -> int | None:
    """The largest number that was itself measured and held, as every smaller one."""
    broken = min((r.models for r in rows if r.late.mid > r.allowed), default=math.inf)
    most = math.inf if found is None else found.high
    held = [
        r.models
        for r in rows
        if r.verdict is Verdict.MET and r.models < broken and r.models <= most
    ]
    return max(held, default=None)


def _late_shares(
    stages: Sequence[ModelStage], split: ColdSplit, objective: _Objective, level: float
) -> tuple[tuple[float, float, float], tuple[float, float, float]]:
    """(low, mid, high) late share of warm and of cold requests, all stages together."""
    cold = np.concatenate([split.cold(s.latency_s) for s in stages])
    late = np.concatenate([_late(s, objective) for s in stages])
    found = []
    for chosen in (~cold, cold):
        n, count = int(chosen.sum()), int((late & chosen).sum())
        if n < LEAST_COLD:
            found.append((0.0, 1.0, 1.0))
            continue
        low, high = clopper_pearson(count, n, level)
        found.append((low, count / n, high))
    return found[0], found[1]


def _largest(holds: Callable[[int], bool], most: int) -> int:
    """Bisection over whole models: the late share never falls as models are added."""
    if not holds(1):
        return 0
    if holds(most):
        return most
    low, high = 1, most
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if holds(middle) else (low, middle)
    return low


def _by_bracket(rows: Sequence[DensityRow], need: Need) -> tuple[Interval | None, list[str]]:
    """Between the largest number that held, as all below it, and the smallest that did not."""
    failing = [r.models for r in rows if r.verdict is Verdict.VIOLATED]
    first_bad = min(failing, default=math.inf)
    held = [r.models for r in rows if r.verdict is Verdict.MET and r.models < first_bad]
    if not held:
        return None, []
    low = float(max(held))
    if not failing:
        top = "all" if low >= len(need.mix) else "at least"
        return Interval(low, low, math.inf, need.level), [
            f"{top} {low:.0f} models on an instance hold the SLO; more were not tried"
        ]
    high = float(first_bad) - 1.0
    text = f"{low:.0f} models per instance hold the SLO and {first_bad:.0f} do not"
    return Interval(low, low, max(high, low), need.level), [text]


def _verdict(
    found: Interval | None, rows: Sequence[DensityRow], need: Need, refusals: Sequence[str]
) -> tuple[Verdict, list[str]]:
    if refusals:
        return Verdict.INCONCLUSIVE, []
    fewest = rows[0]
    if found is None or _measured(rows, found) is None:
        if fewest.verdict is Verdict.VIOLATED:
            return Verdict.VIOLATED, [
                f"{fewest.models} models on one instance at {fewest.rate_per_s:.4g} requests/s "
                "already miss the SLO: measure fewer models or a lower rate"
            ]
        return Verdict.INCONCLUSIVE, ["no measured number of models clearly holds the SLO"]
    return Verdict.MET, []
