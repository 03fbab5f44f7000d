"""Recommended policies on days they were not chosen on, against rules of thumb and hindsight.

Each trace is scaled to a stated peak. Every third day scores and the others are given to the
recommender; with ``--split time`` the last third scores, which also tests whether the service
stayed what it was. The capacity is known (exponential servers, alone
behind random routing or pooled behind least-outstanding), the recommender sees it with an
interval of two percent to each side. "Hindsight" is the cheapest of a dense grid that meets
the same budgets on the scoring days themselves, which nobody can know in advance.

What the answer costs above that is taken apart, factor by factor:

other days   the cheapest on the choosing days, in their hindsight ("!" where that policy then
             misses a budget on the scoring days: so much for what could have been known)
reserve      holding the budgets at an upper bound over days instead
capacity     holding them at the low end of the capacity interval
search       the recommender's own grid, and its keeping days aside to score

    python tests/benchmarks/policy.py [--quick] [--json] [--traces DIR] [--split days|time]

``--traces`` adds recordings from a directory: every .csv or .csv.gz in it that reads as
traffic of at least six days.
"""

from __future__ import annotations

import argparse
import gzip
import itertools
import json
import resource
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "recommend"))

from recommend_samples import SLO, capacity, true_rate  # noqa: E402

from tuner.autoscaling.policy import CapacityBounds  # noqa: E402
from tuner.errors import TrafficError  # noqa: E402
from tuner.queueing.capacity import CapacityModel  # noqa: E402
from tuner.recommend.choose import (  # noqa: E402
    FloatArray,
    Scores,
    cheapest,
    meets,
    plain_shares,
    upper_bounds,
)
from tuner.recommend.constraints import Constraints, parse_resilience  # noqa: E402
from tuner.recommend.evaluate import Choice, World, grid_of, score, score_at  # noqa: E402
from tuner.recommend.prices import PRICES  # noqa: E402
from tuner.recommend.recommend import recommend  # noqa: E402
from tuner.recommend.search import make_grid, minima  # noqa: E402
from tuner.recommend.setup import Setup, prepare  # noqa: E402
from tuner.slo import Verdict  # noqa: E402
from tuner.workload.profile import TrafficProfile  # noqa: E402
from tuner.workload.traffic import make_traffic, parse_traffic_csv  # noqa: E402

PEAK_FLEET = 16
"""Every trace is scaled so that its peak needs about this many instances of the lone kind."""
LAG_S = (240.0, 300.0, 360.0)
DATA = HERE.parent / "data" / "traffic"


@dataclass(frozen=True)
class Row:
    trace: str
    routing: str
    lose: str
    met: bool
    slow_share: float
    bad_minutes: float
    cost_against_hindsight: float
    parts: tuple[float, float, float, float]
    others_days_hold: bool
    saving_against_half: float
    half_met: bool
    seconds: float


def recordings(folder: Path) -> Iterator[TrafficProfile]:
    for path in sorted(folder.iterdir()):
        if not path.name.endswith((".csv", ".csv.gz")):
            continue
        raw = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
        try:
            profile = parse_traffic_csv(raw.decode(), path.name.split(".")[0])
            if profile.day_set().count >= 6:
                yield profile
        except (TrafficError, UnicodeDecodeError) as error:
            print(f"left out {path.name}: {str(error).splitlines()[0]}", file=sys.stderr)


def traces(extra: Path | None, quick: bool) -> list[TrafficProfile]:
    made = [
        replace(make_traffic(shape, peak_per_min=1e5, days=21, seed=11), name=shape)
        for shape in ("diurnal", "weekly", "flash_crowd")
    ]
    found = list(recordings(DATA)) + (list(recordings(extra)) if extra else [])
    return [made[2], found[0]] if quick else [*made, *found]


def cut(profile: TrafficProfile, by_time: bool) -> tuple[TrafficProfile, TrafficProfile]:
    """The days to choose on and the days that score."""
    days = profile.days()
    place = np.arange(len(days))
    scores = place >= round(len(days) * 2 / 3) if by_time else place % 3 == 2
    parts = [
        TrafficProfile(d.ravel(), profile.start_minute_of_week, profile.name)
        for d in (days[~scores], days[scores])
    ]
    return parts[0], parts[1]


