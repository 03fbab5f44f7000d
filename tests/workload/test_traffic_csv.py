"""What a traffic file may look like, and what is said when it may not."""

from __future__ import annotations

from datetime import datetime

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tuner.errors import TrafficError
from tuner.workload.traffic import format_traffic_csv, make_traffic, parse_traffic_csv


def rows(header: str, *lines: str) -> str:
    return "\n".join([header, *lines]) + "\n"


def test_iso_minutes_with_offset_keep_local_time() -> None:
    text = rows(
        "timestamp,requests", "2026-11-22T14:05:00+01:00,10", "2026-11-22T14:06:00+01:00,20"
    )
    profile = parse_traffic_csv(text, "t.csv")
    assert profile.requests_per_min.tolist() == [10.0, 20.0]
    assert profile.start == datetime(2026, 11, 22, 14, 5)  # noqa: DTZ001
    assert profile.start_minute_of_week == 6 * 1440 + 14 * 60 + 5  # 2026-11-22 is a Sunday


@pytest.mark.parametrize("factor", [1, 1000, 1_000_000, 1_000_000_000])
def test_epoch_units_are_told_apart(factor: int) -> None:
    base = 1_795_000_020  # 2026-11-18 11:07:00 UTC, a Wednesday (date -u -d @1795000020)
    text = rows("time,count", *(f"{(base + 60 * i) * factor},{i + 1}" for i in range(3)))
    profile = parse_traffic_csv(text, "t.csv")
    assert profile.requests_per_min.tolist() == [1.0, 2.0, 3.0]
    assert profile.start == datetime(2026, 11, 18, 11, 7)  # noqa: DTZ001
    assert profile.start_minute_of_week == 2 * 1440 + 11 * 60 + 7


def test_a_missing_minute_and_an_empty_cell_are_gaps_not_zero() -> None:
    text = rows("t_min,requests", "0,5", "1,", "2,0", "5,7")
    profile = parse_traffic_csv(text, "t.csv")
    np.testing.assert_array_equal(profile.requests_per_min, [5, np.nan, 0, np.nan, np.nan, 7])
    assert profile.gaps == 3
    assert any("3 of 6 minutes" in n and "2 gaps" in n for n in profile.notes)


@pytest.mark.parametrize(
    ("header", "cells", "per_min"),
    [
        ("t_min,requests", ["0,100", "5,50"], [20.0] * 5 + [10.0] * 5),
        ("t_min,requests_5min", ["0,100", "5,50"], [20.0] * 5 + [10.0] * 5),
        ("t_min,requests_per_min", ["0,12.5", "5,2.5"], [12.5] * 5 + [2.5] * 5),
        ("t_s,rps", ["0,0.5", "120,1"], [30.0, 30.0, 60.0, 60.0]),
        ("t_s,requests", [f"{10 * i},{i}" for i in range(12)], [15.0, 51.0]),
        ("Requests Per Min", ["7", "8.5"], [7.0, 8.5]),
        ("minute;Invocations;x", ["0;3;a", "1;4;b"], [3.0, 4.0]),
    ],
)
def test_steps_and_units_become_requests_per_minute(
    header: str, cells: list[str], per_min: list[float]
) -> None:
    profile = parse_traffic_csv(rows(header, *cells), "t.csv")
    np.testing.assert_allclose(profile.requests_per_min, per_min)


def test_conversions_are_said() -> None:
    profile = parse_traffic_csv(rows("t_min,rps", "0,1", "5,2"), "t.csv")
    assert profile.step_minutes == 5
    assert any("multiplied by 60" in n for n in profile.notes)
    assert any("5 minutes" in n for n in profile.notes)


def test_files_without_header() -> None:
    assert parse_traffic_csv("0,4\n1,5\n", "t").requests_per_min.tolist() == [4.0, 5.0]
    assert parse_traffic_csv("4\n5\n6\n", "t").requests_per_min.tolist() == [4.0, 5.0, 6.0]
    dated = parse_traffic_csv("2026-01-05 00:00,4\n2026-01-05 00:01,5\n", "t")
    assert dated.requests_per_min.tolist() == [4.0, 5.0]
    assert dated.dated


def test_a_log_of_requests_is_counted_and_the_part_minutes_are_left_out() -> None:
    times = [30, *range(60, 180, 2), 185]  # part minute, 2 full minutes of 30, part minute
    text = rows(
        "timestamp",
        *(f"2026-01-05T00:{s // 60:02d}:{s % 60:02d}.5Z" for s in times),
        "2026-01-05T00:04:00Z",
    )
    profile = parse_traffic_csv(text, "log.csv")
    assert profile.requests_per_min.tolist() == [30.0, 30.0, 1.0]
    assert profile.start == datetime(2026, 1, 5, 0, 1)  # noqa: DTZ001


def test_a_log_may_have_more_columns_and_disorder() -> None:
    rng = np.random.default_rng(1)
    times = rng.uniform(0.0, 600.0, 900)
    text = rows("t_s,context_tokens", *(f"{t:.4f},{i}" for i, t in enumerate(times)))
    profile = parse_traffic_csv(text, "log.csv")
    expected = np.histogram(times, np.arange(0.0, 541.0, 60.0))[0]
    assert profile.requests_per_min[:8].tolist() == expected[:8].tolist()
    assert any("not in order" in n for n in profile.notes)


