"""Choosing a piece of traffic to replay, and judging what came of it."""

from __future__ import annotations

import json
from dataclasses import replace
from functools import cache

import numpy as np
import pytest
from recommend_samples import OBJECTIVE, SLO, capacity, true_rate

from tuner.autoscaling.policy import CapacityBounds, ScalingMetric, TargetTrackingPolicy
from tuner.errors import InputError
from tuner.recommend.constraints import Constraints
from tuner.recommend.evaluate import World
from tuner.recommend.prices import PRICES
from tuner.recommend.replay import Forecast, Piece, forecast, hardest_piece, replay_minutes
from tuner.recommend.setup import prepare
from tuner.recommend.verify import Seen, in_service_by_minute, judge
from tuner.recommend.verify_json import verification_of, verification_value
from tuner.recommend.verify_types import Comparison, Verification
from tuner.simulator.inputs import LaunchLag
from tuner.simulator.timeline import Timeline
from tuner.slo import Slo, Verdict
from tuner.stats.requests import Outcome, RequestLog
from tuner.workload.traffic import TrafficProfile

ONE = true_rate(False, 1) * 60.0
POLICY = TargetTrackingPolicy(ScalingMetric.INVOCATIONS, 0.5 * ONE, 0, 300)
BOUNDS = CapacityBounds(1, 20)
MINUTES = 10


@cache
def world() -> World:
    """A day at 0.4 of an instance with a slow hill, a steep surge at 10:00 and a higher plateau."""
    load = np.full(1440, 0.4)
    load[200:320] += np.linspace(0.0, 0.9, 120)
    load[600:603] = [0.4, 1.0, 1.6]
    load[603:640] = 1.6
    load[900:1200] = 2.0
    load[840:900] = np.linspace(0.4, 2.0, 60)
    setup = prepare(
        replace(capacity(), launch_lag_s=(120.0, 180.0)),
        TrafficProfile(load * ONE, 0, "made"),
        slo=SLO,
        constraints=Constraints("ml.m5.xlarge"),
        launch_lag_s=None,
        prices=PRICES,
        seed=1,
        metric_curves=None,
    )
    return setup.world


def piece(**changes: object) -> Piece:
    asked = {"start_count": 1, "minutes": 20, **changes}
    return hardest_piece(world(), POLICY, BOUNDS, **asked)  # type: ignore[arg-type]


def test_the_steep_surge_is_chosen_and_its_answer_still_replayed() -> None:
    found = piece()
    first, last = found.first_minute, found.first_minute + 20
    assert first <= 600, "what precedes the surge fits on the one instance that is there"
    # Reaction of five minutes and a launch of three after the surge.
    assert last >= 602 + 8
    assert np.array_equal(found.requests_per_min, world().days[0, first:last])
    assert "on 1 instance to" in found.sentence
    assert f"{1.6 * ONE:.0f}" in found.sentence


def test_a_piece_begins_with_what_the_instances_there_carry() -> None:
    on_two = piece(start_count=2)
    assert on_two.requests_per_min[0] <= 2 * POLICY.target_value
    assert on_two.requests_per_min.max() == pytest.approx(1.6 * ONE)
    on_four = piece(start_count=4, minutes=12)
    assert on_four.requests_per_min.sum() >= piece(minutes=12).requests_per_min.sum()


def test_a_piece_stays_within_the_requests_that_may_be_sent() -> None:
    small = piece(most_requests=20 * 0.7 * ONE)
    assert small.requests_per_min.sum() <= 20 * 0.7 * ONE
    with pytest.raises(InputError, match="more requests than may be sent"):
        piece(most_requests=10.0)


def test_what_cannot_be_replayed_is_refused() -> None:
    with pytest.raises(InputError, match="shorter than the replay"):
        piece(minutes=2000)
    busy = replace(POLICY, metric=ScalingMetric.CONCURRENCY)
    with pytest.raises(InputError, match="policies on invocations"):
        hardest_piece(world(), busy, BOUNDS, start_count=1, minutes=20)
    tight = replace(POLICY, target_value=0.1 * ONE)
    with pytest.raises(InputError, match="begins with as little"):
        hardest_piece(world(), tight, BOUNDS, start_count=1, minutes=20)


def test_the_length_follows_the_launch_lag() -> None:
    assert replay_minutes(LaunchLag.of((60.0, 300.0))) == 2 * (5 + 5)
    assert replay_minutes(LaunchLag.of(0.0)) == 10


