"""The generator's own share of a latency is measured, small, and leaves nothing behind."""

from __future__ import annotations

import os

import psutil

from tuner.load.own_latency import measure_own_latency


def test_the_own_latency_is_far_below_any_slo() -> None:
    before = set(psutil.Process(os.getpid()).children())
    own = measure_own_latency(rate_per_s=100.0, duration_s=1.0)
    assert 50 < own.n < 160
    assert 0 < own.p50_s < 0.02
    assert own.p50_s <= own.p99_s
    assert set(psutil.Process(os.getpid()).children()) == before
