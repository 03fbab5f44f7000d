"""The traffic a variant has had, from CloudWatch: requests per minute, gaps left as gaps."""

from __future__ import annotations

import math
from dataclasses import dataclass

from tuner.endpoints.aws import Aws
from tuner.endpoints.metrics import (
    INVOCATION_NAMESPACE,
    PERIOD_S,
    SETTLE_S,
    metric_data,
    metric_query,
)
from tuner.errors import TrafficError

KEPT_S = 15 * 86400.0
"""CloudWatch keeps one-minute data for 15 days."""

DATAPOINTS_PER_CALL = 100_800


@dataclass(frozen=True, slots=True)
class TrafficHistory:
    """Requests in each recorded minute, oldest first.

    ``epoch_minutes`` are unix seconds / 60; a minute without a record is not listed, which
    is not the same as a minute without requests. ``missing`` counts them.
    """

    endpoint: str
    variant: str
    region: str
    epoch_minutes: tuple[int, ...]
    counts: tuple[float, ...]
    missing: int
    notes: tuple[str, ...] = ()


def read_history(
    aws: Aws,
    endpoint: str,
    variant: str,
    *,
    start_unix_s: float,
    end_unix_s: float,
    now_unix_s: float,
) -> TrafficHistory:
    """Read ``Invocations`` per minute of a stretch of time.

    Raises
    ------
    TrafficError
        If nothing is recorded there.
    EndpointError
        If AWS refuses.
    """
    notes: list[str] = []
    start, end = _whole_minutes(start_unix_s, end_unix_s, now_unix_s, notes)
    query = {"n": metric_query(INVOCATION_NAMESPACE, "Invocations", "Sum", endpoint, variant)}
    seen: dict[int, list[float]] = {}
    for first in range(start, end, DATAPOINTS_PER_CALL):
        last = min(first + DATAPOINTS_PER_CALL, end)
        times, values = metric_data(aws, query, float(first * PERIOD_S), float(last * PERIOD_S))[
            "n"
        ]
        for at, count in zip(times, values, strict=True):
            seen.setdefault(math.floor(at / PERIOD_S), []).append(count)
    # An emulator on a faster clock has several of its minutes in one of ours; each of them
    # says requests per minute, so their mean does too.
    counts = {minute: math.fsum(found) / len(found) for minute, found in seen.items()}
    if not counts:
        raise TrafficError(
            f"CloudWatch has no invocations of {endpoint}/{variant} in this stretch",
            allowed="an endpoint that had traffic, under both its names",
            hint="check endpoint, variant and region, or give a traffic file",
        )
    minutes = tuple(sorted(counts))
    missing = (end - start) - len(minutes)
    if missing:
        notes.append(f"{missing} of {end - start} minutes have no record; they are kept as gaps")
    return TrafficHistory(
        endpoint=endpoint,
        variant=variant,
        region=aws.region,
        epoch_minutes=minutes,
        counts=tuple(counts[m] for m in minutes),
        missing=missing,
        notes=tuple(notes),
    )


def _whole_minutes(
    start_unix_s: float, end_unix_s: float, now_unix_s: float, notes: list[str]
) -> tuple[int, int]:
    """First and one past the last epoch minute CloudWatch can tell, with what was left out."""
    oldest, newest = now_unix_s - KEPT_S, now_unix_s - SETTLE_S
    if start_unix_s < oldest:
        notes.append("CloudWatch keeps one-minute data for 15 days; the time before is left out")
    if end_unix_s > newest:
        notes.append(f"the last {SETTLE_S:.0f} s are still being counted and are left out")
    start = math.ceil(max(start_unix_s, oldest) / PERIOD_S)
    end = math.floor(min(end_unix_s, newest) / PERIOD_S)
    if end <= start:
        raise TrafficError(
            "no whole minute of CloudWatch's one-minute data is in this stretch",
            value=f"{start_unix_s:.0f} to {end_unix_s:.0f}",
            allowed="a stretch within the last 15 days",
        )
    return start, end
