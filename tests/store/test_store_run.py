"""A completed stage is never lost, and a damaged run is never half read."""

from __future__ import annotations

import json
import sqlite3
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tuner.campaign.types import (
    GeneratorHealth,
    ScaleEvent,
    StageKind,
    StageResult,
    StageSpec,
)
from tuner.errors import RunDirectoryError
from tuner.stats.histogram import LatencyHistogram, windows_of
from tuner.stats.requests import Outcome, RequestLog
from tuner.store.columns import pack_log, unpack_log
from tuner.store.run import JOURNAL, Run


def make_stage(index: int = 0, n: int = 2000, *, raw: bool = True) -> StageResult:
    rng = np.random.default_rng(index)
    scheduled = np.sort(rng.uniform(0, 10, n))
    outcome = rng.choice([0, 1, 3], size=n, p=[0.97, 0.02, 0.01]).astype(np.uint8)
    log = RequestLog.from_times(
        scheduled,
        scheduled + rng.lognormal(-4, 1, n),
        sent_s=scheduled + 1e-4,
        outcome=outcome,
    )
    spec = StageSpec(index, StageKind.MEASURE, 2, n / 10, 10.0, 1.0, "poisson", 7, "why not")
    health = GeneratorHealth(200, 199.5, 1e-3, 2e-3, 0.4, 9, 100, 1, 0.3, float("nan"), ("late",))
    return StageResult(
        spec, 1.7e9, log if raw else None, windows_of(log), health, (("<b>429</b>", 3),), 71.5, 1, 2
    )


def assert_same(a: StageResult, b: StageResult) -> None:
    assert a.spec == b.spec
    assert a.error_samples == b.error_samples
    assert a.cpu_utilization_percent == b.cpu_utilization_percent
    assert a.health.void_reasons == b.health.void_reasons
    assert np.isnan(b.health.arrivals_dispersion or 0)
    assert a.windows == b.windows
    if a.log is None:
        assert b.log is None
        return
    assert b.log is not None
    np.testing.assert_array_equal(a.log.scheduled_s, b.log.scheduled_s)
    np.testing.assert_array_equal(a.log.outcome, b.log.outcome)
    np.testing.assert_allclose(
        b.log.done_s - b.log.scheduled_s, a.log.done_s - a.log.scheduled_s, rtol=1e-6, atol=1e-12
    )


def test_what_is_written_is_read(tmp_path: Path) -> None:
    stages = [make_stage(0), make_stage(1, raw=False)]
    event = ScaleEvent(1, 2, 10.0, 130.5, (("ordered", 10.0), ("in_service", 130.5)))
    with Run.create(tmp_path / "r", {"plan": "x = 1", "seed": 3}) as run:
        for s in stages:
            assert_same(s, run.add_stage(s))
        run.add_scale_event(event)
        run.add_note("limit", "time limit reached")
    with Run.open(tmp_path / "r") as run:
        for a, b in zip(stages, run.stages(), strict=True):
            assert_same(a, b)
        assert run.scale_events() == (event,)
        assert [(n.kind, n.text) for n in run.notes()] == [("limit", "time limit reached")]
        assert run.meta()["plan"] == "x = 1"
        assert run.meta()["schema_version"] == 1


def test_the_columnar_file_is_compact_and_readable_with_numpy_alone(tmp_path: Path) -> None:
    with Run.create(tmp_path / "r", {}) as run:
        run.add_stage(make_stage(0, 100_000))
    path = tmp_path / "r" / "stages" / "0000.npz"
    assert path.stat().st_size < 100_000 * 20
    with np.load(path) as columns:
        assert len(columns["scheduled_s"]) == 100_000
        assert set(np.unique(columns["outcome"])) <= {int(o) for o in Outcome}


def test_equal_logs_give_equal_bytes() -> None:
    a, b = make_stage(3).log, make_stage(3).log
    assert a is not None
    assert b is not None
    assert pack_log(a) == pack_log(b)
    assert pack_log(unpack_log(pack_log(a))) == pack_log(a)


def test_a_restore_record_stays_open_until_it_is_marked(tmp_path: Path) -> None:
    with Run.create(tmp_path / "r", {}) as run:
        first = run.record_before_change('{"count": 1}')
        run.update_record(first, '{"count": 1, "changed": ["x"]}')
        assert run.unrestored() == ((first, '{"count": 1, "changed": ["x"]}'),)
        run.mark_restored(first)
        assert run.unrestored() == ()


def test_a_directory_in_use_is_not_overwritten(tmp_path: Path) -> None:
    (tmp_path / "r").mkdir()
    (tmp_path / "r" / "thesis.txt").write_text("mine")
    with pytest.raises(RunDirectoryError, match="already holds"):
        Run.create(tmp_path / "r", {})


def test_no_run_at_all(tmp_path: Path) -> None:
    with pytest.raises(RunDirectoryError, match="no journal"):
        Run.open(tmp_path)


@pytest.mark.parametrize("keep", [0, 10, 100, 5000])
def test_a_truncated_journal_is_refused(tmp_path: Path, keep: int) -> None:
    with Run.create(tmp_path / "r", {}) as run:
        run.add_stage(make_stage())
    journal = tmp_path / "r" / JOURNAL
    journal.write_bytes(journal.read_bytes()[:keep])
    with pytest.raises(RunDirectoryError, match=r"damaged|schema"):
        Run.open(tmp_path / "r")


def test_another_schema_version_is_refused(tmp_path: Path) -> None:
    Run.create(tmp_path / "r", {}).close()
    db = sqlite3.connect(tmp_path / "r" / JOURNAL)
    with db:
        db.execute("UPDATE meta SET value = ? WHERE key = 'schema_version'", (json.dumps(99),))
    db.close()
    with pytest.raises(RunDirectoryError, match="another schema version") as caught:
        Run.open(tmp_path / "r")
    assert caught.value.value == 99


@pytest.mark.parametrize("damage", ["cut", "missing", "changed"])
def test_a_damaged_stage_file_is_refused(tmp_path: Path, damage: str) -> None:
    with Run.create(tmp_path / "r", {}) as run:
        run.add_stage(make_stage())
    path = tmp_path / "r" / "stages" / "0000.npz"
    data = path.read_bytes()
    if damage == "cut":
        path.write_bytes(data[: len(data) // 2])
    elif damage == "missing":
        path.unlink()
    else:
        path.write_bytes(data[:-50] + bytes(50))
    with Run.open(tmp_path / "r") as run, pytest.raises(RunDirectoryError, match="damaged"):
        run.stages()


def test_gaps_between_chunks_and_labels_of_the_load_are_kept(tmp_path: Path) -> None:
    gaps = LatencyHistogram.of([1e-3, 2e-3, 2e-3, 0.4])
    plain = make_stage()
    health = replace(plain.health, open_loop=False, clock_shared=False)
    with Run.create(tmp_path / "r", {}) as run:
        run.add_stage(replace(plain, chunk_gaps=gaps, health=health))
        run.add_stage(make_stage(1))
    with Run.open(tmp_path / "r") as run:
        kept, other = run.stages()
    assert kept.chunk_gaps is not None
    assert kept.chunk_gaps.index.tolist() == gaps.index.tolist()
    assert kept.chunk_gaps.count.tolist() == [1, 2, 1]
    assert not kept.health.open_loop
    assert not kept.health.clock_shared
    assert other.chunk_gaps is None
    assert other.health.clock_shared
