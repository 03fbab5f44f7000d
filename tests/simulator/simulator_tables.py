"""Capacity tables from closed forms, and traffic, for tests of the simulator."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from tuner.autoscaling.policy import CapacityBounds, ScalingMetric, TargetTrackingPolicy
from tuner.queueing.capacity import ViolationTable
from tuner.simulator.inputs import PolicyGrid

MEAN_S = 0.05
WORKERS = 4
SLO_S = 0.3
LAM_STAR_PER_MIN = 3597.70
"""M/M/4, mean service 50 ms, p99 <= 300 ms: 59.9616 requests a second."""


def erlang_c(servers: int, offered: float) -> float:
    """P(wait) by the recursion on Erlang B."""
    blocked = 1.0
    for k in range(1, servers + 1):
        blocked = offered * blocked / (k + offered * blocked)
    return blocked / (1.0 - offered / servers * (1.0 - blocked))


def mmc_late(
    t_s: NDArray[np.float64], servers: int, busy: float, mean_s: float
) -> NDArray[np.float64]:
    """P(sojourn > t) in M/M/c; 1 for t <= 0 and at saturation."""
    mu = 1.0 / mean_s
    if busy >= 1.0:
        return np.ones_like(t_s)
    waits = erlang_c(servers, servers * busy)
    theta = servers * mu * (1.0 - busy)
    if abs(theta - mu) < 1e-9:
        late = (1.0 - waits) * np.exp(-mu * t_s) + waits * (1.0 + mu * t_s) * np.exp(-mu * t_s)
    else:
        tail = (theta * np.exp(-mu * t_s) - mu * np.exp(-theta * t_s)) / (theta - mu)
        late = (1.0 - waits) * np.exp(-mu * t_s) + waits * tail
    return np.where(t_s <= 0.0, 1.0, np.clip(late, 0.0, 1.0))


def mmc_table(
    counts: int = 48,
    *,
    workers: int = WORKERS,
    mean_s: float = MEAN_S,
    slo_s: float = SLO_S,
) -> ViolationTable:
    """RANDOM routing to M/M/c instances: the same row for every count."""
    utilization = np.append(1.0 - np.geomspace(1.0, 1e-3, 80), 1.0)
    delay_s = np.linspace(0.0, slo_s, 31)
    row = np.stack([mmc_late(slo_s - delay_s, workers, u, mean_s) for u in utilization])
    probability = np.repeat(row[None], counts, axis=0)
    count = np.arange(1, counts + 1, dtype=np.int64)
    return ViolationTable(count, utilization, delay_s, probability, workers / mean_s)


def cliff_table(rate_per_s: float, counts: int = 64) -> ViolationTable:
    """No request is late until it waits; the one that waits half a second is."""
    utilization = np.array([0.0, 1.0])
    delay_s = np.array([0.0, 0.5, 0.5 + 1e-9])
    probability = np.zeros((counts, 2, 3))
    probability[:, :, 2] = 1.0
    count = np.arange(1, counts + 1, dtype=np.int64)
    return ViolationTable(count, utilization, delay_s, probability, rate_per_s)


def one(
    target: float,
    low: int = 1,
    high: int = 48,
    out_s: int = 0,
    in_s: int = 300,
    metric: ScalingMetric = ScalingMetric.INVOCATIONS,
    disable_scale_in: bool = False,
) -> PolicyGrid:
    policy = TargetTrackingPolicy(metric, target, out_s, in_s, disable_scale_in)
    return PolicyGrid.of([(policy, CapacityBounds(low, high))])


def diurnal(
    low_per_s: float, high_per_s: float, days: int = 1, seed: int = 0, minutes: int = 1440
) -> NDArray[np.float64]:
    """Whole requests per minute of a sinusoidal day with Poisson noise, shape (days, minutes)."""
    rng = np.random.default_rng(seed)
    phase = 2.0 * np.pi * np.arange(minutes) / minutes
    mean = low_per_s + (high_per_s - low_per_s) * (0.5 - 0.5 * np.cos(phase))
    return rng.poisson(60.0 * mean, (days, minutes)).astype(np.float64)


def steps(*parts: tuple[int, float]) -> NDArray[np.float64]:
    """(minutes, requests per minute) one after the other."""
    return np.concatenate([np.full(n, rate) for n, rate in parts])
