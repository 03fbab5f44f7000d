"""Violation probabilities prepared for the engine.

While nothing waits and the fleet keeps up, what a minute does depends only on the traffic
and on the (whole) number of instances, so it is tabulated once per day and shared by every
policy. Only lanes with a backlog look a probability up one by one.
"""

from __future__ import annotations

from copy import copy
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tuner.queueing.capacity import ViolationTable
from tuner.simulator.inputs import SUBSTEP_S, SUBSTEPS, MetricCurve
from tuner.units import SECONDS_PER_MINUTE

FloatArray = NDArray[np.float64]
_FINE = 512
"""Cells of the even utilisation grid on which lanes with a backlog look up the nearest."""
_FINEST = 8192
"""The same without backlog, where the SLO is decided."""


def _check(table: ViolationTable) -> None:
    c, u, d = table.probability.shape
    shapes = (table.instance_count.shape, table.utilization.shape, table.delay_s.shape)
    if shapes != ((c,), (u,), (d,)) or not min(c, u, d):
        raise ValueError("a violation table's axes must match its probabilities")
    if not np.array_equal(table.instance_count, np.arange(1, c + 1)):
        raise ValueError("a violation table counts instances from 1 without gaps")
    if table.delay_s[0] != 0.0 or (np.diff(table.delay_s) <= 0.0).any():
        raise ValueError("a violation table's delays must ascend from 0")
    if not table.saturation_rate_per_s > 0.0:
        raise ValueError(f"saturation rate must be positive: {table.saturation_rate_per_s}")
    if not ((table.probability >= 0.0) & (table.probability <= 1.0)).all():
        raise ValueError("violation probabilities must lie inside [0, 1]")