def test_a_forecast_is_the_slowest_of_what_may_be() -> None:
    load = np.array([0.4] * 3 + [1.6] * 15) * ONE
    seen = forecast(world(), POLICY, BOUNDS, load, 1)
    # Breaching datapoints end at 4, 5, 6; published at 7; launches take two or three minutes.
    assert seen.likely.in_service[7] == 1
    assert seen.likely.in_service[9:].max() == 4
    assert (seen.least_in_service <= seen.likely.in_service).all()
    assert (seen.worst_share >= seen.likely.violation_share).all()
    reached = int(np.argmax(seen.least_in_service == 4))
    assert 10 <= reached <= 11, "the longest launch, and minutes that begin one later"


# -- judging -------------------------------------------------------------------------------


def expected(in_service: list[float] | None = None, share: list[float] | None = None) -> Forecast:
    counts = np.array(in_service or [2.0] * MINUTES)
    late = np.array(share or [0.0] * MINUTES)
    zero = np.zeros(MINUTES)
    return Forecast(Timeline(zero, counts, zero, zero, late, zero), counts, late)


def seen(
    late_share: list[float] | float = 0.0,
    *,
    per_minute: int = 1500,
    failed: int = 0,
    instances: list[float] | None = None,
    void: tuple[str, ...] = (),
) -> Seen:
    """Requests of 50 ms and late ones of 400 ms, evenly spread in each minute of 3 s."""
    shares = np.broadcast_to(late_share, MINUTES)
    n = MINUTES * per_minute
    at = (np.arange(n) + 0.5) * 3.0 / per_minute
    minute = (at // 3.0).astype(int)
    order = np.random.default_rng(2).permutation(per_minute) / per_minute
    took = np.where(np.tile(order, MINUTES) < shares[minute], 0.4, 0.05)
    outcome = np.zeros(n, np.uint8)
    outcome[np.linspace(0, n - 1, failed).astype(int)] = Outcome.MODEL_ERROR
    log = RequestLog.from_times(at, at + took, outcome=outcome)
    return Seen(log, 3.0, np.array(instances or [2.0] * MINUTES), void)


def verdicts(found: tuple[Comparison, ...]) -> dict[str, Verdict]:
    return {c.name: c.verdict for c in found}


def test_an_endpoint_that_does_as_promised_passes() -> None:
    verdict, found, minutes = judge(SLO, OBJECTIVE, seen(0.002), expected(), meets=True)
    assert verdict is Verdict.MET
    assert set(verdicts(found).values()) == {Verdict.MET}
    assert [m.requests for m in minutes] == [1500] * MINUTES
    assert {m.late for m in minutes} == {3}
    assert all(m.p99_s == pytest.approx(0.05) for m in minutes)


def test_rates_are_of_real_minutes_on_a_faster_clock() -> None:
    assert seen().requests_per_min == pytest.approx(np.full(MINUTES, 1500 * 20.0))


def test_a_slow_endpoint_fails_with_its_reasons() -> None:
    verdict, found, _ = judge(SLO, OBJECTIVE, seen(0.05), expected(), meets=True)
    assert verdict is Verdict.VIOLATED
    assert verdicts(found)["requests:p99"] is Verdict.VIOLATED
    assert verdicts(found)["recovery"] is Verdict.VIOLATED
    text = next(c.sentence for c in found if c.name == "requests:p99")
    assert "5.00%" in text
    assert "p99 was 400 ms" in text


def test_a_surge_may_cost_what_the_forecast_says_if_the_whole_traffic_affords_it() -> None:
    surge = [0.0, 0.0, 0.5, 0.5, *[0.0] * 6]
    forecast_too = expected(share=surge)
    for meets, verdict in ((True, Verdict.MET), (False, Verdict.VIOLATED)):
        shown = seen([0.0, 0.0, 0.3, 0.3, *[0.0] * 6])
        assert judge(SLO, OBJECTIVE, shown, forecast_too, meets=meets)[0] is verdict


def test_instances_that_come_too_late_fail_though_the_slo_was_held() -> None:
    want = [1.0] * 3 + [4.0] * 7
    in_time = [1.0] * 5 + [4.0] * 5
    too_late = [1.0] * 7 + [4.0] * 3
    more = [5.0] * MINUTES
    for instances, verdict in (
        (in_time, Verdict.MET),
        (more, Verdict.MET),
        (too_late, Verdict.VIOLATED),
    ):
        shown = seen(instances=instances)
        got, found, _ = judge(SLO, OBJECTIVE, shown, expected(want), meets=True)
        assert got is verdict
        assert verdicts(found)["instances"] is verdict


def test_a_recovery_longer_than_forecast_fails() -> None:
    share = [0.0, 0.2, *[0.0] * 8]
    for minutes, verdict in ((3, Verdict.MET), (5, Verdict.VIOLATED)):
        slow = [0.0] + [0.05] * minutes + [0.0] * (MINUTES - 1 - minutes)
        _, found, _ = judge(SLO, OBJECTIVE, seen(slow), expected(share=share), meets=True)
        assert verdicts(found)["recovery"] is verdict
        recovery = next(c for c in found if c.name == "recovery")
        assert (recovery.observed, recovery.predicted) == (minutes, 1.0)


def test_nothing_is_concluded_from_a_generator_that_was_the_limit() -> None:
    for share in (0.0, 0.5):
        verdict, found, _ = judge(
            SLO, OBJECTIVE, seen(share, void=("it was late",)), expected(), meets=True
        )
        assert verdict is Verdict.INCONCLUSIVE
        assert "it was late" in found[-1].sentence


def test_bursts_inside_a_minute_widen_the_interval() -> None:
    """One late stretch says less than as many late requests here and there."""
    spread = seen(0.02)
    n = len(spread.log)
    at, took = spread.log.scheduled_s, np.full(n, 0.05)
    for minute in range(MINUTES):
        took[minute * 1500 : minute * 1500 + 30] = 0.4
    burst = replace(spread, log=RequestLog.from_times(at, at + took))
    shares = []
    for shown in (spread, burst):
        _, found, _ = judge(SLO, OBJECTIVE, shown, expected(), meets=True)
        assert found[0].observed == pytest.approx(0.02)
        shares.append(found[0].sentence)
    low = [float(s.split("(")[1].split("%")[0]) for s in shares]
    assert low[0] == pytest.approx(1.78, abs=0.1)
    assert low[1] < low[0] - 0.3


def test_few_requests_decide_nothing() -> None:
    verdict, found, _ = judge(SLO, OBJECTIVE, seen(per_minute=10), expected(), meets=True)
    assert verdict is Verdict.INCONCLUSIVE
    assert "more minutes" in found[0].sentence
    none = RequestLog.from_times(np.empty(0), np.empty(0))
    empty = Seen(none, 3.0, np.full(MINUTES, 2.0))
    assert judge(SLO, OBJECTIVE, empty, expected(), meets=True)[0] is Verdict.INCONCLUSIVE


def test_unanswered_polls_are_not_zero_instances() -> None:
    blind = seen(instances=[float("nan")] * MINUTES)
    verdict, found, minutes = judge(SLO, OBJECTIVE, blind, expected(), meets=True)
    assert verdict is Verdict.INCONCLUSIVE
    assert verdicts(found)["instances"] is Verdict.INCONCLUSIVE
    assert {m.instances for m in minutes} == {None}


@pytest.mark.parametrize(("failed", "verdict"), [(0, Verdict.MET), (120, Verdict.VIOLATED)])
def test_errors_above_their_ceiling_fail(failed: int, verdict: Verdict) -> None:
    slo = Slo(SLO.objectives, 0.001)
    _, found, _ = judge(slo, OBJECTIVE, seen(failed=failed), expected(), meets=True)
    assert verdicts(found)["errors"] is verdict


def test_a_count_stands_until_another_is_seen() -> None:
    counts = in_service_by_minute([(-1.0, 1), (2.9, 2), (3.1, 3), (8.0, 4)], 4, 3.0)
    assert counts.tolist() == [2, 3, 4, 4]
    assert np.isnan(in_service_by_minute([(4.0, 1)], 3, 3.0)).tolist() == [True, False, False]


@pytest.mark.parametrize("verdict", list(Verdict))
def test_a_verification_survives_json(verdict: Verdict) -> None:
    _, found, minutes = judge(SLO, OBJECTIVE, seen(0.02, failed=900), expected(), meets=True)
    kept = Verification(verdict, 1.5, 3.0, "p", "x", 2, found, minutes, ("up",))
    text = json.dumps(verification_value(kept), allow_nan=False)
    assert verification_of(json.loads(text)) == kept
    assert kept.blocks is (verdict is Verdict.VIOLATED)
    assert not replace(kept, overridden=True).blocks
