"""Merging workers: the merge is the union, exactly, however the requests are split."""

from __future__ import annotations

import dataclasses
import re
from typing import Any

import numpy as np
import pytest

from tuner.campaign.types import StageKind, StageSpec
from tuner.load import frames, rows
from tuner.load.collect import Collector
from tuner.load.health import Observed, judge, nothing_answered
from tuner.load.outcomes import MAX_TEXTS, ErrorTexts
from tuner.stats.histogram import windows_of
from tuner.stats.requests import Outcome, RequestLog
from tuner.workload.arrivals import arrival_times

SPEC = StageSpec(0, StageKind.MEASURE, 1, 500.0, 4.0, 0.0, "poisson", 1, "")
CLASSES = np.array([0, 1, 1], dtype=np.uint16)


def made(seed: int, n: int = 2000) -> Any:
    rng = np.random.default_rng(seed)
    table = np.zeros(n, rows.ROW_DTYPE)
    table["scheduled_s"] = np.sort(rng.random(n) * 4)
    table["sent_s"] = table["scheduled_s"] + rng.exponential(1e-4, n)
    table["first_chunk_s"] = np.nan
    table["done_s"] = table["sent_s"] + rng.lognormal(-4, 1, n)
    table["longest_gap_s"] = rng.exponential(0.1, n)
    table["payload"] = rng.integers(0, 3, n)
    table["outcome"] = rng.choice(len(Outcome), n, p=[0.9, 0.04, 0.02, 0.01, 0.01, 0.01, 0.01])
    dropped = table["outcome"] == Outcome.DROPPED
    table["sent_s"][dropped] = table["done_s"][dropped] = np.nan
    return table


def split(table: Any, seed: int) -> list[tuple[int, Any]]:
    """Each request to a random worker, each worker's in random batches, in random order."""
    rng = np.random.default_rng(seed)
    worker = rng.integers(0, 4, len(table))
    batches = []
    for w in range(4):
        mine = rng.permutation(table[worker == w])
        batches += [(w, part) for part in np.array_split(mine, rng.integers(1, 9))]
    rng.shuffle(batches)  # type: ignore[arg-type]
    return batches


@pytest.mark.parametrize("seed", range(25))
def test_merged_workers_equal_the_union(seed: int) -> None:
    table = made(seed)
    union = rows.to_log(table, CLASSES)
    kept, folded = Collector(SPEC, CLASSES, 10**6), Collector(SPEC, CLASSES, 100)
    for worker, part in split(table, seed):
        kept.add(worker, part)
        folded.add(worker, part)
    log = kept.log()
    assert log is not None
    for name, column in union.columns().items():
        if name != "worker":
            assert np.array_equal(log.columns()[name], column, equal_nan=column.dtype.kind == "f")
    assert kept.windows() == folded.windows() == windows_of(union)
    assert folded.log() is None


def test_folding_keeps_the_send_lag() -> None:
    table = made(1)
    folded = Collector(SPEC, CLASSES, 100)
    for worker, part in split(table, 1):
        folded.add(worker, part)
    lag = table["sent_s"] - table["scheduled_s"]
    true = np.nanquantile(lag, 0.99)
    seen = folded.observed([], [], 10, None)
    assert seen.send_lag_p99_s == pytest.approx(true, rel=0.02)
    assert seen.scheduled == len(table)
    assert seen.dropped == np.count_nonzero(table["outcome"] == Outcome.DROPPED)


def test_a_look_with_no_request_yet_has_no_percentile() -> None:
    look = Collector(SPEC, CLASSES, 10).progress(0.5)
    assert np.isnan(look.p99_s)
    assert look.sent == 0


def test_failures_are_infinite_in_the_live_percentiles() -> None:
    table = made(2, 100)
    table["outcome"] = Outcome.TIMEOUT
    collector = Collector(SPEC, CLASSES, 1000)
    collector.add(0, table)
    assert collector.progress(1.0).p50_s == np.inf
    assert collector.progress(1.0).failed == 100


def test_texts_are_bounded_and_counted() -> None:
    texts = ErrorTexts()
    for i in range(100):
        texts.add(f"text {i}")
    merged = dict(Collector.merge_texts([texts.items(), texts.items()]))
    assert sum(merged.values()) == 200
    assert len(merged) <= MAX_TEXTS + 1


# -- health ------------------------------------------------------------------------------


SUMMARY = {
    "cpu_share": 0.2, "loop_lag_p99_s": 0.001, "in_flight_max": 5, "credentials_refused": 0,
    "local_faults": 0,
    "open_loop": True,
}  # fmt: skip


def observed(sent_s: Any, **changes: Any) -> Observed:
    log = RequestLog.from_times(sent_s, sent_s + 0.01)
    seen = Observed([SUMMARY], [], len(log), len(log), 0, 1e-4, 100, log, 0.1)
    return dataclasses.replace(seen, **changes)


def poisson(seed: int = 3) -> Any:
    return arrival_times("poisson", 500.0, 4.0, np.random.default_rng(seed))


def test_a_sound_stage_has_no_reason() -> None:
    health = judge(SPEC, observed(poisson()))
    assert health.void_reasons == ()
    assert health.remedy is None


@pytest.mark.parametrize("seed", range(100))
def test_sound_stages_are_hardly_ever_void(seed: int) -> None:
    assert judge(SPEC, observed(poisson(seed + 1000))).void_reasons == ()