def truth(model: CapacityModel, scoring: TrafficProfile, constraints: Constraints) -> Setup:
    """The scoring days with the true capacity and nothing uncertain about it."""
    return prepare(
        model,
        scoring,
        slo=SLO,
        constraints=constraints,
        launch_lag_s=LAG_S,
        prices=PRICES,
        seed=99,
        metric_curves=None,
    )


def hours(world: World, choice: Choice) -> tuple[float, tuple[float, float, float]]:
    scores = score(world, grid_of([choice]))
    return float(scores.cost[0]), tuple(float(s[0]) for s in plain_shares(scores))  # type: ignore[return-value]


@dataclass(frozen=True)
class Ladder:
    """Cost on the scoring days, from hindsight to what can be known in advance."""

    hindsight: float
    other_days: float
    reserve: float
    capacity: float
    others_days_hold: bool


def ladder(scoring: Setup, choosing: Setup, constraints: Constraints) -> Ladder:
    shares = np.concatenate(
        [np.geomspace(0.08, 0.3, 8, endpoint=False), np.arange(0.3, 1.12, 0.02)]
    )
    grid = make_grid(
        choosing.world,
        choosing.ground,
        constraints.metrics[0],
        shares,
        np.union1d(minima(scoring.ground), minima(choosing.ground)),
        (constraints.scale_out_cooldowns_s[:1], constraints.scale_in_cooldowns_s[:1]),
    )
    budgets = scoring.budgets
    scores = score(scoring.world, grid)
    held = meets(plain_shares(scores), budgets).all
    mid, low = score_at(choosing.world, grid, (1.0, choosing.world.low_factor))

    def cost(on: Scores, shares: tuple[FloatArray, FloatArray, FloatArray]) -> tuple[float, bool]:
        best = cheapest(on, meets(shares, budgets).all)
        return (float("nan"), False) if best is None else (float(scores.cost[best]), held[best])

    other_days, hold = cost(mid, plain_shares(mid))
    return Ladder(
        hindsight=cost(scores, plain_shares(scores))[0],
        other_days=other_days,
        reserve=cost(mid, upper_bounds(mid, 5))[0],
        capacity=cost(low, upper_bounds(low, 5))[0],
        others_days_hold=bool(hold),
    )


def case(profile: TrafficProfile, pooled: bool, lose: str, by_time: bool) -> Row:
    model = capacity(pooled=pooled, spread=0.02)
    scaled = profile.with_peak(PEAK_FLEET * true_rate(False, 1) * 60.0)
    choosing, scoring = cut(scaled, by_time)
    constraints = Constraints("ml.m5.xlarge", resilience=parse_resilience(lose))
    started = time.process_time()
    answer = recommend(
        model, choosing, slo=SLO, constraints=constraints, launch_lag_s=LAG_S, seed=5
    )
    seconds = time.process_time() - started
    setup = truth(model, scoring, constraints)
    if answer.verdict is not Verdict.MET or answer.chosen is None:
        raise SystemExit(f"no policy for {profile.name}: {answer.statements}")
    chosen: Choice = (answer.chosen.policy, answer.chosen.bounds)
    rule = answer.alternatives[0]
    wide = CapacityBounds(rule.bounds.min_capacity, 10_000)
    cost, shares = hours(setup.world, chosen)
    steps = ladder(setup, truth(model, choosing, constraints), constraints)
    rungs = (steps.hindsight, steps.other_days, steps.reserve, steps.capacity, cost)
    a, b, c, d = (above / below - 1.0 for below, above in itertools.pairwise(rungs))
    rule_cost, rule_shares = hours(setup.world, (rule.policy, wide))

    def holds(values: tuple[float, float, float]) -> bool:
        arrays = tuple(np.array([v]) for v in values)
        return bool(meets(arrays, setup.budgets).all[0])  # type: ignore[arg-type]

    return Row(
        trace=profile.name,
        routing="pooled" if pooled else "random",
        lose=lose,
        met=holds(shares),
        slow_share=shares[0],
        bad_minutes=shares[1],
        cost_against_hindsight=cost / steps.hindsight - 1.0,
        parts=(a, b, c, d),
        others_days_hold=steps.others_days_hold,
        saving_against_half=1.0 - cost / rule_cost,
        half_met=holds(rule_shares),
        seconds=seconds,
    )


