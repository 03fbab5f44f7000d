"""Capacity models with a known truth: exponential servers, alone or behind one queue."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from tuner.interval import Interval
from tuner.queueing.capacity import CapacityModel, CountCapacity, Gate, ViolationTable
from tuner.slo import LatencyObjective, Slo, Verdict

OBJECTIVE = LatencyObjective(0.99, 0.2)
SLO = Slo((OBJECTIVE,))
SERVICE_RATE_PER_S = 50.0
WORKERS = 4
MEMBERS = 20


def erlang_c(servers: int, offered: float) -> float:
    """Chance to wait in M/M/c (Erlang 1917), by the stable recursion for Erlang B."""
    if offered >= servers:
        return 1.0
    blocked = 1.0
    for k in range(1, servers + 1):
        blocked = offered * blocked / (k + offered * blocked)
    return servers * blocked / (servers - offered * (1.0 - blocked))


def late(servers: int, rate_per_s: float, threshold_s: float) -> float:
    """P(response > threshold) in M/M/c with exponential service (Gross & Harris, section 2.3)."""
    mu = SERVICE_RATE_PER_S
    if threshold_s <= 0.0:
        return 1.0
    if rate_per_s >= servers * mu:
        return 1.0
    wait = erlang_c(servers, rate_per_s / mu)
    theta = servers * mu - rate_per_s
    if abs(theta - mu) < 1e-9:
        return float(np.exp(-mu * threshold_s) * (1.0 + wait * mu * threshold_s))
    slow = np.exp(-mu * threshold_s)
    queued = mu / (mu - theta) * (np.exp(-theta * threshold_s) - slow)
    return float(slow + wait * queued)


def table(
    pooled: bool, largest: int = 40, threshold_s: float = OBJECTIVE.threshold_s
) -> ViolationTable:
    """P(late) for 1 to ``largest`` instances; ``pooled`` shares one queue over all of them."""
    counts = np.arange(1, largest + 1)
    utilization = np.concatenate([np.linspace(0.0, 0.9, 46), np.linspace(0.905, 1.0, 20)])
    delay_s = np.array([0.0, 0.02, 0.05, 0.1, 0.15, 0.2, 0.5])
    probability = np.empty((counts.size, utilization.size, delay_s.size))
    for i, n in enumerate(counts if pooled else counts[:1]):
        servers = WORKERS * int(n)
        for j, u in enumerate(utilization):
            for k, d in enumerate(delay_s):
                rate = min(u, 0.9999) * servers * SERVICE_RATE_PER_S
                probability[i, j, k] = late(servers, rate, threshold_s - d)
    if not pooled:
        probability[1:] = probability[0]
    return ViolationTable(counts, utilization, delay_s, probability, WORKERS * SERVICE_RATE_PER_S)


def true_rate(pooled: bool, n: int) -> float:
    """Rate per instance at which exactly one request in a hundred is late, by bisection."""
    servers = WORKERS * (n if pooled else 1)
    low, high = 0.0, servers * SERVICE_RATE_PER_S
    for _ in range(60):
        mid = (low + high) / 2.0
        below = late(servers, mid, OBJECTIVE.threshold_s) <= OBJECTIVE.allowance
        low, high = (mid, high) if below else (low, mid)
    return low * WORKERS / servers


def capacity(
    *, pooled: bool = False, spread: float = 0.02, verdict: Verdict = Verdict.MET
) -> CapacityModel:
    """A model whose truth is `true_rate`; ``spread`` is the half width of its intervals."""
    counts = (1, 2, 4, 8)
    mids = [true_rate(pooled, n) for n in counts]
    entries = tuple(
        CountCapacity(n, Interval(m * (1 - spread), m, m * (1 + spread)), "measured", 60_000)
        for n, m in zip(counts, mids, strict=True)
    )
    factors: NDArray[np.float64] = np.linspace(1 - spread, 1 + spread, MEMBERS)
    gate = Gate("stationary", verdict is not Verdict.INCONCLUSIVE, 0.4, ">= 0.05", "It held.")
    met = verdict is Verdict.MET
    return CapacityModel(
        verdict=verdict,
        binding=OBJECTIVE,
        routing="LEAST_OUTSTANDING_REQUESTS" if pooled else "RANDOM",
        method="work_recovery" if met else "none",
        by_count=entries if met else (),
        gates=(gate,),
        ensemble=np.outer(factors, mids) if met else np.empty((0, 0)),
        table=table(pooled) if met else None,
        floor_s=0.0,
        demand_quantile_s=-np.log1p(-(np.arange(400) + 0.5) / 400) / SERVICE_RATE_PER_S,
        workers=WORKERS,
        max_supported_count=32,
        requests_used=240_000,
        stages_used=(3, 4, 5),
    )