@pytest.mark.parametrize(
    ("changes", "word"),
    [
        ({"sent": 1700}, "425.0 requests/s were sent where 500/s"),
        ({"send_lag_p99_s": 0.0021}, "2.10 ms late"),
        ({"dropped": 3}, "3 arrivals"),
        ({"lost": ["worker 1 ended with code -9"]}, "worker 1"),
        ({"summaries": [SUMMARY | {"cpu_share": 0.71}]}, "71 % of a processor"),
        ({"summaries": [SUMMARY | {"loop_lag_p99_s": 0.0051}]}, "5.1 ms late"),
        ({"summaries": [SUMMARY | {"credentials_refused": 2}]}, "2 requests were refused"),
        ({"summaries": [SUMMARY | {"local_faults": 4}]}, "4 connections could not be opened"),
    ],
)
def test_each_limit_voids_with_its_value(changes: dict[str, Any], word: str) -> None:
    health = judge(SPEC, observed(poisson(), **changes))
    assert any(word in reason for reason in health.void_reasons)
    assert health.remedy


def test_the_lag_limit_follows_the_slo() -> None:
    late = observed(poisson(), send_lag_p99_s=0.0045)
    assert judge(SPEC, late).void_reasons
    assert not judge(SPEC, dataclasses.replace(late, slo_s=0.5)).void_reasons


def test_the_remedy_tells_a_generator_at_its_limit_from_an_endpoint_far_behind() -> None:
    waiting = SUMMARY | {"without_connection": 900}
    late = {"send_lag_p99_s": 0.5}
    behind = judge(SPEC, observed(poisson(), summaries=[waiting], **late))
    assert "the endpoint is far behind" in (behind.remedy or "")
    full = waiting | {"cpu_share": 0.95}
    limit = judge(SPEC, observed(poisson(), summaries=[full], **late))
    assert re.fullmatch(r"generator saturated at \d+/s; add workers", limit.remedy or "")


@pytest.mark.parametrize("kind", ["paced", "ticks", "pause"])
def test_send_times_that_are_not_poisson_void_the_stage(kind: str) -> None:
    spec = dataclasses.replace(SPEC, rate_per_s=100.0, duration_s=60.0)
    if kind == "paced":
        sent = np.arange(6000) / 100
    else:
        sent = arrival_times("poisson", 100.0, 60.0, np.random.default_rng(4))
        if kind == "ticks":
            sent = np.ceil(sent / 0.02) * 0.02
        else:
            held = sent % 10 < 0.5
            sent = np.where(held, sent - sent % 10 + 0.5, sent)
    assert any("not Poisson" in r for r in judge(spec, observed(np.sort(sent))).void_reasons)


def test_the_test_of_send_times_follows_a_rate_in_steps() -> None:
    rates = (100.0, 400.0, 200.0)
    rng = np.random.default_rng(8)
    parts = [i + arrival_times("poisson", rate, 1.0, rng) for i, rate in enumerate(rates)]
    due = np.concatenate(parts)
    spec = dataclasses.replace(SPEC, rate_per_s=700 / 3, rates_per_s=rates, duration_s=3.0)
    health = judge(spec, observed(due))
    assert health.void_reasons == ()
    assert health.arrivals_ks_p_value is not None
    assert judge(dataclasses.replace(spec, rates_per_s=()), observed(due)).void_reasons


def test_closed_loop_is_labelled_and_not_held_to_arrivals() -> None:
    paced = observed(np.arange(2000) / 500, summaries=[SUMMARY | {"open_loop": False}])
    health = judge(SPEC, paced)
    assert not health.open_loop
    assert health.void_reasons == ()


def test_nothing_answered_means_every_single_request() -> None:
    t = np.arange(3.0)
    dead = np.full(3, Outcome.CONNECTION, np.uint8)
    assert nothing_answered(RequestLog.from_times(t, t, outcome=dead))
    dead[0] = Outcome.TIMEOUT
    assert not nothing_answered(RequestLog.from_times(t, t, outcome=dead))
    assert not nothing_answered(RequestLog.from_times(t[:0], t[:0]))
    assert not nothing_answered(None)


# -- frames and rows ---------------------------------------------------------------------


def reader(data: bytes) -> Any:
    view = [data]

    def exactly(count: int) -> bytes:
        head, view[0] = view[0][:count], view[0][count:]
        return head

    return exactly


def test_a_frame_survives_the_pipe() -> None:
    blob = bytes(range(256))
    frame = frames.read(reader(frames.pack("rows", {"n": 1, "t": "ü"}, blob)))
    assert (frame.kind, frame.head, frame.blob) == ("rows", {"n": 1, "t": "ü"}, blob)


@pytest.mark.parametrize("cut", [0, 3, 8, 12, -1])
def test_a_cut_pipe_is_told(cut: int) -> None:
    with pytest.raises(frames.BrokenFrameError):
        frames.read(reader(frames.pack("rows", {"n": 1}, b"abc")[:cut]))


def test_noise_in_the_pipe_is_told() -> None:
    with pytest.raises(frames.BrokenFrameError):
        frames.read(reader(b"Traceback (most recent call last)" * 10))


def test_a_row_buffer_hands_on_every_row_once() -> None:
    got: list[Any] = []
    buffer = rows.RowBuffer(got.append, rows=4)
    for i in range(10):
        buffer.add(i, i + 0.1, np.nan, i + 0.5, 0.25, 7, 2, 3)
    assert [len(g) for g in got] == [4, 4]
    buffer.flush()
    buffer.flush()
    table = np.concatenate(got)
    assert list(table["scheduled_s"]) == list(range(10))
    assert set(table["outcome"]) == {3}
    assert set(table["longest_gap_s"]) == {0.25}
    assert set(table["payload"]) == {2}
    assert rows.decode(table.tobytes()).tobytes() == table.tobytes()
