"""``data_capture.json``: what ``tuner capture`` measured, kept beside a run."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tuner.errors import RunDirectoryError
from tuner.interval import Interval
from tuner.plan.knobs import DataCaptureTable
from tuner.recommend.as_json import dump_json
from tuner.recommend.data_capture import (
    S3_STANDARD,
    CaptureDecision,
    CaptureEffect,
    CaptureLoad,
    CapturePrices,
    CaptureRules,
    decide_capture,
)
from tuner.recommend.json_values import interval_json
from tuner.recommend.types import Recommendation
from tuner.store.files import write_whole
from tuner.units import HOURS_PER_MONTH, SECONDS_PER_HOUR, SECONDS_PER_MINUTE

CAPTURE_FILE = "data_capture.json"
SCHEMA_VERSION = 1


@dataclass(frozen=True, slots=True)
class CaptureMeasured:
    """What was measured: effects, and mean payload sizes in bytes."""

    effects: tuple[CaptureEffect, ...]
    request_bytes: float | None
    response_bytes: float | None
    rate_per_instance_per_s: float | None


def effect_row(effect: CaptureEffect) -> str:
    """One line for people."""
    p99, mean = effect.p99_ratio, effect.mean_ratio
    return (
        f"capture {effect.sampling_percent:>3} %: p99 x{p99.mid:.3f} ({p99.low:.3f} to "
        f"{p99.high:.3f}), mean x{mean.mid:.4f} ({mean.low:.4f} to {mean.high:.4f}), "
        f"p = {effect.p_value:.2g}, {effect.requests:,} requests"
    )


def write_measured(path: Path, table: DataCaptureTable, measured: CaptureMeasured) -> None:
    """Write the file; the plan's table goes with it, for a run made before it was there."""
    document = {
        "schema_version": SCHEMA_VERSION,
        "plan": {k: v for k, v in table.model_dump(mode="json").items() if v is not None},
        "request_bytes": measured.request_bytes,
        "response_bytes": measured.response_bytes,
        "rate_per_instance_per_s": measured.rate_per_instance_per_s,
        "effects": [
            {
                "sampling_percent": e.sampling_percent,
                "p99_ratio": interval_json(e.p99_ratio),
                "mean_ratio": interval_json(e.mean_ratio),
                "p_value": e.p_value,
                "requests": e.requests,
                "rate_per_instance_per_s": e.rate_per_instance_per_s,
            }
            for e in measured.effects
        ],
    }
    write_whole(path, dump_json(document))


def read_measured(path: Path) -> tuple[DataCaptureTable, CaptureMeasured] | None:
    """The file of a run directory; None when there is none.

    Raises
    ------
    RunDirectoryError
        If it is damaged.
    """
    if not path.is_file():
        return None
    try:
        raw = json.loads(path.read_text("utf-8"))
        if raw["schema_version"] != SCHEMA_VERSION:
            raise ValueError(f"schema_version {raw['schema_version']}")
        given = {k: tuple(v) if isinstance(v, list) else v for k, v in raw["plan"].items()}
        table = DataCaptureTable.model_validate(given)
        effects = tuple(_effect(e) for e in raw["effects"])
        sizes = (raw["request_bytes"], raw["response_bytes"], raw["rate_per_instance_per_s"])
        return table, CaptureMeasured(effects, *sizes)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise RunDirectoryError(
            "the measurement of data capture cannot be read",
            value=f"{path}: {error}",
            hint="measure again with tuner capture, or remove the file",
        ) from None


def _effect(raw: Mapping[str, Any]) -> CaptureEffect:
    return CaptureEffect(
        int(raw["sampling_percent"]),
        _interval(raw["p99_ratio"]),
        _interval(raw["mean_ratio"]),
        float(raw["p_value"]),
        int(raw["requests"]),
        float(raw["rate_per_instance_per_s"]),
    )


def _interval(raw: Mapping[str, Any]) -> Interval:
    return Interval(float(raw["low"]), float(raw["mid"]), float(raw["high"]), float(raw["level"]))


def capture_decision(
    run: Path,
    table: DataCaptureTable | None,
    payload_bytes: object,
    recommendation: Recommendation,
    mean_per_min: float,
) -> CaptureDecision | None:
    """How much to capture, from the plan's table and what was measured; None if nobody asked.

    ``payload_bytes`` is what the run's journal says of requests and answers, if anything.
    """
    found = read_measured(run / CAPTURE_FILE)
    measured = None
    if found is not None:
        noted, measured = found
        # The plan of the run comes first; a run made without the table takes the later one.
        table = table or noted
    if table is None:
        return None
    chosen = recommendation.chosen
    hours = chosen.expected.instance_hours_per_day.mid if chosen is not None else None
    sizes = [table.request_bytes, table.response_bytes]
    known = [None, None] if measured is None else [measured.request_bytes, measured.response_bytes]
    journal = payload_bytes if isinstance(payload_bytes, list) else [None, None]
    request, response = (
        next((v for v in (a, b, c) if v is not None), None)
        for a, b, c in zip(sizes, known, journal, strict=True)
    )
    load = None
    if request is not None and response is not None and hours is not None:
        load = CaptureLoad(
            request_bytes=request,
            response_bytes=response,
            requests_per_month=mean_per_min
            * HOURS_PER_MONTH
            * (SECONDS_PER_HOUR / SECONDS_PER_MINUTE),
            instances=hours / 24.0,
            base64=table.base64,
            files_per_instance_min=table.files_per_instance_min,
        )
    return decide_capture(rules_of(table), load, measured.effects if measured else ())


def rules_of(table: DataCaptureTable) -> CaptureRules:
    """The plan's table as rules."""
    storage = table.storage_usd_per_gb_month
    put = table.put_usd_per_1000
    given = storage is not None or put is not None
    prices = CapturePrices(
        S3_STANDARD.storage_usd_per_gb_month if storage is None else storage,
        S3_STANDARD.put_usd_per_1000 if put is None else put,
        "the plan" if given else S3_STANDARD.source,
    )
    return CaptureRules(
        table.sampling_percent,
        table.budget_usd_per_month,
        table.p99_allowance,
        float(table.retention_days),
        table.destination,
        prices,
    )
