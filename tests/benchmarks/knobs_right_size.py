"""Right-sizing: is the cheapest of five instance types named, and is a tie called one?

Five emulated types with a known truth are each measured by a campaign in virtual time; each
campaign's capacity goes through the policy search on a day of traffic, and the types are compared
by what their policies cost. The truth is the price over the load an instance carries inside the
SLO, from a plain simulation of the queue that shares no code with tuner: fleets are large here, so
that cost goes with it. Prices enter after the measurements, so the same campaigns serve a set of
clearly different types and a set whose two cheapest cost the same.
"""

from __future__ import annotations

import heapq
import math
import sys
import time
from dataclasses import dataclass, replace

import numpy as np
from figures import Row, main, row

from tuner.campaign.config import demo_config
from tuner.campaign.rehearse import judge, run_campaign
from tuner.campaign.virtual import VirtualBackend
from tuner.fleet.service import ServiceTime
from tuner.fleet.spec import FleetSpec, InstanceSpec
from tuner.recommend.constraints import Constraints
from tuner.recommend.prices import Price, PriceTable
from tuner.recommend.recommend import recommend
from tuner.recommend.right_size import MeasuredType, right_size
from tuner.recommend.types import Resilience, Standing
from tuner.slo import LatencyObjective, Slo
from tuner.workload.shapes import sample_day

SLO = Slo((LatencyObjective(0.99, 0.120),))
PEAK_PER_MIN = 150_000.0
LAG_S = 240.0
SETS = 100
QUICK_SETS = 3
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
TWIN = "ml.a.xlarge"
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


def rows(quick: bool) -> list[Row]:
    """The benchmark's figures."""
    sets = QUICK_SETS if quick else SETS
    truth = {k.name: true_rate_per_s(k, 60_000 if quick else 400_000) for k in KINDS}
    per_rate = 0.23 / truth[CHEAPEST]
    usd = {k.name: per_rate * (truth[k.name] or 20.0) * k.dearer for k in KINDS}
    even = {**usd, TWIN: per_rate * truth[TWIN]}
    traffic = sample_day(peak_per_min=PEAK_PER_MIN)
    named = clear = tied = refused = inside = 0
    began = time.perf_counter()
    for number in range(sets):
        types = [measured(k, 1000 * (i + 1) + number) for i, k in enumerate(KINDS)]
        found = right_size(priced(types, usd), traffic, seed=1)
        named += found.chosen == CHEAPEST
        clear += found.chosen == CHEAPEST and not found.ties
        hopeless = next(t for t in found.types if t.name == HOPELESS)
        refused += hopeless.standing in (Standing.MISSES, Standing.UNKNOWN)
        same = right_size(priced(types, even), traffic, seed=1)
        tied += {CHEAPEST, TWIN} == {same.chosen, *same.ties}
        inside += {CHEAPEST, TWIN} <= {same.chosen, *same.ties}
    each = (time.perf_counter() - began) / sets
    return [
        row("right-sizing: the cheapest of five types is named", named / sets, at_least=0.95),
        row("right-sizing: and without calling it a tie", clear / sets),
        row("right-sizing: two equal types are called a tie", inside / sets, at_least=0.95),
        row("right-sizing: and no third is drawn in", tied / sets),
        row("right-sizing: the type that misses the SLO is left out", refused / sets, at_least=1),
        row("right-sizing: five campaigns, policies, comparison", each, "s"),
        row("right-sizing: campaigns", float(sets * len(KINDS)), "campaigns"),
    ]


if __name__ == "__main__":
    sys.exit(main(__doc__, rows))
