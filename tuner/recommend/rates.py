"""What one instance carries, read from a capacity model for any instance count."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from tuner.errors import InsufficientDataError
from tuner.queueing.capacity import CapacityModel, CountCapacity, ViolationTable
from tuner.slo import Slo

FloatArray = NDArray[np.float64]


def allowance_of(capacity: CapacityModel, slo: Slo) -> float:
    """Share of requests the binding objective lets miss; the error ceiling when that binds."""
    if capacity.binding is not None:
        return capacity.binding.allowance
    return slo.max_error_rate or min(o.allowance for o in slo.objectives)


def table_of(capacity: CapacityModel) -> ViolationTable:
    """The violation table.

    Raises
    ------
    InsufficientDataError
        When the model has none, or its lower bound is unknown.
    """
    known = [c for c in capacity.by_count if c.rate_per_s.low > 0.0]
    if capacity.table is None or not known:
        raise InsufficientDataError(
            "the measurements give no lower bound for what one instance carries",
            value=capacity.verdict.value,
            hint="; ".join(g.remedy for g in capacity.gates if g.remedy)
            or "measure longer near the SLO",
        )
    return capacity.table


def table_rates(table: ViolationTable, allowance: float) -> FloatArray:
    """Highest rate per instance within the allowance at each count of the table, shape (c,).

    The crossing is interpolated on the utilisation grid at no backlog.
    """
    rates = np.empty(table.instance_count.size)
    for i, row in enumerate(table.probability[:, :, 0]):
        beyond = np.flatnonzero(row > allowance)
        if not beyond.size:
            rates[i] = table.utilization[-1]
        elif beyond[0] == 0:
            rates[i] = 0.0
        else:
            j = int(beyond[0])
            rates[i] = np.interp(allowance, row[j - 1 : j + 1], table.utilization[j - 1 : j + 1])
    return rates * table.saturation_rate_per_s


def safe_rates(capacity: CapacityModel, allowance: float, largest: int, end: str) -> FloatArray:
    """Rate per instance inside the SLO at 1 to ``largest`` instances, shape (largest,).

    The table gives the shape over counts, the measured counts its height: their ratio is
    interpolated between measured counts and held outside of them.

    Parameters
    ----------
    end
        ``"low"``, ``"mid"`` or ``"high"`` of the intervals; an infinite high end is taken
        for the mid.
    """
    table = table_of(capacity)
    counts = np.arange(1, largest + 1, dtype=np.float64)
    shape: FloatArray = np.interp(counts, table.instance_count, table_rates(table, allowance))
    known = [c for c in capacity.by_count if c.rate_per_s.low > 0.0]
    at = np.array([c.instance_count for c in known])
    heights = np.array([_end(c, end) for c in known])
    below = np.interp(at, table.instance_count, table_rates(table, allowance))
    if not (below > 0.0).all():
        rates: FloatArray = np.interp(counts, at, heights)
        return rates
    height: FloatArray = np.interp(counts, at, heights / below)
    return shape * height


def table_factor(
    capacity: CapacityModel, allowance: float, instance_count: float, end: str
) -> float:
    """What the table's saturation rate is multiplied by to stand at an end of the interval."""
    table = table_of(capacity)
    known = [c for c in capacity.by_count if c.rate_per_s.low > 0.0]
    nearest = min(known, key=lambda c: (abs(c.instance_count - instance_count), c.instance_count))
    rates = table_rates(table, allowance)
    at_table = float(np.interp(nearest.instance_count, table.instance_count, rates))
    return _end(nearest, end) / at_table if at_table > 0.0 else 1.0


def scaled_table(table: ViolationTable, factor: float) -> ViolationTable:
    """The table of a server ``factor`` times as fast in rate, with the same waits."""
    return replace(table, saturation_rate_per_s=table.saturation_rate_per_s * factor)


def _end(count: CountCapacity, end: str) -> float:
    value = float(getattr(count.rate_per_s, end))
    return value if math.isfinite(value) else count.rate_per_s.mid
