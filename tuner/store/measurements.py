"""Requests measured by another tool, one a row of a CSV file, as the stages of a run."""

from __future__ import annotations

import math

import numpy as np

from tuner.campaign.types import GeneratorHealth, StageKind, StageResult, StageSpec
from tuner.errors import InputError
from tuner.stats.arrivals import ArrivalTest, arrival_test
from tuner.stats.histogram import windows_of
from tuner.stats.requests import Outcome, RequestLog
from tuner.store.measured_columns import (
    ASKED,
    CLASS,
    CONCURRENCY,
    COUNT,
    DONE,
    LATENCY,
    SCHEDULED,
    SENT,
    STAGE,
    TTFT,
    Table,
    outcomes,
)

LEAST_REQUESTS = 20
SETTLE_SHARE, SETTLE_MOST_S = 0.1, 15.0
SHORT_OF_ASKED = 0.1
"""A load this much below the asked one was not the asked load."""
ROWS_HELP = (
    "one request a row: its intended start (such as scheduled_s or t_launch_s) and latency_s or "
    "done_s; optional outcome, ttft_s, sent_s, payload_class, target_qps, instance_count, stage"
)


def has_requests(table: Table) -> bool:
    """Whether each row is a request (else it sums up a load)."""
    timed = table.find(LATENCY) is not None or table.find(DONE) is not None
    return timed and table.find(SCHEDULED) is not None


def class_names(table: Table) -> tuple[str, ...]:
    """Payload classes in order of appearance; none without such a column."""
    name = table.find(CLASS)
    return () if name is None else tuple(dict.fromkeys(table.cells(name)))


def stages_of(
    table: Table, *, instance_count: int = 1, settle_s: float | None = None
) -> tuple[StageResult, ...]:
    """Every load of the file as a finished stage, in order of appearance.

    Parameters
    ----------
    table
        One request a row.
    instance_count
        Instances behind the endpoint, where no column says it.
    settle_s
        Seconds at the start of each load that are not measured; None is a tenth of it, at
        most 15 s.

    Raises
    ------
    InputError
        If a column is missing, or the rows cannot be requests in order.
    """
    logs = _columns(table)
    found: list[StageResult] = []
    for key, rows in _groups(table, instance_count).items():
        log = _part(logs, rows, table)
        if len(log) >= LEAST_REQUESTS:
            closed = _closed(table)
            found.append(_stage(len(found), log, key[0], key[1], settle_s, closed=closed))
    if not found:
        raise InputError(
            f"{table.file}: no load has {LEAST_REQUESTS} requests",
            value=len(table.rows),
            hint="the rows are told apart by stage, offered rate and instance count",
        )
    return tuple(found)


def _closed(table: Table) -> bool:
    """Users who wait for answers are counted; loads that do not wait have a rate."""
    return table.find(CONCURRENCY) is not None and table.find(ASKED) is None


def _columns(table: Table) -> RequestLog:
    start, latency, done = table.find(SCHEDULED), table.find(LATENCY), table.find(DONE)
    if start is None or (latency is None and done is None):
        raise InputError(
            f"{table.file}: the requests' times are not there",
            value=", ".join(table.names),
            allowed=ROWS_HELP,
        )
    scheduled = table.numbers(start)
    if not np.isfinite(scheduled).all():
        raise InputError(f"{table.file}: a request has no start", value=start)
    ends = table.numbers(done) if done is not None else scheduled + table.numbers(latency or "")
    outcome = outcomes(table)
    # A request without an end never ended well; a failed one ended when it was given up.
    outcome[np.isnan(ends) & (outcome == int(Outcome.OK))] = int(Outcome.OTHER)
    ends = np.where(np.isnan(ends), scheduled, ends)
    if np.any(ends < scheduled):
        row = int(np.argmax(ends < scheduled)) + 2
        raise InputError(f"{table.file}: the request of row {row} ends before it starts", value=row)
    ttft, sent, kind = table.find(TTFT), table.find(SENT), table.find(CLASS)
    names = class_names(table)
    classes = (
        np.zeros(len(scheduled), np.uint16)
        if kind is None
        else np.array([names.index(c) for c in table.cells(kind)], np.uint16)
    )
    return RequestLog(
        scheduled,
        scheduled if sent is None else table.numbers(sent),
        np.full(len(scheduled), math.nan) if ttft is None else scheduled + table.numbers(ttft),
        ends,
        outcome,
        classes,
        np.zeros(len(scheduled), np.uint16),
    )


Key = tuple[int, float | None, str]
"""Instance count, asked rate, stage."""


