"""Policies against traffic: the batch entry point."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from tuner.autoscaling.policy import ScalingMetric
from tuner.queueing.capacity import ViolationTable
from tuner.simulator.engine import Block
from tuner.simulator.fleets import FleetBlock
from tuner.simulator.inputs import SUBSTEP_S, LaunchLag, PolicyGrid, SimulationOptions
from tuner.simulator.lanes import Record, Tally
from tuner.simulator.lookup import Lookup, substep_rates
from tuner.simulator.serving import Service
from tuner.simulator.timeline import Timeline
from tuner.units import SECONDS_PER_HOUR, SECONDS_PER_MINUTE

_DEFAULT = SimulationOptions()
_LAGS_DRAWN = 512
"""Launches of a day draw from this many; policies share them, so they differ by policy only."""


@dataclass(frozen=True, slots=True, eq=False)
class SimulationResult:
    """What each policy did with each day; arrays of shape (policies, days) unless said.

    Parameters
    ----------
    grid
        The policies.
    requests
        Shape (days,): requests in the scored minutes.
    scored_minutes
        Minutes scored in a day.
    violating_requests
        Requests that miss the SLO.
    bad_minutes
        Minutes with more than the allowance of their requests missing the SLO.
    spare_safe_minutes, zone_safe_minutes
        Minutes that would stay good if one instance, or one zone's, were lost.
    instance_hours
        Instances in service and starting, over the scored minutes.
    peak_instances, scale_outs, scale_ins
        Largest count ordered; numbers of scaling activities.
    counts_beyond_table
        Whether any lane needed more instances than the violation table has rows for; its
        last row was used there.
    """

    grid: PolicyGrid
    requests: NDArray[np.float64]
    scored_minutes: int
    violating_requests: NDArray[np.float64]
    bad_minutes: NDArray[np.int64]
    spare_safe_minutes: NDArray[np.int64]
    zone_safe_minutes: NDArray[np.int64]
    instance_hours: NDArray[np.float64]
    peak_instances: NDArray[np.int64]
    scale_outs: NDArray[np.int64]
    scale_ins: NDArray[np.int64]
    counts_beyond_table: bool

    @property
    def violating_share(self) -> NDArray[np.float64]:
        """Share of each day's requests that miss the SLO (0 on a day without requests)."""
        return np.divide(
            self.violating_requests,
            self.requests[None],
            out=np.zeros_like(self.violating_requests),
            where=self.requests[None] > 0.0,
        )

    @property
    def bad_minute_share(self) -> NDArray[np.float64]:
        """Share of each day's minutes that are bad."""
        return self.bad_minutes / self.scored_minutes

    @property
    def spare_safe_share(self) -> NDArray[np.float64]:
        """Share of minutes in which one instance could be lost."""
        return self.spare_safe_minutes / self.scored_minutes

    @property
    def zone_safe_share(self) -> NDArray[np.float64]:
        """Share of minutes in which a zone could be lost."""
        return self.zone_safe_minutes / self.scored_minutes

    @property
    def overall_violating_share(self) -> NDArray[np.float64]:
        """Shape (policies,): share of all days' requests that miss the SLO."""
        total = float(self.requests.sum())
        sums: NDArray[np.float64] = self.violating_requests.sum(axis=1)
        return sums / total if total > 0.0 else sums * 0.0

    @property
    def mean_instance_hours(self) -> NDArray[np.float64]:
        """Shape (policies,): mean instance-hours of a day."""
        mean: NDArray[np.float64] = self.instance_hours.mean(axis=1)
        return mean


def simulate(
    grid: PolicyGrid,
    requests_per_min: ArrayLike,
    table: ViolationTable,
    launch: LaunchLag | Sequence[LaunchLag],
    *,
    seed: int = 0,
    options: SimulationOptions = _DEFAULT,
) -> SimulationResult:
    """Run every policy on every day.

    Parameters
    ----------
    grid
        Policies, shape (p,).
    requests_per_min
        Shape (minutes,) for one stretch or (days, minutes); each row starts afresh (see
        ``lead_in_min``).
    table
        Capacity: probability of missing the SLO.
    launch
        Launch lag, or one for each day; every instance draws its own.
    seed
        For launch lags and sub-minute rates; one policy alone gives what it gives in a
        batch with the same seed.
    options
        The world around.

    Raises
    ------
    ValueError
        If traffic is empty, has gaps (NaN) or negative entries, or the metric needs a curve
        that ``options`` do not give.
    """
    return simulate_ensemble(grid, requests_per_min, (table,), launch, seed=seed, options=options)[
        0
    ]


