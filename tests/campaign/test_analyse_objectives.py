"""Several objectives, errors, chunks: the one that gives way first is the answer's."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from campaign_samples import MM4, MM4_LIMIT, SLO, Stage, ask, mm4_limit, staircase

from tuner.campaign.analyse import analyse
from tuner.campaign.evidence import evidence
from tuner.campaign.rehearse import Campaign
from tuner.campaign.types import Routing, StageResult
from tuner.errors import InsufficientDataError
from tuner.slo import LatencyObjective, Measure, Slo, Verdict


def test_the_closed_form_of_these_tests_is_the_published_one() -> None:
    assert mm4_limit(0.99, 0.3) == pytest.approx(MM4_LIMIT, abs=1e-3)


def test_of_several_objectives_the_binding_one_is_named(steps: Campaign) -> None:
    easy, hard = LatencyObjective(0.5, 0.5), LatencyObjective(0.99, 0.3)
    model = ask(steps, Slo((easy, hard)))
    assert model.binding == hard
    tighter = LatencyObjective(0.9, 0.13)
    assert ask(steps, Slo((tighter, hard))).binding == tighter


def test_failures_count_as_late(stage: Stage) -> None:
    rng = np.random.default_rng(3)
    failed = rng.random(5000) < 0.2
    broken = [
        stage(np.full(5000, 0.02), index=i, rate_per_instance_per_s=r, failed=failed)
        for i, r in enumerate((10.0, 20.0))
    ]
    model = analyse(SLO, broken, routing=Routing.RANDOM)
    assert model.verdict is Verdict.VIOLATED
    assert "20" in model.gates[0].sentence
    assert "failed" in model.gates[0].sentence


def test_an_error_ceiling_binds_when_errors_come_before_latency() -> None:
    """A queue of two: refusals pass 0.1 % long before p90 of the answered is late."""
    short = replace(MM4, queue_limit=2)
    slo = Slo((LatencyObjective(0.9, 0.3),), max_error_rate=0.001)
    done = staircase(short, (10.0, 20.0, 30.0, 40.0, 50.0), slo=slo, step_s=60.0)
    model = ask(done, slo)
    assert model.verdict in (Verdict.MET, Verdict.INCONCLUSIVE)
    if model.verdict is Verdict.MET:
        assert model.binding is None


def test_an_objective_on_the_first_chunk_needs_streamed_answers(steps: Campaign) -> None:
    slo = Slo((LatencyObjective(0.95, 0.1, Measure.TTFT),))
    model = ask(steps, slo)
    assert model.verdict is Verdict.INCONCLUSIVE
    assert model.gates[0].name == "streaming"
    streamed = [in_chunks(r, 0.3) for r in steps.results]
    answer = analyse(slo, streamed, routing=Routing.RANDOM)
    assert answer.gates[0].name != "streaming"


def in_chunks(result: StageResult, share: float) -> StageResult:
    """The stage with a first chunk after this share of every latency, and the rest after a gap."""
    log = result.log
    assert log is not None
    took = log.done_s - log.scheduled_s
    first = log.scheduled_s + share * took
    return replace(
        result, log=replace(log, first_chunk_s=first, longest_gap_s=(1.0 - share) * took)
    )


def test_an_objective_on_the_gap_is_judged_like_the_latency_it_is_a_share_of(
    steps: Campaign,
) -> None:
    """Gaps of 0.7 of every latency against 0.7 of a threshold: the same requests are late."""
    whole = LatencyObjective(0.95, 0.1)
    gap = LatencyObjective(0.95, 0.07, Measure.CHUNK_GAP)
    for result in steps.results:
        seen, same = evidence(in_chunks(result, 0.3), gap), evidence(result, whole)
        assert (seen.share.count, seen.share.n) == (same.share.count, same.share.n)
    assert ask(steps, Slo((gap,))).gates[0].name == "streaming"


def test_an_objective_that_no_load_missed_does_not_take_the_answer_away(steps: Campaign) -> None:
    """Gaps far below their threshold at every load, and latency that gives way between two."""
    streamed = [in_chunks(r, 0.9) for r in steps.results]
    latency, gap = LatencyObjective(0.95, 0.2), LatencyObjective(0.95, 9.0, Measure.CHUNK_GAP)
    alone = analyse(Slo((latency,)), streamed, routing=Routing.RANDOM)
    both = analyse(Slo((latency, gap)), streamed, routing=Routing.RANDOM)
    assert alone.verdict is both.verdict is Verdict.MET
    assert both.binding == latency
    assert both.by_count == alone.by_count
    assert any(g.name == "held_chunk_gap_p95" and g.passed for g in both.gates)
    only = analyse(Slo((gap,)), streamed, routing=Routing.RANDOM)
    assert only.verdict is Verdict.INCONCLUSIVE


def test_chunks_cannot_be_judged_from_windows(steps: Campaign) -> None:
    kept = replace(steps.results[0], log=None)
    with pytest.raises(InsufficientDataError, match="every request"):
        evidence(kept, LatencyObjective(0.95, 0.1, Measure.CHUNK_GAP))
