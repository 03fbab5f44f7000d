"""Does the search hold on servers nobody chose? Whole campaigns in virtual time on drawn ones.

Each seed draws a server: how long services take and how they scatter, how many workers, what
they do (workers in order of arrival or any, batches, requests that slow each other down), how
many instances behind which router, the network before them, and an SLO on p90 to p99.9. A
threshold is not drawn: a utilisation is, the server is simulated there for millions of requests,
and the threshold is the quantile found, so that the limit is known whatever the server. Some
servers change; for those the table says what the answer was. Kept campaigns of other code are
left out.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import math
import multiprocessing
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from coverage import code_of_today
from figures import Row, options, row, show
from known_servers import creeping, spells

from tuner.campaign.config import CampaignConfig, Limits
from tuner.campaign.rehearse import judge, run_campaign
from tuner.campaign.types import Routing
from tuner.campaign.virtual import Network, Slowdown, VirtualBackend
from tuner.fleet.quick import simulate
from tuner.fleet.service import ServiceTime
from tuner.fleet.spec import (
    Batching,
    Contention,
    FleetSpec,
    InstanceSpec,
    QueueOrder,
    RoutingStrategy,
)
from tuner.slo import LatencyObjective, Slo, Verdict
from tuner.stats.proportions import clopper_pearson
from tuner.stats.requests import FloatArray

KINDS = ("fifo", "random order", "contention", "batching", "drift", "spells")
FLAT = "flat"
"""Servers whose services alone nearly take the allowance: how many requests there are hardly
matters, and where it begins to is not for a few minutes of load to say."""
NEARLY = 0.7
CHANCES = (0.62, 0.10, 0.10, 0.10, 0.04, 0.04)
CHANGING = {"drift": creeping, "spells": spells}
QUANTILES = (0.9, 0.95, 0.99, 0.999)
QUANTILE_CHANCES = (0.1, 0.25, 0.5, 0.15)
PLAIN_REQUESTS, OTHER_REQUESTS = 4_000_000, 600_000


@dataclass(frozen=True)
class Drawn:
    """A server, its SLO, and its limit per instance."""

    kind: str
    instance: InstanceSpec
    count: int
    routing: Routing
    network: Network
    quantile: float
    threshold_s: float
    limit_per_s: float
    slowdown: Slowdown | None

    @property
    def text(self) -> str:
        i, s = self.instance, self.instance.service
        return (
            f"{self.kind} {s.shape.value} mean {s.mean_s * 1e3:.3g} ms cv {s.cv:.2g} x{i.workers} "
            f"on {self.count} {self.routing.value.split('_')[0].lower()}, "
            f"p{100 * self.quantile:g} <= {self.threshold_s * 1e3:.4g} ms, "
            f"net {self.network.floor_s * 1e3:.2g}+{self.network.jitter_s * 1e3:.2g} ms"
        )


@dataclass(frozen=True)
class Done:
    """One campaign as it is kept in a file."""

    code: str
    seed: int
    kind: str
    text: str
    limit_per_s: float
    low: float
    mid: float
    high: float
    minutes: float
    method: str
    why: str
    cpu_s: float

    @property
    def answered(self) -> bool:
        return math.isfinite(self.mid)

    @property
    def error(self) -> float:
        return self.mid / self.limit_per_s - 1.0

    @property
    def holds(self) -> bool:
        return self.low <= self.limit_per_s <= self.high

    def line(self) -> str:
        mark = " " if not self.answered or self.holds else "*"
        far = " " if not self.answered or abs(self.error) < 0.05 else "!"
        said = f"{self.mid:8.4g} ({self.low:.4g} to {self.high:.4g})" if self.answered else self.why
        return (
            f"{self.seed:4d} {mark}{far} {self.limit_per_s:8.4g} {said:32s} {self.minutes:5.1f} "
            f"{self.method:20s} {self.text}"
        )


def _service(rng: np.random.Generator) -> ServiceTime:
    mean = float(np.exp(rng.uniform(math.log(0.004), math.log(0.2))))
    which = rng.integers(6)
    if which == 0:
        return ServiceTime.exponential(mean)
    if which == 1:
        return ServiceTime.deterministic(mean)
    if which == 2:
        return ServiceTime.gamma(mean, float(rng.uniform(0.3, 0.9)))
    if which == 3:
        slow, share = float(rng.uniform(3.0, 12.0)), float(rng.uniform(0.05, 0.3))
        fast = mean / (1.0 - share + share * slow)
        return ServiceTime.two_point(fast, slow * fast, share)
    return ServiceTime.lognormal(mean, float(rng.uniform(0.3, 2.0)))


def _instance(kind: str, rng: np.random.Generator) -> InstanceSpec:
    service, workers = _service(rng), int(rng.choice([1, 2, 3, 4, 6, 8, 16]))
    if kind == "random order":
        return InstanceSpec(service, workers, order=QueueOrder.RANDOM)
    if kind == "contention":
        workers = int(rng.choice([4, 8, 16, 32]))
        alpha, beta = float(rng.uniform(0.05, 0.6)), float(rng.choice([0.0, 0.004]))
        return InstanceSpec(service, workers, contention=Contention(alpha, beta))
    if kind == "batching":
        size, mean = int(rng.choice([4, 8, 16])), service.mean_s
        batching = Batching(size, float(rng.uniform(0.0, 0.5)) * mean, 0.1 * mean)
        return InstanceSpec(ServiceTime.deterministic(mean), 1, batching=batching)
    return InstanceSpec(service, workers)


def _most_per_s(instance: InstanceSpec) -> float:
    """Requests per second that keep every worker of an instance busy."""
    service = instance.service.mean_s
    if (batch := instance.batching) is not None:
        return batch.max_size / (service + batch.max_size * batch.per_item_s)
    if (law := instance.contention) is not None:
        return max(k * law.speed(k) for k in range(1, instance.workers + 1)) / service
    return instance.workers / service


def _latency_s(
    instance: InstanceSpec,
    instances: int,
    rate_per_s: float,
    network: Network,
    rng: np.random.Generator,
) -> FloatArray:
    """Latencies of a long run at a load per instance, the start left out."""
    n = PLAIN_REQUESTS if instance.plain else OTHER_REQUESTS
    router = RoutingStrategy.LEAST_OUTSTANDING_REQUESTS
    fleet = FleetSpec(instance, instances, router, timeout_s=math.inf)
    arrival = np.cumsum(rng.exponential(1.0 / (rate_per_s * instances), n))
    latency = simulate(fleet, arrival, rng).done_s - arrival + network.floor_s
    if network.jitter_s > 0.0:
        latency += rng.exponential(network.jitter_s, n)
    return np.asarray(latency[n // 50 :])


def _on_a_step(latency_s: FloatArray, threshold_s: float, allowance: float) -> bool:
    """Whether 2 % of the threshold decide about twice the allowance: services that are all
    alike end there, and no load is the limit."""
    below = float(np.mean(latency_s > 0.98 * threshold_s))
    above = float(np.mean(latency_s > 1.02 * threshold_s))
    return below > 2.0 * allowance or above < 0.5 * allowance


def draw(seed: int) -> Drawn:
    rng = np.random.default_rng([seed, 77])
    kind = str(rng.choice(KINDS, p=CHANCES))
    instance = _instance(kind, rng)
    count = int(rng.choice([1, 2, 4], p=[0.5, 0.25, 0.25]))
    routing = Routing.RANDOM if rng.random() < 0.4 else Routing.LEAST_OUTSTANDING_REQUESTS
    network = Network()
    if rng.random() < 0.6:
        floor = float(np.exp(rng.uniform(math.log(2e-4), math.log(0.01))))
        network = Network(floor, float(rng.uniform(0.0, 0.1)) * floor)
    quantile = float(rng.choice(QUANTILES, p=QUANTILE_CHANCES))
    if not instance.plain:
        # Simulating these for long enough to know a p99.9 takes minutes.
        quantile = min(quantile, 0.99)
    pooled = count if routing is not Routing.RANDOM else 1
    while True:
        spare = float(rng.uniform(0.1, 0.5)) / math.sqrt(pooled)
        rate = (1.0 - spare) * _most_per_s(instance)
        latency = _latency_s(instance, pooled, rate, network, rng)
        threshold = float(np.quantile(latency, quantile))
        if not _on_a_step(latency, threshold, 1.0 - quantile):
            break
    changing = CHANGING.get(kind)
    alone = instance.service.sample(rng, PLAIN_REQUESTS) + network.floor_s
    if kind == "fifo" and np.mean(alone > threshold) > NEARLY * (1.0 - quantile):
        kind = FLAT
    return Drawn(kind, instance, count, routing, network, quantile, threshold, rate, changing)


def code() -> str:
    """A fingerprint of what decides a campaign here: the rooms, and how servers are drawn."""
    own = hashlib.sha256(Path(__file__).read_bytes()).hexdigest()
    return f"{code_of_today()}-{own[:6]}"


def campaign(seed: int) -> Done:
    server = draw(seed)
    begun = time.process_time()
    slo = Slo((LatencyObjective(server.quantile, server.threshold_s),))
    counts = (1,) if server.count == 1 else (1, server.count)
    limits = Limits(time_s=2400.0)
    config = CampaignConfig(slo, server.routing, counts, seed=seed, limits=limits)
    fleet = FleetSpec(server.instance, 1, RoutingStrategy(server.routing.value))
    backend = VirtualBackend(fleet, seed=seed, slowdown=server.slowdown, network=server.network)
    run = run_campaign(config, backend)
    model = judge(config, run)
    found = model.at(server.count) if model.verdict is Verdict.MET else None
    rate = found.rate_per_s if found is not None else None
    failed = ", ".join(g.name for g in model.gates if not g.passed)
    return Done(
        code(),
        seed,
        server.kind,
        server.text,
        server.limit_per_s,
        rate.low if rate else math.nan,
        rate.mid if rate else math.nan,
        rate.high if rate else math.nan,
        run.load_s / 60.0,
        model.method if rate else model.verdict.value,
        failed,
        time.process_time() - begun,
    )


def campaigns(seeds: list[int], jobs: int, keep: Path | None) -> Iterator[Done]:
    have: dict[int, Done] = {}
    today = code()
    if keep is not None and keep.exists():
        for text in keep.read_text().splitlines():
            with contextlib.suppress(json.JSONDecodeError):
                values = json.loads(text)
                if values.get("code") == today:
                    have[values["seed"]] = Done(**values)
    yield from (have[s] for s in seeds if s in have)
    missing = [s for s in seeds if s not in have]
    with multiprocessing.Pool(jobs) as pool:
        for done in pool.imap_unordered(campaign, missing):
            if keep is not None:
                with keep.open("a") as file:
                    file.write(json.dumps(asdict(done), sort_keys=True) + "\n")
            yield done


def rows(done: list[Done]) -> list[Row]:
    """Figures by kind of server, and of all that do not change."""
    steady = [d for d in done if d.kind not in (FLAT, *CHANGING)]
    kinds = (*KINDS, FLAT)
    groups = {kind: [d for d in done if d.kind == kind] for kind in kinds} | {"all steady": steady}
    return [r for kind, mine in groups.items() if mine for r in _figures(kind, mine)]


def _figures(kind: str, mine: list[Done]) -> list[Row]:
    known = [d for d in mine if d.answered]
    minutes = [d.minutes for d in mine]
    out = [
        row(f"{kind}/servers", len(mine), ""),
        row(f"{kind}/answered", len(known) / len(mine)),
        row(f"{kind}/minutes_median", float(np.median(minutes)), "min"),
        row(f"{kind}/minutes_p90", float(np.quantile(minutes, 0.9)), "min"),
    ]
    if kind in CHANGING or not known:
        return out
    held = sum(d.holds for d in known)
    low, high = clopper_pearson(held, len(known))
    error = [abs(d.error) for d in known]
    half = [d.high / d.mid - 1.0 for d in known]
    # Few servers do not show a coverage: what they leave open is not missed.
    return [
        *out,
        row(f"{kind}/within_5_percent", sum(e < 0.05 for e in error) / len(known), at_least=0.95),
        row(f"{kind}/error_median", float(np.median(error))),
        row(f"{kind}/interval_upwards_median", float(np.median(half))),
        row(f"{kind}/interval_coverage", held / len(known)),
        row(f"{kind}/interval_coverage_at_most", high, at_least=0.93),
        row(f"{kind}/interval_coverage_at_least", low),
    ]


def main() -> int:
    parser = options(__doc__)
    parser.add_argument("--servers", type=int, default=200)
    parser.add_argument("--seed", type=int, default=1, help="of the first server")
    parser.add_argument("--jobs", type=int, default=1, help="processes side by side")
    parser.add_argument("--keep", type=Path, metavar="FILE", help="add campaigns to this file")
    args = parser.parse_args()
    seeds = list(range(args.seed, args.seed + (6 if args.quick else args.servers)))
    out = sys.stderr if args.json else sys.stdout
    print(f"seeds {seeds[0]}-{seeds[-1]}; * interval misses, ! more than 5 % off", file=out)
    done = []
    for one in campaigns(seeds, args.jobs, args.keep):
        done.append(one)
        print(one.line(), file=out, flush=True)
    return show(rows(done), as_json=args.json)


if __name__ == "__main__":
    sys.exit(main())