def throughput(quick: bool) -> float:
    """Policy-days per second of the simulator through the recommender's own call."""
    model = capacity(pooled=False)
    profile = make_traffic("flash_crowd", peak_per_min=PEAK_FLEET * 1e4, days=14, seed=2)
    constraints = Constraints("ml.m5.xlarge")
    setup = truth(model, profile, constraints)
    shares = np.linspace(0.4, 1.0, 25 if quick else 50)
    lows = np.arange(1, 11)
    grid = make_grid(
        setup.world, setup.ground, constraints.metrics[0], shares, lows, ((0, 300), (300,))
    )
    best = 0.0
    for _ in range(1 if quick else 3):
        started = time.process_time()
        score(setup.world, grid)
        best = max(best, len(grid) * 14 / (time.process_time() - started))
    return best


def report(rows: list[Row]) -> None:
    print(
        f"{'':61}{'':9}{'of which':>36}\n"
        f"{'trace':31}{'routing':8}{'may lose':12}{'met':4}{'slow':>8}{'bad min':>8}"
        f"{'hindsight':>10}{'days':>9}{'reserve':>8}{'capacity':>9}{'search':>7}"
        f"{'0.5 rule':>9}{'0.5 met':>8}{'cpu s':>6}"
    )
    for r in rows:
        days, reserve, low, rest = r.parts
        print(
            f"{r.trace:31}{r.routing:8}{r.lose:12}{'yes' if r.met else 'NO':4}"
            f"{r.slow_share:8.3%}{r.bad_minutes:8.2%}{r.cost_against_hindsight:+10.1%}"
            f"{days:+8.0%}{' ' if r.others_days_hold else '!'}{reserve:+8.0%}{low:+9.0%}"
            f"{rest:+7.0%}{-r.saving_against_half:+9.0%}{'yes' if r.half_met else 'NO':>8}"
            f"{r.seconds:6.1f}"
        )


def figures(rows: list[Row], policy_days: float) -> list[dict[str, object]]:
    met = sum(r.met for r in rows) / len(rows)
    dearer = [r.cost_against_hindsight for r in rows if np.isfinite(r.cost_against_hindsight)]
    memory_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024.0
    slowest = max(r.seconds for r in rows)
    rows_out = [
        ("budgets_met_on_scoring_days", met, "share of cases", ">= 0.9", met >= 0.9),
        (
            "cost_over_hindsight_median",
            float(np.median(dearer)),
            "share",
            "<= 0.10",
            float(np.median(dearer)) <= 0.10,
        ),
        (
            "cases_within_10_percent_of_hindsight",
            float(np.mean([d <= 0.10 for d in dearer])),
            "share of cases",
            ">= 0.9",
            float(np.mean([d <= 0.10 for d in dearer])) >= 0.9,
        ),
        (
            "choosing_days_own_hindsight_holds",
            float(np.mean([r.others_days_hold for r in rows])),
            "share of cases",
            "printed",
            True,
        ),
        ("policy_days_per_cpu_second", policy_days, "1/s", ">= 20000", policy_days >= 20_000),
        ("recommend_slowest_cpu", slowest, "s", "< 3", slowest < 3.0),
        ("peak_memory", memory_mb, "MB", "< 500", memory_mb < 500.0),
    ]
    for lose in sorted({r.lose for r in rows}):
        saving = float(np.mean([r.saving_against_half for r in rows if r.lose == lose]))
        name = f"saving_against_half_rule_{lose.replace(' ', '_')}"
        rows_out.append((name, saving, "share", "printed", True))
    keys = ("name", "value", "unit", "goal", "met")
    return [dict(zip(keys, row, strict=True)) for row in rows_out]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--quick", action="store_true", help="two traces, under a minute")
    parser.add_argument("--json", action="store_true", help="figures as JSON")
    parser.add_argument("--traces", type=Path, metavar="DIR", help="more recordings")
    parser.add_argument("--split", choices=("days", "time"), default="days")
    options = parser.parse_args()
    rows = [
        case(profile, pooled, lose, options.split == "time")
        for profile in traces(options.traces, options.quick)
        for pooled in (False, True)
        for lose in ("none", "1 zone of 3")
    ]
    results = figures(rows, throughput(options.quick))
    if options.json:
        print(json.dumps(results, indent=2))
        return
    report(rows)
    for r in results:
        print(f"{r['name']:40} {r['value']:10.4g} {r['unit']:15} goal {r['goal']:10} {r['met']}")


if __name__ == "__main__":
    main()
