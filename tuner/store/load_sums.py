"""Sums of loads measured by another tool: a rate, a number of requests and percentiles a row."""

from __future__ import annotations

import re

import numpy as np

from tuner.campaign.published import LoadSummary
from tuner.errors import InputError
from tuner.slo import LatencyObjective, Measure
from tuner.store.measured_columns import (
    ACHIEVED,
    ASKED,
    CONCURRENCY,
    COUNT,
    LATE,
    REQUESTS,
    FloatArray,
    Table,
)

SUMS_HELP = (
    "one load a row: its rate (such as target_qps or launch_rate_rps), requests, and percentiles "
    "(latency_p99_s, ttft_p95_ms) or late (requests over the SLO)"
)
_QUANTILE = re.compile(
    r"^(?P<of>latency_|ttft_)?p(?P<digits>\d{2})(?:_(?P<more>\d))?(?:_latency)?_m?s$"
)


def summaries_of(
    table: Table, objective: LatencyObjective, *, instance_count: int = 1
) -> tuple[LoadSummary, ...]:
    """Every row as the sum of one load.

    Raises
    ------
    InputError
        If a column is missing, the load was closed-loop, or the SLO's time is not there.
    """
    rate, requests = table.find(ACHIEVED) or table.find(ASKED), table.find(REQUESTS)
    if rate is None and table.find(CONCURRENCY) is not None:
        raise InputError(
            f"{table.file}: the load was closed-loop: users waited for answers before they sent "
            "again, which hides stalls; no limit may rest on it",
            value=table.find(CONCURRENCY),
            allowed="loads given by their rate",
            hint="measure with open-loop load: tuner run PLAN",
        )
    columns = _quantiles(table, objective.measure)
    late = table.find(LATE)
    if rate is None or requests is None or not (columns or late):
        raise InputError(
            f"{table.file}: this is neither requests nor sums of loads with {objective.name}",
            value=", ".join(table.names),
            allowed=SUMS_HELP,
        )
    count = table.find(COUNT)
    counts = table.numbers(count) if count else np.full(len(table.rows), float(instance_count))
    rates, sizes = _positive(table, rate), _positive(table, requests)
    lates = table.numbers(late) if late else None
    return tuple(
        LoadSummary(
            instance_count=int(counts[i]),
            rate_per_s=float(rates[i]),
            requests=int(sizes[i]),
            quantiles=tuple((q, float(v[i])) for q, v in columns if np.isfinite(v[i])),
            late=None if lates is None else int(lates[i]),
            measure=objective.measure,
        )
        for i in range(len(table.rows))
    )


def _quantiles(table: Table, measure: Measure) -> list[tuple[float, FloatArray]]:
    found = []
    for name in table.names:
        match = _QUANTILE.match(name)
        if match is None or (match["of"] == "ttft_") != (measure is Measure.TTFT):
            continue
        share = float(f"0.{match['digits']}{match['more'] or ''}")
        found.append((share, table.numbers(name)))
    return found


def _positive(table: Table, name: str) -> FloatArray:
    values = table.numbers(name)
    if not (np.isfinite(values).all() and values.min() > 0.0):
        raise InputError(f"{table.file}: column {name} must be positive everywhere", value=name)
    return values
