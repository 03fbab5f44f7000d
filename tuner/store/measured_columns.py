"""What the columns of a file of measurements mean: their names, units and cells."""

from __future__ import annotations

import csv
import io
import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tuner.errors import InputError
from tuner.stats.requests import Outcome
from tuner.workload.traffic_columns import tidy

FloatArray = NDArray[np.float64]

SCHEDULED = (
    "scheduled", "intended_start", "t_scheduled", "t_sched", "t_launch", "launch", "t_start",
    "start", "start_time", "request_start", "arrival", "timestamp", "time", "t",
)  # fmt: skip
SENT = ("sent", "t_sent", "request_sent")
DONE = ("done", "t_done", "end", "t_end", "end_time", "request_end", "finished", "completed")
LATENCY = (
    "latency", "request_latency", "e2e_latency", "response_time", "elapsed", "duration",
    "total_time",
)  # fmt: skip
TTFT = ("ttft", "time_to_first_token", "time_to_first_chunk", "first_chunk")
ACHIEVED = ("launch_rate", "achieved_rate", "actual_rate", "sent_rate", "measured_rate")
ASKED = (
    "rate", "offered_rate", "request_rate", "target_qps", "target_rps", "target_rate", "qps",
    "rps", "offered_qps", "offered_rps",
)  # fmt: skip
COUNT = ("instance_count", "instances", "replicas")
STAGE = ("stage", "step", "level")
OUTCOME = ("outcome", "status", "status_code", "http_status", "code", "ok", "success")
ERROR = ("error", "error_message", "exception", "failure")
CLASS = ("payload_class", "class", "use_case", "request_class")
CONCURRENCY = ("concurrency", "users", "virtual_users", "vus", "clients")
REQUESTS = ("requests", "n", "total_requests", "request_count")
LATE = ("late", "over_slo", "slo_misses", "violations")

_UNITS = {"s": 1.0, "sec": 1.0, "seconds": 1.0, "ms": 1e-3, "us": 1e-6, "ns": 1e-9}
_RATE_UNITS = ("per_s", "per_sec", "rps", "qps")
_WORDS = {
    **dict.fromkeys(("ok", "true", "success", "succeeded", "passed", "1"), Outcome.OK),
    **dict.fromkeys(("throttled", "throttling", "429"), Outcome.THROTTLED),
    **dict.fromkeys(("model_error", "424", "500", "502", "503", "504"), Outcome.MODEL_ERROR),
    **dict.fromkeys(("timeout", "timed_out", "408"), Outcome.TIMEOUT),
    **dict.fromkeys(("connection", "connection_error", "refused", "reset"), Outcome.CONNECTION),
    "dropped": Outcome.DROPPED,
}


@dataclass(frozen=True, slots=True)
class Table:
    """A CSV file: tidied column names, and its rows as text."""

    file: str
    names: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]

    def find(self, bases: Sequence[str]) -> str | None:
        """The first column that is one of these, whatever unit it names."""
        known = {base_and_unit(name)[0]: name for name in reversed(self.names)}
        known.update({name: name for name in self.names})
        return next((known[base] for base in bases if base in known), None)

    def cells(self, name: str) -> list[str]:
        """A column's text."""
        at = self.names.index(name)
        return [row[at] for row in self.rows]

    def numbers(self, name: str) -> FloatArray:
        """A column of numbers in seconds, or as they are; NaN where empty, shape (rows,).

        Raises
        ------
        InputError
            If a cell is no number.
        """
        factor = base_and_unit(name)[1]
        found = np.empty(len(self.rows))
        for i, cell in enumerate(self.cells(name)):
            try:
                found[i] = float(cell) * factor if cell.strip() else math.nan
            except ValueError:
                raise InputError(
                    f"{self.file}: row {i + 2} of column {name} is not a number", value=cell
                ) from None
        return found


def base_and_unit(name: str) -> tuple[str, float]:
    """``latency_ms`` -> (``latency``, 0.001); a name without a unit counts in seconds."""
    for unit in _RATE_UNITS:
        if name.endswith("_" + unit) and name.removesuffix("_" + unit) in (*ACHIEVED, *ASKED):
            return name.removesuffix("_" + unit), 1.0
    base, _, unit = name.rpartition("_")
    return (base, _UNITS[unit]) if base and unit in _UNITS else (name, 1.0)


def read_table(text: str, file: str, where: Iterable[tuple[str, str]] = ()) -> Table:
    """The rows of a CSV text that match every (column, value) of ``where``.

    Raises
    ------
    InputError
        Without a header, rows or such a column, or when no row matches.
    """
    lines = csv.reader(io.StringIO(text))
    header = next(lines, None)
    if not header:
        raise InputError(f"{file} is empty", allowed="a CSV file with a header line")
    names = tuple(tidy(h) for h in header)
    rows = [tuple(row) for row in lines if any(cell.strip() for cell in row)]
    short = next((i for i, row in enumerate(rows) if len(row) != len(names)), None)
    if short is not None:
        raise InputError(
            f"{file}: row {short + 2} has {len(rows[short])} cells and the header {len(names)}",
            value=",".join(rows[short])[:80],
        )
    for column, value in where:
        if tidy(column) not in names:
            raise InputError(
                f"{file} has no column {column!r}", value=column, allowed=", ".join(header)
            )
        at = names.index(tidy(column))
        seen = dict.fromkeys(row[at] for row in rows)
        rows = [row for row in rows if row[at] == value]
        if not rows:
            raise InputError(
                f"{file}: no row has {column} = {value}",
                value=value,
                allowed=", ".join(list(seen)[:12]),
            )
    if not rows:
        raise InputError(f"{file} has no rows", value=file)
    return Table(file, names, tuple(rows))


def outcomes(table: Table) -> NDArray[np.uint8]:
    """How each request ended, shape (rows,); all OK without a column that says it."""
    name, error = table.find(OUTCOME), table.find(ERROR)
    found = np.zeros(len(table.rows), np.uint8)
    if name is not None:
        found[:] = [_outcome(cell) for cell in table.cells(name)]
    if error is not None:
        failed = [bool(cell.strip()) and cell.strip() not in ("0", "None") for cell in
                  table.cells(error)]  # fmt: skip
        found[np.array(failed) & (found == int(Outcome.OK))] = int(Outcome.OTHER)
    return found


def _outcome(cell: str) -> int:
    word = tidy(cell)
    if word in _WORDS:
        return int(_WORDS[word])
    return int(Outcome.OK if re.fullmatch(r"2\d\d", word) else Outcome.OTHER)
