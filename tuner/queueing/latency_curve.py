"""Latency against load and instance count by the M/G/c tail formula.

T = floor + backlog delay + W + S. The wait has an atom at 0 and an exponential tail: it is
positive with the Erlang-C probability of N = c n**g servers that are offered a n**g, and
then decays at 2 (N - a) / (E[S] (1 + cv**2)), times a fitted factor. S is taken from
measured demands. g says how far n instances act as one pool: 0 when requests are routed at
random (the law per instance does not know n), up to 1 when no request ever waits beside an
idle worker.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from tuner.interval import Interval
from tuner.queueing.capacity import ViolationTable
from tuner.queueing.erlang import FloatArray, erlang_c
from tuner.slo import LatencyObjective

DEMAND_POINTS = 2000
_TABLE_UTILIZATIONS = 97
_TABLE_DELAYS = 64
_BISECTIONS = 48


@dataclass(frozen=True, slots=True, eq=False)
class LatencyCurve:
    """P(latency > t) at every load, instance count and backlog.

    Parameters
    ----------
    demand_s
        Service demands at evenly spaced probabilities (i + .5)/k, ascending, shape (k,).
    workers
        Parallel servers per instance c > 0, real.
    pooling
        Exponent g in [0, 1].
    decay
        Factor on the decay rate of the wait, > 0; 1 is the two-moment approximation.
    floor_s
        Time outside the server that every request takes.

    References
    ----------
    Kimura, T., Oper. Res. 34, 1986, and Allen, A. O., Probability, Statistics and Queueing
    Theory, 2nd ed., 1990 (two-moment wait); Abate, J., Choudhury, G. L. and Whitt, W., Oper.
    Res. 43, 1995 (exponential tails).
    """

    demand_s: FloatArray
    workers: float
    pooling: float = 0.0
    decay: float = 1.0
    floor_s: float = 0.0

    def __post_init__(self) -> None:
        if self.demand_s.ndim != 1 or not len(self.demand_s):
            raise ValueError("demand quantiles must be a non-empty column")
        if np.any(np.diff(self.demand_s) < 0.0) or not self.demand_s[0] >= 0.0:
            raise ValueError("demand quantiles must ascend from 0 or more")
        if not (self.workers > 0.0 and self.decay > 0.0 and self.mean_demand_s > 0.0):
            raise ValueError("workers, decay and mean demand must be positive")
        if not 0.0 <= self.pooling <= 1.0:
            raise ValueError(f"pooling must be inside [0, 1]: {self.pooling}")

    @classmethod
    def of_demands(
        cls,
        demand_s: ArrayLike,
        workers: float,
        *,
        pooling: float = 0.0,
        decay: float = 1.0,
        floor_s: float = 0.0,
        points: int = DEMAND_POINTS,
    ) -> LatencyCurve:
        """The curve of a sample of demands, any order, shape (n,).

        Take some 20 points for each 1/allowance: 2,000 for p99, 20,000 for p99.9.
        """
        return cls(demand_quantiles(demand_s, points), workers, pooling, decay, floor_s)

    @property
    def mean_demand_s(self) -> float:
        """E[S]."""
        return float(self.demand_s.mean())

    @property
    def demand_scv(self) -> float:
        """Squared coefficient of variation of S."""
        return float(self.demand_s.var()) / self.mean_demand_s**2

    @property
    def saturation_rate_per_s(self) -> float:
        """Rate per instance at which the queue no longer drains, whatever the count."""
        return self.workers / self.mean_demand_s

    def wait(
        self, rate_per_s: ArrayLike, instance_count: ArrayLike
    ) -> tuple[FloatArray, FloatArray]:
        """P(W > 0) and the decay rate of W in 1/s, in the broadcast shape.

        ``rate_per_s`` is per instance; at saturation and beyond they are 1 and 0.
        """
        pool = np.asarray(instance_count, dtype=np.float64) ** self.pooling
        offered = np.asarray(rate_per_s, dtype=np.float64) * self.mean_demand_s
        spare = np.maximum(self.workers - offered, 0.0) * pool
        waits = erlang_c(self.workers * pool, offered * pool)
        theta = self.decay * 2.0 * spare / (self.mean_demand_s * (1.0 + self.demand_scv))
        return waits, np.asarray(np.broadcast_to(theta, waits.shape))

    def survival(
        self,
        t_s: ArrayLike,
        rate_per_s: ArrayLike,
        instance_count: ArrayLike = 1,
        *,
        delay_s: ArrayLike = 0.0,
    ) -> FloatArray:
        """P(T > t), all arguments broadcast together.

        Parameters
        ----------
        t_s
            Latency.
        rate_per_s
            Offered rate per instance.
        instance_count
            Instances in service.
        delay_s
            Wait for a backlog already there.
        """
        waits, theta = self.wait(rate_per_s, instance_count)
        return self.late(np.asarray(t_s) - np.asarray(delay_s) - self.floor_s, waits, theta)

    def late(self, room_s: ArrayLike, waits: ArrayLike, theta_per_s: ArrayLike) -> FloatArray:
        """P(W + S > room) for P(W > 0) and decay rates as `wait` gives them, broadcast."""
        room, waits, theta = np.broadcast_arrays(
            np.asarray(room_s, dtype=np.float64), np.asarray(waits), np.asarray(theta_per_s)
        )
        out = np.empty(room.size)
        # Blocks keep the (points, demands) product inside the cache.
        block = max(1, 100_000 // len(self.demand_s))
        flat = room.ravel(), waits.ravel(), theta.ravel()
        for start in range(0, room.size, block):
            part = slice(start, start + block)
            out[part] = self._late(*(v[part] for v in flat))
        return out.reshape(room.shape)

    def _late(self, room: FloatArray, waits: FloatArray, theta: FloatArray) -> FloatArray:
        k = len(self.demand_s)
        longer = k - np.searchsorted(self.demand_s, room, side="right")
        tail = np.maximum(room[:, None] - self.demand_s, 0.0)
        tail *= -theta[:, None]
        # Demands longer than the room add exp(0) each to the sum: taken out again.
        shorter = np.exp(tail, out=tail).sum(axis=1) - longer
        return np.asarray((waits * shorter + longer) / k)

    def quantile_s(
        self,
        quantile: ArrayLike,
        rate_per_s: ArrayLike,
        instance_count: ArrayLike = 1,
        *,
        delay_s: ArrayLike = 0.0,
        failures: float = 0.0,
    ) -> FloatArray:
        """Quantile of latency in the broadcast shape; infinite at saturation and beyond.

        ``failures`` is the share of requests that fail (are infinitely slow).
        """
        q, rate, count, delay = np.broadcast_arrays(
            *(
                np.asarray(v, dtype=np.float64)
                for v in (quantile, rate_per_s, instance_count, delay_s)
            )
        )
        target = (1.0 - q - failures) / (1.0 - failures)
        waits, theta = self.wait(rate, count)
        lost = (theta <= 0.0) | (target <= 0.0)
        safe = np.where(lost, 1.0, theta)
        share = np.where(lost, 0.5, target)
        low = np.zeros(q.shape)
        # P(W + S > x + y) <= P(W > x) + P(S > y), each made half of the target.
        high = self.demand_s[-1] + np.log(np.maximum(2.0 * waits / share, 1.0)) / safe
        base = delay + self.floor_s
        for _ in range(_BISECTIONS):
            mid = 0.5 * (low + high)
            above = self.late(mid, waits, theta) > share
            low, high = np.where(above, mid, low), np.where(above, high, mid)
        return np.asarray(np.where(lost, math.inf, 0.5 * (low + high) + base))

    def capacity_per_s(
        self, objective: LatencyObjective, instance_count: ArrayLike = 1, *, failures: float = 0.0
    ) -> FloatArray:
        """Highest rate per instance inside the objective, in the shape of the counts.

        0 where the objective cannot be held even unloaded.
        """
        count = np.asarray(instance_count, dtype=np.float64)
        allowed = (objective.allowance - failures) / (1.0 - failures)
        low = np.zeros(count.shape)
        high = np.ones(count.shape)
        top = self.saturation_rate_per_s
        unloaded = float(self.survival(objective.threshold_s, 0.0))
        if unloaded > allowed:
            return low
        for _ in range(_BISECTIONS):
            mid = 0.5 * (low + high)
            inside = self.survival(objective.threshold_s, mid * top, count) <= allowed
            low, high = np.where(inside, mid, low), np.where(inside, high, mid)
        return np.asarray(low * top)

    def violation_table(
        self, objective: LatencyObjective, max_count: int, failures: float = 0.0
    ) -> ViolationTable:
        """The look-up table of the policy simulator for counts 1 to ``max_count``.

        Parameters
        ----------
        objective
            Its threshold; the allowance plays no part.
        max_count
            Largest instance count.
        failures
            Share of requests that fail at any load.
        """
        counts = np.arange(1, max_count + 1)
        # The curve bends ever faster towards saturation: spare capacity in equal ratios.
        spare = np.geomspace(1.0, 1e-3, _TABLE_UTILIZATIONS - 1)
        utilization = np.append(1.0 - spare, 1.0)
        room = max(objective.threshold_s - self.floor_s, 0.0)
        delay = np.linspace(0.0, max(room, 1e-9), _TABLE_DELAYS)
        waits, theta = self.wait(utilization[None, :] * self.saturation_rate_per_s, counts[:, None])
        late = self._late_by_room(waits.ravel(), theta.ravel(), room - delay[::-1])
        late = late[:, ::-1].reshape(*waits.shape, _TABLE_DELAYS)
        late = failures + (1.0 - failures) * late
        late = np.maximum.accumulate(np.maximum.accumulate(late, axis=1), axis=2)
        return ViolationTable(
            counts.astype(np.int64), utilization, delay, late, self.saturation_rate_per_s
        )

    def _late_by_room(self, waits: FloatArray, theta: FloatArray, room: FloatArray) -> FloatArray:
        """P(W + S > x) for ascending x, shape (len(theta), len(room)).

        The sum over demands below x of exp(-theta (x - s)) is carried from one x to the
        next, so every demand costs one exponential per row instead of one per cell.
        """
        k = len(self.demand_s)
        edges = np.searchsorted(self.demand_s, room, side="right")
        carried = np.zeros(len(theta))
        late = np.empty((len(theta), len(room)))
        before, first = 0, 0.0
        for j, (x, upto) in enumerate(zip(room, edges, strict=True)):
            if j:
                carried = carried * np.exp(-theta * (x - first))
            fresh = self.demand_s[before:upto]
            if len(fresh):
                carried = carried + np.exp(-theta[:, None] * (x - fresh)).sum(axis=1)
            late[:, j] = (waits * carried + (k - upto)) / k
            before, first = int(upto), float(x)
        return late


def demand_quantiles(demand_s: ArrayLike, points: int = DEMAND_POINTS) -> FloatArray:
    """Demands at probabilities (i + .5)/points, shape (points,), with the mean kept.

    Negative demands (clock jitter) count as 0.
    """
    x = np.maximum(np.asarray(demand_s, dtype=np.float64).ravel(), 0.0)
    if not x.size or not np.isfinite(x).all():
        raise ValueError("demands must be finite and at least one")
    x = np.sort(x)
    # Means of equal slices of the sorted sample keep the mean, which quantiles lose in a
    # heavy tail.
    sums = np.concatenate([[0.0], np.cumsum(x)])
    at = np.linspace(0.0, len(x), points + 1)
    area = np.interp(at, np.arange(len(x) + 1), sums)
    return np.maximum.accumulate(np.diff(area) * points / len(x))


def capacity_interval(values: ArrayLike, mid: float, level: float = 0.95) -> Interval:
    """Interval of a capacity from an ensemble of plausible ones.

    Parameters
    ----------
    values
        Capacities of the members, shape (members,), at least two.
    mid
        The capacity of the best fit.
    level
        Confidence.

    Raises
    ------
    ValueError
        With fewer than two members.

    Notes
    -----
    ``mid`` times exp(+- t sd) with the spread of the logarithms: the outer percentiles of
    some 20 members would be too narrow. When a member has no capacity at all the range of
    the members is given.
    """
    from scipy.special import stdtrit

    x = np.asarray(values, dtype=np.float64)
    if len(x) < 2:
        raise ValueError("an ensemble needs at least two members")
    if x.min() <= 0.0 or mid <= 0.0:
        return Interval(min(float(x.min()), mid), mid, max(float(x.max()), mid), level)
    t = float(stdtrit(len(x) - 1, 0.5 + level / 2.0))
    factor = math.exp(t * float(np.log(x).std(ddof=1)))
    return Interval(mid / factor, mid, mid * factor, level)
