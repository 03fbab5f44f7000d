"""The HdrHistogram log is read by the hdrhistogram package, not by code of ours."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hdrh.histogram import HdrHistogram
from hdrh.log import HistogramLogReader

from tuner.campaign.types import GeneratorHealth, StageKind, StageResult, StageSpec
from tuner.load.hdr import encode, hdr_log
from tuner.stats.histogram import windows_of
from tuner.stats.requests import Outcome, RequestLog


def result(log: RequestLog, *, raw: bool = True) -> StageResult:
    spec = StageSpec(3, StageKind.MEASURE, 1, 100.0, 3.0, 0.0, "poisson", 1, "")
    health = GeneratorHealth(1, 1, 0, 0, 0, 1, 1, 1, None, None)
    return StageResult(spec, 1.7e9, log if raw else None, windows_of(log), health)


@pytest.mark.parametrize("scale_s", [1e-6, 1e-3, 1.0, 900.0])
def test_a_decoded_histogram_is_the_one_the_package_records_itself(scale_s: float) -> None:
    rng = np.random.default_rng(5)
    values = rng.lognormal(0, 2, 3000) * scale_s
    ns = np.maximum(np.rint(values * 1e9), 1).astype(int)
    own = HdrHistogram(1, int(ns.max()) * 2, 3)
    for value in ns:
        assert own.record_value(int(value))
    decoded = HdrHistogram.decode(encode(values, np.ones(3000, np.int64)))
    assert decoded.get_total_count() == 3000
    for q in (0, 1, 25, 50, 75, 90, 95, 99, 99.9, 100):
        assert decoded.get_value_at_percentile(q) == own.get_value_at_percentile(q)
    assert decoded.get_max_value() == own.get_max_value()


@pytest.mark.parametrize("raw", [True, False])
def test_the_log_is_read_window_by_window(tmp_path: Path, raw: bool) -> None:
    rng = np.random.default_rng(6)
    start = np.sort(rng.random(2000) * 3)
    took = rng.exponential(0.02, 2000)
    outcome = (rng.random(2000) < 0.1).astype(np.uint8) * np.uint8(Outcome.THROTTLED)
    log = RequestLog.from_times(start, start + took, outcome=outcome)
    path = tmp_path / "run.hlog"
    path.write_text(hdr_log([result(log, raw=raw)]))
    whole = HdrHistogram(1, 10**12, 3)
    reader = HistogramLogReader(str(path), whole)
    seen = 0
    while (interval := reader.get_next_interval_histogram()) is not None:
        seen += interval.get_total_count()
    reader.input_file.close()
    assert seen == 2000
    text = path.read_text()
    assert "Tag=stage3-ok," in text
    assert "Tag=stage3-throttled," in text
    assert sum(line.startswith("Tag=") for line in text.splitlines()) == 6


def test_no_stage_is_a_log_with_a_header_only() -> None:
    assert all(line.startswith(("#", '"')) for line in hdr_log([]).splitlines())
