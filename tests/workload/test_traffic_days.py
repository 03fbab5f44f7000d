"""Days, growth, and shapes."""

from __future__ import annotations

from datetime import datetime

import numpy as np
import pytest

from tuner.errors import TrafficError
from tuner.workload.days import fill_gaps
from tuner.workload.traffic import SHAPES, TrafficProfile, make_traffic, sample_day


def profile(minutes: np.ndarray, start: datetime | None = None) -> TrafficProfile:
    week = start.weekday() * 1440 + start.hour * 60 + start.minute if start else 0
    return TrafficProfile(minutes, week, "made", start=start)


def test_gaps_take_the_larger_neighbour() -> None:
    nan = np.nan
    got = fill_gaps(np.array([nan, 3.0, nan, nan, 9.0, nan, 4.0, nan]))
    assert got.tolist() == [3.0, 3.0, 9.0, 9.0, 9.0, 9.0, 4.0, 4.0]


def test_a_day_with_a_long_gap_is_left_out_and_said() -> None:
    minutes = np.arange(3 * 1440, dtype=np.float64)
    minutes[1440 + 200 : 1440 + 300] = np.nan  # 100 minutes of day 1
    minutes[2 * 1440 + 5] = np.nan  # 1 minute of day 2
    days = profile(minutes).day_set()
    assert days.requests_per_min.shape == (2, 1440)
    assert days.left_out == 1
    assert days.filled_minutes == 1
    assert days.requests_per_min[1, 5] == 2 * 1440 + 6
    assert len(days.notes) == 2


def test_dated_records_are_cut_at_midnight_and_know_weekends() -> None:
    start = datetime(2026, 11, 19, 18, 0)  # noqa: DTZ001 - a Thursday evening
    days = profile(np.ones(6 * 1440), start).day_set()
    assert days.first_minute.tolist() == [360, 1800, 3240, 4680, 6120]
    assert days.weekend.tolist() == [False, True, True, False, False]
    assert days.count == 5


def test_short_dated_records_are_cut_from_their_start() -> None:
    start = datetime(2026, 11, 19, 18, 0)  # noqa: DTZ001
    assert profile(np.ones(2 * 1440), start).days().shape == (2, 1440)


def test_part_days_are_kept_as_they_are() -> None:
    days = profile(np.ones(59)).day_set()
    assert days.requests_per_min.shape == (1, 59)
    assert days.is_part_day


@pytest.mark.parametrize("size", [59, 1440, 3 * 1440])
def test_records_that_are_mostly_gaps_are_refused(size: int) -> None:
    minutes = np.full(size, np.nan)
    minutes[::9] = 1.0
    with pytest.raises(TrafficError):
        profile(minutes).day_set()


def test_growth_and_peak() -> None:
    base = profile(np.array([1.0, np.nan, 4.0]))
    assert base.scaled(1.5).peak_per_min == 6.0
    assert base.with_peak(10.0).requests_per_min[0] == 2.5
    assert base.scaled(1.5).gaps == 1
    for bad in (0.0, -1.0, np.inf, np.nan):
        with pytest.raises(TrafficError):
            base.scaled(bad)
        with pytest.raises(TrafficError):
            base.with_peak(bad)


@pytest.mark.parametrize("shape", SHAPES)
def test_shapes_repeat_by_seed_and_reach_their_peak(shape: str) -> None:
    one = make_traffic(shape, peak_per_min=10_000.0, days=7, seed=4)
    two = make_traffic(shape, peak_per_min=10_000.0, days=7, seed=4)
    other = make_traffic(shape, peak_per_min=10_000.0, days=7, seed=5)
    np.testing.assert_array_equal(one.requests_per_min, two.requests_per_min)
    assert not np.array_equal(one.requests_per_min, other.requests_per_min)
    assert one.requests_per_min.size == 7 * 1440
    assert one.peak_per_min == pytest.approx(10_000.0, rel=0.05)


def test_shapes_have_their_shape() -> None:
    weekly = make_traffic("weekly", peak_per_min=1e5, days=7).days().mean(axis=1)
    assert weekly[5:].max() < 0.75 * weekly[:5].min()
    step = make_traffic("launch_step", peak_per_min=1e5, days=2, trough_share=1.0).requests_per_min
    assert step[1440:].mean() / step[:1440].mean() == pytest.approx(2.5, rel=0.05)
    ramp = make_traffic("ramp", peak_per_min=1e5, days=1, trough_share=0.1).requests_per_min
    assert ramp[720] / ramp[-20:].mean() == pytest.approx(0.55, abs=0.08)
    calm = make_traffic("diurnal", peak_per_min=1e5, days=1).requests_per_min
    assert np.argmax(calm) // 60 in range(13, 20)


def test_the_sample_day_has_bursts_that_the_plain_day_has_not() -> None:
    def steepest(minutes: np.ndarray) -> float:
        return float(np.max(minutes[5:] / minutes[:-5]))

    plain = make_traffic("diurnal", peak_per_min=6000.0)
    assert steepest(sample_day(peak_per_min=6000.0).requests_per_min) > 1.3 > 0
    assert steepest(sample_day(peak_per_min=6000.0).requests_per_min) > steepest(
        plain.requests_per_min
    )


@pytest.mark.parametrize(
    "bad",
    [
        {"shape": "wave"},
        {"peak_per_min": 0.0},
        {"days": 0.0},
        {"days": 1e9},
        {"trough_share": 0.0},
        {"trough_share": 2.0},
    ],
)
def test_shape_numbers_out_of_range_are_refused(bad: dict[str, object]) -> None:
    given: dict[str, object] = {"shape": "diurnal", "peak_per_min": 100.0, **bad}
    with pytest.raises(TrafficError):
        make_traffic(given.pop("shape"), **given)  # type: ignore[arg-type]
