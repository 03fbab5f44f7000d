"""Right-sizing: is the cheapest of five instance types named, and is a tie called one?

Five emulated types with a known truth are each measured by a campaign in virtual time; each
campaign's capacity goes through the policy search on a day of traffic, and the types are compared
by what their policies cost. The truth is the price over the load an instance carries inside the
SLO, from a plain simulation of the queue that shares no code with tuner: fleets are large here, so
that cost goes with it. Prices enter after the measurements, so the same campaigns serve a set of
clearly different types and a set in which the second type is the cheapest server once more, at
the same price and measured anew: a tie by construction.
"""

from __future__ import annotations

import csv
import heapq
import json
import math
import multiprocessing
import sys
import time
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
from figures import Row, options, row, show

from tuner.campaign.config import demo_config
from tuner.campaign.rehearse import judge, run_campaign
from tuner.campaign.virtual import VirtualBackend
from tuner.fleet.service import ServiceTime
from tuner.fleet.spec import FleetSpec, InstanceSpec
from tuner.recommend.constraints import Constraints
from tuner.recommend.prices import Price, PriceTable
from tuner.recommend.recommend import recommend
from tuner.recommend.right_size import MeasuredType, right_size, usd_per_million
from tuner.recommend.types import Resilience, Standing
from tuner.slo import LatencyObjective, Slo
from tuner.workload.shapes import sample_day

RECOMMENDER = Path(__file__).parents[1] / "recommend" / "inference_recommender.csv"
SLO = Slo((LatencyObjective(0.99, 0.120),))
PEAK_PER_MIN = 600_000.0
LAG_S = 240.0
SETS = 100
QUICK_SETS = 1
REQUESTS = 400_000
"""Of the plain simulation that finds a truth."""
NEXT_DEARER = 1.12
"""The second cheapest costs this much per request more than the cheapest."""


@dataclass(frozen=True)
class Kind:
    """One emulated type; ``dearer`` is its cost per request over that of the cheapest."""

    name: str
    mean_s: float
    cv: float
    workers: int
    dearer: float

    def fleet(self) -> FleetSpec:
        """The server."""
        service = ServiceTime.lognormal(self.mean_s, self.cv)
        return FleetSpec(InstanceSpec(service, workers=self.workers))


KINDS = (
    Kind("ml.a.large", 0.024, 0.6, 2, 1.30),
    Kind("ml.a.xlarge", 0.022, 0.6, 4, NEXT_DEARER),
    Kind("ml.b.large", 0.014, 0.8, 2, 1.0),
    Kind("ml.b.xlarge", 0.013, 0.8, 4, 1.45),
    Kind("ml.c.large", 0.070, 0.6, 4, 0.5),
)
"""The last is cheap and misses the SLO on an idle instance."""
CHEAPEST = "ml.b.large"
SECOND = "ml.a.xlarge"
TWIN = "ml.b.large.twin"
HOPELESS = "ml.c.large"


def true_rate_per_s(kind: Kind, requests: int) -> float:
    """Load at which one request in a hundred is late, first come first served; 0 if at none."""
    rng = np.random.default_rng(7)
    sigma = math.sqrt(math.log1p(kind.cv**2))
    work = rng.lognormal(math.log(kind.mean_s) - sigma**2 / 2, sigma, requests)
    threshold = SLO.objectives[0].threshold_s
    if float(np.mean(work > threshold)) > 0.01:
        return 0.0
    unit = rng.exponential(1.0, requests)
    services = work.tolist()

    def late(rate: float) -> float:
        free, over = [0.0] * kind.workers, 0
        for at, need in zip(np.cumsum(unit / rate).tolist(), services, strict=True):
            end = max(at, free[0]) + need
            heapq.heapreplace(free, end)
            over += end - at > threshold
        return over / requests

    low, high = 0.2 * kind.workers / kind.mean_s, kind.workers / kind.mean_s
    for _ in range(10):
        middle = (low + high) / 2
        low, high = (middle, high) if late(middle) <= 0.01 else (low, middle)
    return (low + high) / 2


def measured(kind: Kind, seed: int) -> MeasuredType:
    """One campaign in virtual time and the policy search on its capacity; the price comes later."""
    config = demo_config(SLO, instance_counts=(1,), start_rate_per_s=20.0, seed=seed)
    model = judge(config, run_campaign(config, VirtualBackend(kind.fleet(), seed=seed)))
    price = Price(kind.name, 1.0, "given", "", "")
    constraints = Constraints(kind.name, resilience=Resilience("instance"))
    found = recommend(
        model,
        sample_day(peak_per_min=PEAK_PER_MIN),
        slo=SLO,
        constraints=constraints,
        launch_lag_s=LAG_S,
        prices=PriceTable({kind.name: price}),
        seed=1,
    )
    return MeasuredType(kind.name, price, constraints, found, launch_lag_s=LAG_S)


def priced(types: list[MeasuredType], usd: dict[str, float]) -> list[MeasuredType]:
    """The same measurements at these prices."""
    return [replace(t, price=replace(t.price, usd_per_hour=usd[t.name])) for t in types]


@dataclass(frozen=True)
class Outcome:
    """What one set of campaigns came to; ``even`` is with the cheapest type twice."""

    number: int
    requests: int
    chosen: str | None
    ties: tuple[str, ...]
    even_chosen: str | None
    even_ties: tuple[str, ...]
    hopeless: str
    capacity_over_truth: dict[str, float]
    seconds: float

    @property
    def even(self) -> set[str | None]:
        """The type named and its ties where the cheapest is there twice."""
        return {self.even_chosen, *self.even_ties}