def test_a_long_silence_in_a_busy_log_is_a_gap() -> None:
    times = [*np.arange(0.0, 600.0, 1.0), *np.arange(1200.0, 1800.5, 1.0)]
    profile = parse_traffic_csv(rows("t_s", *(str(t) for t in times)), "log.csv")
    assert profile.gaps == 10
    np.testing.assert_array_equal(np.isnan(profile.requests_per_min[10:20]), True)


def test_dispersion_of_a_log_matches_its_making() -> None:
    rng = np.random.default_rng(5)
    smooth = rng.uniform(0.0, 60_000.0, 120_000)
    bursts = np.repeat(smooth[::4], 4) + rng.uniform(0.0, 1e-3, 120_000)
    got = [
        parse_traffic_csv(rows("t_s", *(f"{t:.4f}" for t in times)), "x").dispersion
        for times in (smooth, bursts)
    ]
    assert got[0] == pytest.approx(1.0, abs=0.1)
    assert got[1] == pytest.approx(4.0, rel=0.1)  # each arrival brings four


@pytest.mark.parametrize(
    ("text", "line", "words"),
    [
        (rows("t_min,requests", "0,1", "1,NaN"), "line 3", "finite number"),
        (rows("t_min,requests", "0,1", "1,inf"), "line 3", "finite number"),
        (rows("t_min,requests", "0,1", "1,-4"), "line 3", "negative"),
        (rows("t_min,requests", "0,1", "1,many"), "line 3", "not a number"),
        (rows("t_min,requests", "0,1", '1,"1,234"'), "line 3", "thousands"),
        (rows("t_min,requests", "0,1", "2,4", "1,3"), "line 4", "before the one above"),
        (rows("t_min,requests", "0,1", "1,4", "1,3"), "line 4", "twice"),
        (rows("t_min,requests", "0,1", "1,4", "2.5,3"), "line 4", "off the step"),
        (rows("timestamp,requests", "2026-01-05T00:00,1", "later,4"), "line 3", "ISO 8601"),
        (rows("timestamp,requests", "2026-01-05T00:00Z,1", "2026-01-05T00:01,2"), "line 3", "off"),
        (rows("t_min,requests", "0,1", "1"), "line 3", "cut short"),
        (rows("t_min,requests", "0,1", "1,3.7"), "line 3", "per second"),
        (rows("time,requests", "0,1", "1,3"), "line 2", "t_min"),
    ],
)
def test_bad_rows_are_named(text: str, line: str, words: str) -> None:
    with pytest.raises(TrafficError) as caught:
        parse_traffic_csv(text, "bad.csv")
    said = str(caught.value)
    assert "bad.csv" in said
    assert line in said
    assert words in said
    assert caught.value.allowed is not None


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "empty"),
        ("\n \n", "empty"),
        ("t_min,requests\n", "no rows"),
        ("a,b\n1,2\n", "no column is known"),
        (rows("t_min,requests,rps", "0,1,1", "1,1,1"), "more than one column"),
        (rows("t_min,requests", "0,0", "1,0"), "no traffic"),
        (rows("t_min,requests", "0,1"), "two rows"),
        (rows("t_min,requests", "0,1", "1,2", "9999999,2"), "too long"),
        (rows("t_min,AAPL", *(f"{5 * i},{i}" for i in range(20))), "no column is known as"),
        (rows("t_min,requests_5min", "0,1", "1,2"), "disagree"),
        ("1,2,3\n4,5,6\n", "no header"),
        ("PK\x00\x03", "not a text file"),
        (rows("timestamp", "2026-01-05T00:00:01Z", "2026-01-05T00:00:59Z"), "too little"),
    ],
)
def test_unusable_files_say_why(text: str, words: str) -> None:
    with pytest.raises(TrafficError, match=words) as caught:
        parse_traffic_csv(text, "bad.csv")
    assert caught.value.exit_code == 2


def test_writing_and_reading_back_keeps_minutes_gaps_and_start() -> None:
    made = make_traffic("weekly", peak_per_min=500.0, days=1.5, seed=3)
    made.requests_per_min[100:103] = np.nan
    back = parse_traffic_csv(format_traffic_csv(made), "back.csv")
    np.testing.assert_array_equal(back.requests_per_min, made.requests_per_min)
    assert back.start == made.start
    assert back.start_minute_of_week == made.start_minute_of_week


CELL = st.one_of(
    st.sampled_from(
        ["", "0", "1", "60", "nan", "1e309", "-1", "1795000020", "x", '"', "2026-01-05"]
    ),
    st.floats(allow_nan=True).map(repr),
    st.datetimes().map(lambda d: d.isoformat()),
    st.text(max_size=6),
)
HEADER = st.sampled_from(
    ["t_min,requests", "time,rps", "timestamp", "requests", "t_s,count", "a,b"]
)


@settings(max_examples=400, deadline=None, derandomize=True, database=None)
@given(st.one_of(HEADER, st.text(max_size=20)), st.lists(st.lists(CELL, max_size=3), max_size=6))
def test_no_text_whatever_breaks_the_reader(header: str, cells: list[list[str]]) -> None:
    text = "\n".join([header, *(",".join(row) for row in cells)])
    try:
        profile = parse_traffic_csv(text, "fuzz.csv")
    except TrafficError:
        return
    assert profile.peak_per_min > 0.0
    recorded = profile.requests_per_min[~np.isnan(profile.requests_per_min)]
    assert (np.isfinite(recorded) & (recorded >= 0.0)).all()