def simulate_ensemble(
    grid: PolicyGrid,
    requests_per_min: ArrayLike,
    tables: Sequence[ViolationTable],
    launch: LaunchLag | Sequence[LaunchLag],
    *,
    seed: int = 0,
    options: SimulationOptions = _DEFAULT,
) -> tuple[SimulationResult, ...]:
    """`simulate` for each of several capacities, on the same launches.

    Policies on invocations order the same under all of them, which is worked out once.
    """
    traffic = _days(requests_per_min)
    largest = _largest_count(grid, traffic, options)
    lookups = _lookups(tables, largest)
    _check(grid, traffic, options)
    lags = _lags(launch, len(traffic))
    blocks = [
        [
            _tallies(grid.subset(columns), traffic, rows, lookups, lags, seed, options)
            for columns in _spans(len(grid), options.lanes_per_block)
        ]
        for rows in _spans(len(traffic), max(1, options.lanes_per_block // len(grid)))
    ]
    return tuple(
        _result(grid, traffic, table, [[block[i] for block in row] for row in blocks], options)
        for i, table in enumerate(tables)
    )


def _tallies(
    grid: PolicyGrid,
    traffic: NDArray[np.float64],
    rows: range,
    lookups: Sequence[Lookup],
    launch: Sequence[LaunchLag],
    seed: int,
    options: SimulationOptions,
) -> list[Tally]:
    """One block under every capacity."""
    lags, rates = _chance(traffic, rows, launch, seed, options)
    curve = options.metric_curve
    if grid.metric is not ScalingMetric.INVOCATIONS and curve is not None:
        return [Block(grid, look, rates, lags, options, curve).run() for look in lookups]
    block = FleetBlock(grid, rates, lags, options)
    fleets = block.run()
    return [block.tally(Service(fleets, rates, look, options).run()) for look in lookups]


def timeline(
    grid: PolicyGrid,
    policy: int,
    requests_per_min: ArrayLike,
    table: ViolationTable,
    launch: LaunchLag,
    *,
    day: int = 0,
    seed: int = 0,
    options: SimulationOptions = _DEFAULT,
) -> Timeline:
    """Minute by minute what one policy did on one day of the same call to `simulate`.

    The lead-in is left out.

    Raises
    ------
    ValueError
        As `simulate`.
    """
    traffic = _days(requests_per_min)
    one = grid.subset([policy])
    _check(one, traffic, options)
    lookup = Lookup(table, _largest_count(one, traffic, options))
    rows = range(day, day + 1)
    lags, rates = _chance(traffic, rows, _lags(launch, len(traffic)), seed, options)
    record = Record.empty(traffic.shape[1], 1)
    curve = options.metric_curve
    if grid.metric is not ScalingMetric.INVOCATIONS and curve is not None:
        Block(one, lookup, rates, lags, options, curve).run(record)
    else:
        fleets = FleetBlock(one, rates, lags, options).run(record)
        Service(fleets, rates, lookup, options).run(record)
    scored = slice(options.lead_in_min, None)
    return Timeline(
        traffic[day, scored].copy(),
        record.in_service[scored, 0],
        record.starting[scored, 0],
        record.metric[scored, 0],
        record.violation_share[scored, 0],
        record.delay_s[scored, 0],
    )


def split_days(
    requests_per_min: ArrayLike, *, day_min: int = 1440, lead_in_min: int = 60
) -> NDArray[np.float64]:
    """Whole days of a continuous record, each with the minutes before it as lead-in.

    Returns shape (days, lead_in_min + day_min). The first day, which has no minutes before
    it, is led in by its own first minute repeated.
    """
    record = np.asarray(requests_per_min, np.float64)
    days = len(record) // day_min
    if record.ndim != 1 or not days:
        raise ValueError(f"need at least one whole day of minutes, got shape {record.shape}")
    padded = np.concatenate([np.full(lead_in_min, record[0]), record])
    return np.stack([padded[d * day_min : (d + 1) * day_min + lead_in_min] for d in range(days)])


def _days(requests_per_min: ArrayLike) -> NDArray[np.float64]:
    traffic = np.asarray(requests_per_min, np.float64)
    if traffic.ndim == 1:
        traffic = traffic[None]
    if traffic.ndim != 2 or not traffic.size:
        raise ValueError(f"traffic must be (minutes,) or (days, minutes), got {traffic.shape}")
    if not np.isfinite(traffic).all():
        raise ValueError("traffic has gaps (NaN): leave those days out, a gap is not zero traffic")
    if (traffic < 0.0).any():
        raise ValueError("traffic must not be negative")
    return traffic


def _check(grid: PolicyGrid, traffic: NDArray[np.float64], options: SimulationOptions) -> None:
    minutes = traffic.shape[1]
    if options.lead_in_min >= minutes:
        raise ValueError(f"a lead-in of {options.lead_in_min} min leaves nothing of {minutes}")
    if grid.metric is not ScalingMetric.INVOCATIONS and options.metric_curve is None:
        raise ValueError(f"{grid.metric.name} needs a metric_curve: how it answers to load")
    floor = options.min_capacity_by_minute
    if floor is not None and floor.shape != (minutes,):
        raise ValueError(f"a scheduled minimum needs {minutes} minutes, got {floor.shape}")


def _largest_count(
    grid: PolicyGrid, traffic: NDArray[np.float64], options: SimulationOptions
) -> int:
    """No lane can come to hold more instances than this."""
    floor = options.min_capacity_by_minute
    least = int(max(grid.min_capacity.max(), 0 if floor is None else floor.max()))
    most = int(max(grid.max_capacity.max(), least))
    if grid.metric is ScalingMetric.INVOCATIONS:
        wish = math.ceil(float(traffic.max()) / float(grid.target_value.min()))
        most = min(most, max(wish, least, options.initial_capacity or 0))
    return most


def _spans(length: int, step: int) -> list[range]:
    return [range(i, min(i + step, length)) for i in range(0, length, step)]


def _lags(launch: LaunchLag | Sequence[LaunchLag], days: int) -> Sequence[LaunchLag]:
    each = (launch,) * days if isinstance(launch, LaunchLag) else launch
    if len(each) != days:
        raise ValueError(f"need a launch lag for each of {days} days, got {len(each)}")
    return each


def _lookups(tables: Sequence[ViolationTable], largest: int) -> list[Lookup]:
    """Each table prepared; those that differ in speed alone are prepared once."""
    made: list[tuple[ViolationTable, Lookup]] = []
    for table in tables:
        like = next((m for t, m in made if t.probability is table.probability), None)
        lookup = Lookup(table, largest) if like is None else like.at(table)
        made.append((table, lookup))
    return [lookup for _, lookup in made]


def _chance(
    traffic: NDArray[np.float64],
    rows: range,
    launch: Sequence[LaunchLag],
    seed: int,
    options: SimulationOptions,
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Launch lags in sub-steps, and rates in every ten seconds, of some days."""
    lags, rates = [], []
    for row in rows:
        rng = np.random.default_rng([seed, row % options.chance_repeats_after])
        sample = np.rint(np.array(launch[row].seconds) / SUBSTEP_S).astype(np.int64)
        lags.append(sample[rng.integers(len(sample), size=_LAGS_DRAWN)])
        rates.append(substep_rates(traffic[row][:, None], options.dispersion, rng))
    return np.stack(lags), np.concatenate(rates, axis=1)


def _result(
    grid: PolicyGrid,
    traffic: NDArray[np.float64],
    table: ViolationTable,
    tallies: list[list[Tally]],
    options: SimulationOptions,
) -> SimulationResult:
    def joined(name: str) -> NDArray[np.float64]:
        parts = [np.concatenate([getattr(t, name) for t in row], axis=1) for row in tallies]
        return np.concatenate(parts, axis=0).T.copy()

    def counted(name: str) -> NDArray[np.int64]:
        return joined(name).astype(np.int64)

    scored = traffic[:, options.lead_in_min :]
    peak = counted("peak")
    return SimulationResult(
        grid,
        scored.sum(axis=1),
        scored.shape[1],
        joined("violating"),
        counted("bad_minutes"),
        counted("spare_safe"),
        counted("zone_safe"),
        joined("instance_minutes") * SECONDS_PER_MINUTE / SECONDS_PER_HOUR,
        peak,
        counted("scale_outs"),
        counted("scale_ins"),
        bool(peak.max() > len(table.instance_count)),
    )
