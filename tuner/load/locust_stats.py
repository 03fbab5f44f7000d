"""Feeding Locust's own statistics in bulk, so that its web UI, CSV and console keep working.

Locust's ``request`` event costs several microseconds a call; with no listener but Locust's
own the same numbers are added batch by batch. A listener of the user's gets every request.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

import numpy as np
from locust.stats import RequestStats, StatsError, bucket_response_time

from tuner.load.rows import Rows
from tuner.stats.requests import Outcome
from tuner.units import s_to_ms

_OK, _DROPPED = int(Outcome.OK), int(Outcome.DROPPED)


class RequestFailedError(Exception):
    """How a failed request is shown in Locust's failure table."""


def has_user_listeners(environment: Any) -> bool:
    """Whether anybody but Locust's runner listens to the request event."""
    return len(environment.events.request._handlers) > 1


def feed(environment: Any, rows: Rows, method: str, names: Sequence[str]) -> None:
    """Add rows (times absolute on the monotonic clock) to Locust's statistics.

    ``names`` holds the request name of each payload.
    """
    if not len(rows):
        return
    if has_user_listeners(environment):
        _fire_each(environment, rows, method, names)
        return
    stats: RequestStats = environment.stats
    offset = time.time() - time.monotonic()
    name_of = np.array(names, dtype=object)[rows["payload"]]
    for name in set(names):
        mine = rows[name_of == name]
        if not len(mine):
            continue
        entries = (stats.total, stats.entries[(name, method)])
        for entry in entries:
            _add(entry, mine, offset)
        for outcome, count in zip(
            *np.unique(mine["outcome"][mine["outcome"] != _OK], return_counts=True), strict=True
        ):
            _add_error(stats, method, name, Outcome(outcome), int(count))


def _took_ms(rows: Rows) -> Any:
    took = np.where(rows["outcome"] == _DROPPED, 0.0, rows["done_s"] - rows["scheduled_s"])
    return took * s_to_ms(1.0)


def _add(entry: Any, rows: Rows, offset: float) -> None:
    ended = np.where(rows["outcome"] == _DROPPED, rows["scheduled_s"], rows["done_s"]) + offset
    took_ms = _took_ms(rows)
    last = float(ended.max())
    known = entry.last_request_timestamp
    if entry.use_response_times_cache and known and int(last) > int(known):
        entry._cache_response_times(int(last) - 1)
    entry.num_requests += len(rows)
    entry.total_content_length += int(rows["body_bytes"].sum())
    entry.total_response_time += float(took_ms.sum())
    low = float(took_ms.min())
    entry.min_response_time = (
        low if entry.min_response_time is None else min(entry.min_response_time, low)
    )
    entry.max_response_time = max(entry.max_response_time, float(took_ms.max()))
    for value, count in zip(*np.unique(np.rint(took_ms), return_counts=True), strict=True):
        entry.response_times[bucket_response_time(float(value))] += int(count)
    seconds = ended.astype(np.int64)
    for second, count in zip(*np.unique(seconds, return_counts=True), strict=True):
        entry.num_reqs_per_sec[int(second)] += int(count)
    bad = rows["outcome"] != _OK
    entry.num_failures += int(np.count_nonzero(bad))
    for second, count in zip(*np.unique(seconds[bad], return_counts=True), strict=True):
        entry.num_fail_per_sec[int(second)] += int(count)
    entry.last_request_timestamp = max(known or 0.0, last)


def _add_error(stats: RequestStats, method: str, name: str, outcome: Outcome, count: int) -> None:
    error = RequestFailedError(outcome.name.lower())
    key = StatsError.create_key(method, name, error)
    entry = stats.errors.get(key)
    if entry is None:
        entry = stats.errors[key] = StatsError(method, name, error)
    entry.occurred()
    entry.occurrences += count - 1


def _fire_each(environment: Any, rows: Rows, method: str, names: Sequence[str]) -> None:
    for row, took in zip(rows, _took_ms(rows).tolist(), strict=True):
        outcome = Outcome(int(row["outcome"]))
        environment.events.request.fire(
            request_type=method,
            name=names[int(row["payload"])],
            response_time=took,
            response_length=int(row["body_bytes"]),
            exception=None if outcome is Outcome.OK else RequestFailedError(outcome.name.lower()),
            context={},
            response=None,
        )