class Lookup:
    """A `ViolationTable` ready for 0 to ``max_count`` instances.

    Counts beyond the table use its last row: more instances share a queue no worse.
    """

    def __init__(self, table: ViolationTable, max_count: int) -> None:
        _check(table)
        self.max_count = max_count
        self.rate_per_s = float(table.saturation_rate_per_s)
        self.delay_s = table.delay_s.astype(np.float64)
        self._wide_s = float(self.delay_s[-1]) / 20.0
        rows = min(max_count, len(table.instance_count))
        if (table.probability[:rows] == table.probability[0]).all():
            rows = 1
        grid = np.linspace(0.0, 1.0, _FINE + 1)
        # Interpolate along utilisation once: index and weight are the same for every row.
        right = np.clip(np.searchsorted(table.utilization, grid), 1, len(table.utilization) - 1)
        if len(table.utilization) == 1:
            raise ValueError("a violation table needs at least two utilisations")
        left = right - 1
        span = table.utilization[right] - table.utilization[left]
        weight = np.clip((grid - table.utilization[left]) / span, 0.0, 1.0)[None, :, None]
        weight = weight.astype(np.float32)
        known = table.probability[:rows].astype(np.float32)
        fine = known[:, left] * (1.0 - weight) + known[:, right] * weight
        self._fine = np.ascontiguousarray(fine, dtype=np.float32)
        self._busy = table.utilization.astype(np.float64)
        self._start = np.ascontiguousarray(known[:, :, 0]).ravel()
        self._row = np.clip(np.arange(max_count + 1) - 1, 0, rows - 1)
        self._area_to: NDArray[np.float32] | None = None
        self._make_finest(known[:, :, 0], table.utilization)

    def _make_finest(self, start: NDArray[np.float32], utilization: FloatArray) -> None:
        """P without backlog on an even grid; the row after the last is that of no instance."""
        grid = np.linspace(0.0, 1.0, _FINEST + 1)
        rows = [np.interp(grid, utilization, row).astype(np.float32) for row in start]
        self._finest = np.concatenate([*rows, np.ones(_FINEST + 1, np.float32)])
        self._offset = self._row.astype(np.int32) * np.int32(_FINEST + 1)
        self._offset[0] = len(rows) * (_FINEST + 1)
        self._set_rate(self.rate_per_s)

    def at(self, table: ViolationTable) -> Lookup:
        """The same probabilities for a table that differs in its saturation rate alone."""
        other = copy(self)
        other._set_rate(float(table.saturation_rate_per_s))
        return other

    def _set_rate(self, rate_per_s: float) -> None:
        self.rate_per_s = rate_per_s
        count = np.maximum(np.arange(self.max_count + 1), 1)
        per_min = count * (self.rate_per_s * SECONDS_PER_MINUTE)
        self._cells_per_rate = (_FINEST / per_min).astype(np.float32)

    def late(
        self, count: NDArray[np.int16] | NDArray[np.int64], rate_per_min: NDArray[np.float32]
    ) -> NDArray[np.float32]:
        """Requests per minute that miss the SLO while nothing waits; nearest in utilisation.

        ``count`` and ``rate_per_min`` broadcast to the result's shape.
        """
        cell = self._cells_per_rate[count] * rate_per_min
        cell += np.float32(0.5)
        np.minimum(cell, np.float32(_FINEST), out=cell)
        index = cell.astype(np.int32)
        index += self._offset[count]
        share = np.take(self._finest, index)
        share *= rate_per_min
        return share

    def unqueued(self, rate_per_min: FloatArray) -> NDArray[np.float32]:
        """P(violation) without backlog, shape (max_count + 1, *rate.shape); 1 for no instance."""
        count = np.arange(1, self.max_count + 1, dtype=np.float64)
        full_per_min = count * (self.rate_per_s * SECONDS_PER_MINUTE)
        busy = rate_per_min[None] / full_per_min.reshape(-1, *([1] * rate_per_min.ndim))
        np.minimum(busy, self._busy[-1], out=busy)
        cell = np.searchsorted(self._busy[1:-1], busy.ravel(), side="right").reshape(busy.shape)
        weight = ((busy - self._busy[cell]) / (self._busy[cell + 1] - self._busy[cell])).astype(
            np.float32
        )
        flat = cell + (self._row[1:] * len(self._busy)).reshape(-1, *([1] * rate_per_min.ndim))
        low = self._start[flat]
        result = np.ones((self.max_count + 1, *rate_per_min.shape), np.float32)
        np.add(low, (self._start[flat + 1] - low) * weight, out=result[1:])
        return result

    def queued(
        self,
        count: NDArray[np.int64],
        utilization: FloatArray,
        from_s: FloatArray,
        to_s: FloatArray,
    ) -> FloatArray:
        """Mean P(violation) while the delay runs evenly from one value to another.

        Arrays of one shape (k,); nearest in utilisation, trapezoids between the delays.
        """
        cell = np.minimum(utilization * _FINE + 0.5, _FINE).astype(np.int64)
        start = (self._row[count] * (_FINE + 1) + cell) * len(self.delay_s)
        share = self._at(start, (from_s + to_s) / 2.0)
        wide = np.flatnonzero(np.abs(to_s - from_s) > self._wide_s)
        if len(wide):
            low, high = from_s[wide], to_s[wide]
            area = self._area(start[wide], high) - self._area(start[wide], low)
            share[wide] = area / (high - low)
        return share

    def _at(self, start: NDArray[np.int64], delay_s: FloatArray) -> FloatArray:
        values = self._fine.ravel()
        depth = len(self.delay_s)
        if depth == 1:
            alone: FloatArray = values[start].astype(np.float64)
            return alone
        right = np.searchsorted(self.delay_s[1:-1], delay_s) + 1
        left_s = self.delay_s[right - 1]
        weight = np.minimum((delay_s - left_s) / (self.delay_s[right] - left_s), 1.0)
        low = values[start + right - 1]
        share: FloatArray = low + (values[start + right] - low) * weight
        return share

    def _area(self, start: NDArray[np.int64], delay_s: FloatArray) -> FloatArray:
        """Integral of P over the delay from 0; beyond the last delay P stays what it is."""
        before = np.searchsorted(self.delay_s, delay_s, side="right") - 1
        if self._area_to is None:
            pieces = (self._fine[..., 1:] + self._fine[..., :-1]) / 2.0 * np.diff(self.delay_s)
            area_to = np.zeros_like(self._fine)
            np.cumsum(pieces, axis=-1, out=area_to[..., 1:])
            self._area_to = area_to.ravel()
        low = self._fine.ravel()[start + before]
        here = (low + self._at(start, delay_s)) / 2.0
        whole = self._area_to[start + before]
        area: FloatArray = whole + here * (delay_s - self.delay_s[before])
        return area