def outcome(number: int, truth: dict[str, float], requests: int) -> Outcome:
    """Six campaigns, six policies, and two comparisons of five."""
    began = time.perf_counter()
    per_rate = 0.23 / truth[CHEAPEST]
    usd = {k.name: per_rate * (truth[k.name] or 20.0) * k.dearer for k in KINDS}
    traffic = sample_day(peak_per_min=PEAK_PER_MIN)
    types = [measured(k, 1000 * (i + 1) + number) for i, k in enumerate(KINDS)]
    found = right_size(priced(types, usd), traffic, seed=1)
    cheapest = next(k for k in KINDS if k.name == CHEAPEST)
    twin = measured(replace(cheapest, name=TWIN), 1000 * (len(KINDS) + 1) + number)
    with_twin = [twin if t.name == SECOND else t for t in types]
    same = right_size(priced(with_twin, {**usd, TWIN: usd[CHEAPEST]}), traffic, seed=1)
    return Outcome(
        number,
        requests,
        found.chosen,
        found.ties,
        same.chosen,
        same.ties,
        next(t.standing for t in found.types if t.name == HOPELESS),
        {
            t.name: t.capacity_per_s.mid / truth[t.name]
            for t in found.types
            if t.capacity_per_s is not None
        },
        time.perf_counter() - began,
    )


def outcomes(sets: int, requests: int, *, jobs: int = 1, keep: Path | None = None) -> list[Outcome]:
    """So many sets; those that the file holds already are not measured again."""
    truth = {k.name: true_rate_per_s(k, requests) for k in KINDS}
    known = {o.number: o for o in kept(keep) if o.requests == requests and o.number < sets}
    wanted = [n for n in range(sets) if n not in known]
    measure = partial(outcome, truth=truth, requests=requests)
    with multiprocessing.get_context("spawn").Pool(jobs) if jobs > 1 else nullcontext() as pool:
        for done in pool.imap_unordered(measure, wanted) if pool else map(measure, wanted):
            known[done.number] = done
            if keep is not None:
                with keep.open("a") as file:
                    file.write(json.dumps(asdict(done)) + "\n")
    return [known[n] for n in sorted(known)]


def kept(path: Path | None) -> list[Outcome]:
    """The outcomes of a file of earlier runs, one JSON object to a line."""
    if path is None or not path.exists():
        return []
    found = [json.loads(line) for line in path.read_text().splitlines()]
    return [
        Outcome(**{**o, "ties": tuple(o["ties"]), "even_ties": tuple(o["even_ties"])})
        for o in found
    ]


def rows(quick: bool) -> list[Row]:
    """The benchmark's figures."""
    return summary(outcomes(QUICK_SETS, 60_000) if quick else outcomes(SETS, REQUESTS))


def summary(found: list[Outcome]) -> list[Row]:
    """Shares over the sets."""

    def share(of: Callable[[Outcome], bool]) -> float:
        return float(np.mean([of(o) for o in found]))

    left_out = (Standing.MISSES, Standing.UNKNOWN)
    off = [abs(v - 1.0) for o in found for v in o.capacity_over_truth.values()]
    return [
        row(
            "right-sizing: the cheapest of five types is named",
            share(lambda o: o.chosen == CHEAPEST),
            at_least=0.95,
        ),
        row(
            "right-sizing: or is called a tie with the one named",
            share(lambda o: CHEAPEST in (o.chosen, *o.ties)),
        ),
        row(
            "right-sizing: it is named, and no other called a tie",
            share(lambda o: o.chosen == CHEAPEST and not o.ties),
        ),
        row(
            "right-sizing: the cheapest twice is called a tie",
            share(lambda o: {CHEAPEST, TWIN} <= o.even),
            at_least=0.95,
        ),
        row("right-sizing: and no third is drawn in", share(lambda o: o.even == {CHEAPEST, TWIN})),
        row(
            "right-sizing: the type that misses the SLO is left out",
            share(lambda o: o.hopeless in left_out),
            at_least=1,
        ),
        row("right-sizing: capacity off the truth, median", float(np.median(off))),
        row("right-sizing: sets of six campaigns", len(found), "sets"),
        row("right-sizing: one set, median", float(np.median([o.seconds for o in found])), "s"),
        published(),
    ]


def published() -> Row:
    """Inference Recommender's printed costs per inference from price and maximum invocations."""
    with RECOMMENDER.open(newline="") as file:
        table = list(csv.DictReader(file))
    good = 0
    for line in table:
        printed = line["cost_per_inference_usd"]
        per_hour = float(line["max_invocations_per_min"]) * 60.0
        ours = usd_per_million(float(line["cost_per_hour_usd"]), per_hour) / 1e6
        mantissa, _, exponent = printed.partition("e")
        last = 10.0 ** (int(exponent or 0) - len(mantissa.partition(".")[2]))
        good += abs(ours - float(printed)) <= max(0.5005 * last, 1e-6 * float(printed))
    name = f"right-sizing: published Inference Recommender costs reproduced, of {len(table)}"
    return row(name, good, "rows", at_least=len(table))


def run() -> int:
    """Parse the options, measure and print."""
    parser = options(__doc__)
    parser.add_argument("--sets", type=int, default=SETS, metavar="N")
    parser.add_argument("--jobs", type=int, default=1, metavar="N", help="processes")
    parser.add_argument(
        "--keep", type=Path, metavar="FILE", help="add every set to FILE; go on from what it holds"
    )
    given = parser.parse_args()
    if given.quick:
        return show(rows(True), as_json=given.json)
    found = outcomes(given.sets, REQUESTS, jobs=given.jobs, keep=given.keep)
    return show(summary(found), as_json=given.json)


if __name__ == "__main__":
    sys.exit(run())