def _groups(table: Table, instance_count: int) -> dict[Key, list[int]]:
    count, asked, stage = table.find(COUNT), table.find(ASKED), table.find(STAGE)
    counts = table.numbers(count) if count is not None else None
    rates = table.numbers(asked) if asked is not None else None
    stages = table.cells(stage) if stage is not None else None
    if counts is not None and not (np.isfinite(counts).all() and counts.min() >= 1.0):
        raise InputError(f"{table.file}: an instance count is below 1 or missing", value=count)
    found: dict[Key, list[int]] = {}
    for row in range(len(table.rows)):
        key = (
            instance_count if counts is None else int(counts[row]),
            None if rates is None else float(rates[row]),
            "" if stages is None else stages[row],
        )
        found.setdefault(key, []).append(row)
    return found


def _part(log: RequestLog, rows: list[int], table: Table) -> RequestLog:
    at = np.array(rows)
    part = RequestLog(*(c[at] for c in log.columns().values()))
    # Rows may stand in the order of their ends, but two whole runs must not be mixed.
    back = np.diff(part.scheduled_s)
    span = float(np.ptp(part.scheduled_s))
    if len(back) and float(back.min()) < -0.5 * span and span > 0.0:
        raise InputError(
            f"{table.file}: the requests of one load go back to its start at row "
            f"{rows[int(np.argmin(back)) + 1] + 2}",
            value=span,
            allowed="one run of each load",
            hint="choose one with --where COLUMN=VALUE, or add a column named stage",
        )
    order = np.argsort(part.scheduled_s, kind="stable")
    return RequestLog(*(c[order] for c in part.columns().values()))


def _stage(
    index: int,
    log: RequestLog,
    count: int,
    asked: float | None,
    settle_s: float | None,
    *,
    closed: bool,
) -> StageResult:
    start = log.scheduled_s
    n, span = len(log), float(start[-1] - start[0])
    length = span * n / (n - 1) if span > 0.0 else 0.0
    if length <= 0.0:
        raise InputError("all requests of a load start at once", value=n, allowed="an open loop")
    settle = min(SETTLE_SHARE * length, SETTLE_MOST_S) if settle_s is None else settle_s
    opened = float(start[0]) + settle
    inside = start >= opened
    moved = RequestLog(
        log.scheduled_s - opened,
        log.sent_s - opened,
        log.first_chunk_s - opened,
        log.done_s - opened,
        log.outcome,
        log.payload_class,
        log.worker,
    )
    kept = RequestLog(*(c[inside] for c in moved.columns().values()))
    duration = length - settle
    if len(kept) < LEAST_REQUESTS or duration <= 0.0:
        raise InputError(
            f"a load keeps {len(kept)} requests after settling",
            value=settle,
            allowed=f"at least {LEAST_REQUESTS}",
            hint="give a smaller --settle-s",
        )
    rate = n / length
    tested = arrival_test(kept.scheduled_s, rate, duration, bin_s=max(0.1, 2.0 / rate))
    spec = StageSpec(
        index=index,
        kind=StageKind.MEASURE,
        instance_count=count,
        rate_per_s=rate,
        duration_s=duration,
        settle_s=settle,
        arrivals="constant" if regular(tested) else "poisson",
        seed=0,
        purpose="imported" if asked is None else f"imported, asked for {asked:g}/s",
    )
    ends, starts = moved.done_s, moved.scheduled_s
    return StageResult(
        spec,
        opened,
        kept,
        windows_of(kept),
        _health(kept, rate, asked, tested, closed=closed),
        in_flight_at_start=int(np.count_nonzero((starts < 0.0) & (ends > 0.0))),
        in_flight_at_end=int(np.count_nonzero(ends > duration)),
    )


def regular(test: ArrivalTest | None) -> bool:
    """Whether arrivals are more even than independent callers would be."""
    return test is not None and test.dispersion < 1.0 and not test.poisson


def _health(
    log: RequestLog, rate: float, asked: float | None, test: ArrivalTest | None, *, closed: bool
) -> GeneratorHealth:
    """What the rows say of the tool that sent them; what they do not say is NaN."""
    lag = log.send_lag_s()
    known = not np.array_equal(log.sent_s, log.scheduled_s) and np.isfinite(lag).any()
    reasons = []
    if asked is not None and rate < asked * (1.0 - max(SHORT_OF_ASKED, 3.0 / math.sqrt(len(log)))):
        reasons.append(f"only {rate:.4g}/s of the {asked:g}/s asked for were sent")
    if log.count(Outcome.DROPPED):
        reasons.append(f"{log.count(Outcome.DROPPED)} requests were never sent")
    return GeneratorHealth(
        asked_rate_per_s=rate if asked is None else asked,
        achieved_rate_per_s=rate,
        send_lag_p99_s=float(np.nanquantile(lag, 0.99)) if known else math.nan,
        loop_lag_p99_s=math.nan,
        cpu_share_max=math.nan,
        in_flight_max=0,
        in_flight_cap=0,
        workers=1,
        arrivals_ks_p_value=None if test is None else test.ks_p_value,
        arrivals_dispersion=None if test is None else test.dispersion,
        void_reasons=tuple(reasons),
        remedy="measure again with a load tool that keeps up" if reasons else None,
        open_loop=not closed,
    )