@dataclass(frozen=True, slots=True, eq=False)
class Chunk:
    """Some minutes of some days (rows), tabulated over the instance count.

    Parameters
    ----------
    rate_per_min
        Shape (m, r, 6): offered rate in every ten seconds.
    mean_per_min
        Shape (m, r): its mean, the minute's requests.
    violating
        Shape (m, r, n + 1), float32: requests of the minute that miss the SLO, unqueued.
    metric
        Shape (m, r, n + 1), float32; empty for invocations, which need no table.
    need_keep_up
        Shape (m, r): least count at which no queue builds up.
    need_good, need_spare, need_zone
        Shape (m, r): least count for a good minute, and for one that stays good without
        one instance or without one zone.
    """

    rate_per_min: FloatArray
    mean_per_min: FloatArray
    violating: NDArray[np.float32]
    metric: NDArray[np.float32]
    need_keep_up: NDArray[np.int16]
    need_good: NDArray[np.int16]
    need_spare: NDArray[np.int16]
    need_zone: NDArray[np.int16]


def tabulate(
    lookup: Lookup,
    rate_per_min: FloatArray,
    allowance: float,
    zones: int,
    curve: MetricCurve | None,
) -> Chunk:
    """Tables for minutes of traffic, ``rate_per_min`` of shape (m, r, 6)."""
    even = bool((rate_per_min == rate_per_min[..., :1]).all())
    used = rate_per_min[..., :1] if even else rate_per_min
    share = lookup.unqueued(used)
    violating = (share * used.astype(np.float32)).mean(axis=-1)
    violating = np.ascontiguousarray(np.moveaxis(violating, 0, -1))
    total = rate_per_min.mean(axis=-1)
    size = lookup.max_count
    good = violating[..., 1:] <= (allowance * total[..., None]).astype(np.float32) * (1 + 1e-6)
    need_good = np.where(good.any(axis=-1), good.argmax(axis=-1) + 1, size + 1)
    left = np.arange(size + 2) - -(-np.arange(size + 2) // zones)
    need_zone = np.searchsorted(left, need_good)
    full = lookup.rate_per_s * SECONDS_PER_MINUTE
    need_keep_up = np.ceil(rate_per_min.max(axis=-1) / full * (1.0 - 1e-12))
    metric = np.zeros((0, 0, 0), np.float32)
    if curve is not None:
        count = np.maximum(np.arange(size + 1), 1)
        busy = np.minimum(total[..., None] / (count * full), 1.0)
        metric = np.interp(busy, curve.utilization, curve.value).astype(np.float32)

    def clipped(need: NDArray[np.float64] | NDArray[np.int64]) -> NDArray[np.int16]:
        return np.minimum(need, size + 1).astype(np.int16)

    return Chunk(
        rate_per_min,
        total,
        violating,
        metric,
        clipped(need_keep_up),
        clipped(need_good),
        clipped(need_good + 1),
        clipped(need_zone),
    )


def substep_rates(
    requests_per_min: FloatArray, dispersion: float, rng: np.random.Generator
) -> FloatArray:
    """Rates in every ten seconds of each minute, shape (*requests.shape, 6).

    With a dispersion D above 1 the rates are gamma with the minute's mean and the variance
    that, on top of Poisson arrivals, gives counts of dispersion D; each minute keeps its
    total. ``requests_per_min`` has shape (m, r).
    """
    even = np.repeat(requests_per_min[..., None], SUBSTEPS, axis=-1)
    if dispersion <= 1.0:
        return even
    mean_count = requests_per_min * (SUBSTEP_S / SECONDS_PER_MINUTE)
    shape = np.maximum(mean_count / (dispersion - 1.0), 1e-3)
    draw = rng.standard_gamma(np.repeat(shape[..., None], SUBSTEPS, axis=-1))
    draw += 1e-12
    rates: FloatArray = even * draw / draw.mean(axis=-1, keepdims=True)
    return rates
