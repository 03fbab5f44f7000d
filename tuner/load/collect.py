"""Gathering a stage's rows from all workers: exact columns, exact windows, a live look."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tuner.campaign.types import StageProgress, StageSpec
from tuner.load.health import Observed
from tuner.load.outcomes import ErrorTexts
from tuner.load.rows import ROW_DTYPE, Rows, to_log
from tuner.stats.histogram import LatencyHistogram, Window, windows_of
from tuner.stats.requests import Outcome, RequestLog

WINDOW_S = 1.0
RECENT = 8
"""Batches of rows the live percentiles look back on."""


class Collector:
    """Rows of one stage.

    Columns are kept up to ``keep_raw`` requests; beyond that every batch is folded into
    windows at once, which is exact: windows add.
    """

    def __init__(self, spec: StageSpec, class_index: NDArray[np.uint16], keep_raw: int) -> None:
        self._spec = spec
        self._class_index = class_index
        self._keep_raw = keep_raw
        self._rows: list[Rows] = []
        self._folded: dict[float, Window] | None = None
        self._count = 0
        self._ok = 0
        self._dropped = 0
        self._answer_bytes = 0
        self._in_flight: dict[int, int] = {}
        self._recent: deque[NDArray[np.float64]] = deque(maxlen=RECENT)
        self._lags = LatencyHistogram.of([])

    def add(self, worker: int, rows: Rows) -> None:
        """Take a batch from a worker."""
        mine = rows.copy()
        mine["worker"] = worker
        self._count += len(mine)
        ok = mine["outcome"] == Outcome.OK
        self._ok += int(np.count_nonzero(ok))
        self._dropped += int(np.count_nonzero(mine["outcome"] == Outcome.DROPPED))
        self._answer_bytes += int(mine["body_bytes"][ok].sum(dtype=np.int64))
        took = mine["done_s"] - mine["scheduled_s"]
        self._recent.append(np.where(ok, took, np.inf))
        self._rows.append(mine)
        if self._folded is not None or self._count > self._keep_raw:
            self._fold()

    def _fold(self) -> None:
        if self._folded is None:
            self._folded = {}
        log = self._joined()
        self._rows.clear()
        lag = log.send_lag_s()
        parts = [self._lags, LatencyHistogram.of(lag[np.isfinite(lag)])]
        self._lags = LatencyHistogram.merge(parts)
        for window in windows_of(log, WINDOW_S):
            known = self._folded.get(window.start_s)
            self._folded[window.start_s] = (
                window if known is None else Window.merge([known, window])
            )

    def _joined(self) -> RequestLog:
        rows = np.concatenate(self._rows) if self._rows else np.empty(0, dtype=ROW_DTYPE)
        return to_log(rows, self._class_index)

    @property
    def answer_bytes(self) -> float | None:
        """Mean size of a successful answer's body; None when there was none."""
        return self._answer_bytes / self._ok if self._ok else None

    def log(self) -> RequestLog | None:
        """Every request, or None if there were too many to keep."""
        return None if self._folded is not None else self._joined()

    def windows(self) -> tuple[Window, ...]:
        """Windows over the whole stage."""
        if self._folded is None:
            return windows_of(self._joined(), WINDOW_S)
        return tuple(self._folded[start] for start in sorted(self._folded))

    def note_in_flight(self, worker: int, count: int) -> None:
        """A worker says how many requests it has in flight."""
        self._in_flight[worker] = count

    def progress(self, elapsed_s: float) -> StageProgress:
        """A live look."""
        recent = np.concatenate(self._recent) if self._recent else np.empty(0)
        p50, p99 = math.nan, math.nan
        if recent.size:
            p50, p99 = np.quantile(recent, (0.5, 0.99), method="inverted_cdf")
        in_flight = sum(self._in_flight.values())
        done = self._count - self._dropped
        return StageProgress(
            spec=self._spec,
            elapsed_s=elapsed_s,
            sent=done + in_flight,
            completed=done,
            failed=self._count - self._ok,
            in_flight=in_flight,
            p50_s=float(p50),
            p99_s=float(p99),
        )

    def observed(
        self,
        summaries: Sequence[dict[str, Any]],
        lost: Sequence[str],
        cap: int,
        slo_s: float | None,
    ) -> Observed:
        """What the judgement of the generator's health looks at."""
        log = self.log()
        if log is None:
            lag_p99 = self._lags.quantile_s(0.99)
        else:
            lag = log.send_lag_s()
            lag = lag[np.isfinite(lag)]
            lag_p99 = float(np.quantile(lag, 0.99, method="inverted_cdf")) if lag.size else 0.0
        return Observed(
            summaries=summaries,
            lost=lost,
            sent=self._count - self._dropped,
            scheduled=self._count,
            dropped=self._dropped,
            send_lag_p99_s=lag_p99,
            in_flight_cap=cap,
            log=log,
            slo_s=slo_s,
        )

    @staticmethod
    def merge_texts(parts: Iterable[Sequence[Sequence[Any]]]) -> list[tuple[str, int]]:
        """Error texts of all workers, counts added."""
        texts = ErrorTexts()
        for part in parts:
            for text, count in part:
                texts.add(str(text), int(count))
        return texts.items()


def merged_gaps(summaries: Iterable[dict[str, Any]]) -> LatencyHistogram:
    """Gaps between streamed parts, of all workers."""
    parts = [s["chunk_gaps"] for s in summaries if "chunk_gaps" in s]
    return LatencyHistogram.merge(
        LatencyHistogram(np.array(index, np.int32), np.array(count, np.int64))
        for index, count in parts
    )
