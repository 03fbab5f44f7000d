"""Scheduled actions, off-hours and the cost page, on traffic whose hours are known."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime
from functools import cache

import numpy as np
import pytest
from recommend_samples import SLO, capacity, true_rate

from tuner.autoscaling.schedule import parse_schedule
from tuner.errors import InputError
from tuner.interval import Interval
from tuner.recommend.actions import (
    MINUTES_PER_WEEK,
    ScheduledAction,
    ScheduleRules,
    actions_of,
    parse_off_hours,
    week_of,
)
from tuner.recommend.as_json import from_json, to_json
from tuner.recommend.constraints import Constraints
from tuner.recommend.costs import costs_of
from tuner.recommend.data_capture import CaptureEffect, CaptureLoad, CaptureRules, decide_capture
from tuner.recommend.off_hours import off_mask, quiet_hours
from tuner.recommend.recommend import recommend
from tuner.recommend.types import Recommendation
from tuner.terraform.tfvars import scaling_variables
from tuner.units import MINUTES_PER_DAY
from tuner.workload.traffic import TrafficProfile

PER_MIN = true_rate(False, 1) * 60.0
CONSTRAINTS = Constraints("ml.m5.xlarge", max_capacity=40, quota=40)
MONDAY = datetime(2026, 11, 2)  # noqa: DTZ001 - traffic is in local time
WEEKS = 2


def made(night: float = 0.3) -> TrafficProfile:
    """Two weeks from a Monday: quiet nights, office hours on weekdays, a surge at 09:00."""
    minute = np.arange(MINUTES_PER_DAY)
    office = (minute >= 8 * 60) & (minute < 18 * 60)
    work = np.where(office, 2.0, night)
    work = np.where((minute >= 540) & (minute < 600), 7.0, work)
    week = np.concatenate([np.tile(work, 5), np.full(2 * MINUTES_PER_DAY, night)])
    noise = np.random.default_rng(5).normal(1.0, 0.01, week.size * WEEKS)
    values = np.tile(week, WEEKS) * noise * PER_MIN
    return TrafficProfile(values, 0, "office", start=MONDAY)


@cache
def answer(
    rules: ScheduleRules | None, *, surge: bool = True, night: float = 0.3
) -> Recommendation:
    return recommend(
        capacity(),
        made(night),
        slo=SLO,
        constraints=CONSTRAINTS,
        launch_lag_s=300.0,
        schedule=rules,
    )


def bounds_over_a_week(actions: tuple[ScheduledAction, ...]) -> list[tuple[int, int]]:
    """Bounds at every minute of a later week, fired by the cron reader of the emulator."""
    zone = actions[0].timezone
    start = datetime(2026, 11, 9, tzinfo=UTC).timestamp()
    fired: list[tuple[float, ScheduledAction]] = []
    for action in actions:
        schedule = parse_schedule(action.schedule, zone)
        now = start - 8 * 86400
        while (at := schedule.next_after(now)) is not None and at < start + 7 * 86400:
            fired.append((at, action))
            now = at
    fired.sort(key=lambda p: p[0])
    found = []
    for minute in range(MINUTES_PER_WEEK):
        at = start + 60.0 * minute
        last = [a for t, a in fired if t <= at][-1]
        found.append((last.min_capacity, last.max_capacity))
    return found


def test_actions_make_the_bounds_they_were_made_from() -> None:
    rng = np.random.default_rng(1)
    weekday = np.repeat(rng.integers(1, 4, 12), 120)
    weekend = np.repeat(rng.integers(1, 4, 4), 360)
    minimum = week_of(weekday, weekend)
    maximum = minimum + 5
    actions = actions_of(minimum, maximum, timezone="UTC", prefix="need")
    assert bounds_over_a_week(actions) == list(zip(minimum.tolist(), maximum.tolist(), strict=True))
    assert len({a.name for a in actions}) == len(actions)


def test_constant_bounds_need_no_action() -> None:
    flat = np.full(MINUTES_PER_WEEK, 3)
    assert actions_of(flat, flat, timezone="UTC", prefix="need") == ()


@pytest.mark.parametrize("text", ["8-18", "25:00-07:00", "07:00-07:00", "07:60-08:00"])
def test_off_hours_that_mean_nothing_are_refused(text: str) -> None:
    with pytest.raises(InputError):
        parse_off_hours(text)


def test_off_hours_are_read_over_midnight() -> None:
    mask = off_mask(parse_off_hours("20:00-07:00"))
    assert mask.sum() == 11 * 60
    assert mask[20 * 60]
    assert mask[0]
    assert not mask[7 * 60]
    assert not mask[20 * 60 - 1]


def test_quiet_hours_are_found_where_they_are() -> None:
    days = np.full((3, MINUTES_PER_DAY), 100.0)
    days[:, : 6 * 60] = 0.0
    days[:, 22 * 60 :] = 0.5
    assert quiet_hours(days) == (22 * 60, 6 * 60)
    days[1, 60] = 50.0
    assert quiet_hours(days) == (90, 6 * 60)
    assert quiet_hours(np.full((2, MINUTES_PER_DAY), 10.0)) is None


def test_a_weekday_surge_gets_actions_for_weekdays_that_begin_before_it() -> None:
    got = answer(ScheduleRules("Europe/Berlin"))
    schedule = got.schedule
    assert schedule is not None
    assert schedule.adopted
    assert schedule.meets
    assert schedule.lead_min == 6
    assert max(w.min_capacity for w in schedule.weekend_windows) < max(
        w.min_capacity for w in schedule.windows
    )
    raised = next(w for w in schedule.windows if w.min_capacity >= 7)
    assert 480 <= raised.start_minute <= 540 - schedule.lead_min
    assert len(schedule.actions) <= 8
    assert {a.timezone for a in schedule.actions} == {"Europe/Berlin"}
    up = max(schedule.actions, key=lambda a: a.min_capacity)
    assert up.schedule.endswith("? * MON-FRI *)")
    assert got.scheduled_actions == schedule.actions
    alone = got.without_schedule
    assert alone is not None
    assert alone.meets
    assert schedule.instance_hours_per_day < 0.9 * alone.expected.instance_hours_per_day.low


def test_what_is_written_is_the_policy_that_was_simulated_under_the_schedule() -> None:
    got = answer(ScheduleRules("Europe/Berlin"))
    schedule, chosen, alone = got.schedule, got.chosen, answer(None).chosen
    assert schedule is not None
    assert chosen is not None
    assert alone is not None
    assert chosen.policy == schedule.policy
    assert alone.policy != schedule.policy
    low, high = schedule.lowest_minimum, schedule.highest_minimum
    assert (chosen.bounds.min_capacity, low) == (high, 1)
    assert {a.max_capacity for a in schedule.actions} == {chosen.bounds.max_capacity}
    assert chosen.expected.slo_attainment.mid >= 0.99
    document = json.loads(to_json(got, {}))
    assert document["policy"]["target_value"] == schedule.policy.target_value
    assert document["policy"]["min_capacity"] == high
    assert document["expected"]["instance_hours"] < 0.9 * alone.expected.instance_hours_per_day.low
    assert "without_schedule" in {a["name"] for a in document["alternatives"]}
    read = from_json(to_json(got, {}), "here")
    assert read.scheduled_actions == tuple(a.name for a in schedule.actions)
    assert scaling_variables(chosen)["min_capacity"] == high
    assert sum(p.instances for p in got.minimum) == low
    said = next(s.sentence for s in got.statements if s.name == "scheduled_minimum")
    assert "without one (target" in said
    assert "a target of" in said


def test_the_hardest_day_is_simulated_under_the_schedule() -> None:
    got = answer(ScheduleRules("Europe/Berlin"))
    assert got.hardest_day is not None
    assert got.schedule is not None
    fleet = got.hardest_day.in_service
    assert fleet[:400].min() < got.schedule.highest_minimum
    assert fleet[545:600].min() >= got.schedule.highest_minimum - 1


def test_a_schedule_nobody_asked_for_is_only_a_suggestion() -> None:
    got = answer(None)
    assert got.schedule is not None
    assert not got.schedule.adopted
    assert got.without_schedule is got.chosen
    assert got.scheduled_actions == ()


def test_a_schedule_that_gains_nothing_is_not_proposed() -> None:
    wave = 1.5 - np.cos(np.arange(7 * MINUTES_PER_DAY) / MINUTES_PER_DAY * 2.0 * np.pi)
    got = recommend(
        capacity(),
        TrafficProfile(wave * PER_MIN, 0, "wave"),
        slo=SLO,
        constraints=CONSTRAINTS,
        launch_lag_s=120.0,
        schedule=ScheduleRules(),
    )
    assert got.schedule is None
    assert got.scheduled_actions == ()
    assert any(s.name == "no_schedule" for s in got.statements)


def test_surges_at_other_hours_every_day_get_no_schedule() -> None:
    minute = np.arange(MINUTES_PER_DAY)
    starts = np.random.default_rng(2).permutation(np.arange(60, 1380, 90))[:14]
    days = [np.where((minute >= s) & (minute < s + 60), 6.0, 0.8) for s in starts]
    got = recommend(
        capacity(),
        TrafficProfile(np.concatenate(days) * PER_MIN, 0, "anywhere"),
        slo=SLO,
        constraints=CONSTRAINTS,
        launch_lag_s=300.0,
        schedule=ScheduleRules(),
    )
    assert got.schedule is None
    said = next(s.sentence for s in got.statements if s.name == "no_schedule")
    assert "keep to the clock" in said


def test_few_actions_are_kept_to() -> None:
    got = answer(ScheduleRules(max_actions=4))
    assert got.schedule is None or len(got.schedule.actions) <= 4


def test_off_hours_save_what_the_fleet_above_one_costs() -> None:
    rules = ScheduleRules("UTC", non_production=True, off_hours=(20 * 60, 7 * 60))
    got = answer(rules)
    off = got.off_hours
    chosen = got.chosen
    assert off is not None
    assert chosen is not None
    assert got.schedule is None
    # 11 hours on five nights and two whole days, less six minutes of lead on five mornings.
    assert off.hours_per_week == pytest.approx(5 * 11 + 48 - 5 * 0.1)
    low = chosen.bounds.min_capacity
    # At night the fleet stands at its minimum; all but one of it is saved.
    per_day = (low - 1) * off.hours_per_week / 7.0
    assert off.saved_hours_per_day.mid == pytest.approx(per_day, rel=0.05)
    assert off.saved_usd_per_month is not None
    assert off.saved_usd_per_month.mid == pytest.approx(per_day * 30.0 * 0.23, rel=0.05)
    assert off.deleted_usd_per_month is not None
    one = off.hours_per_week / 7.0 * 30.0 * 0.23
    assert off.deleted_usd_per_month - off.saved_usd_per_month.mid == pytest.approx(one, rel=0.01)
    assert "below one instance" in off.sentence


def test_off_hours_let_instances_start_before_the_morning() -> None:
    rules = ScheduleRules("UTC", non_production=True, off_hours=(20 * 60, 7 * 60))
    got = answer(rules)
    assert got.chosen is not None
    bounds = got.chosen.bounds
    week = bounds_over_a_week(got.scheduled_actions)
    for day in range(7):
        for minute in (6 * 60 + 53, 6 * 60 + 54, 12 * 60, 20 * 60 - 1, 20 * 60):
            on = day < 5 and 6 * 60 + 54 <= minute < 20 * 60
            expected = (bounds.min_capacity, bounds.max_capacity) if on else (1, 1)
            assert week[day * MINUTES_PER_DAY + minute] == expected, (day, minute)


def test_without_quiet_hours_the_user_is_asked_for_them() -> None:
    got = answer(ScheduleRules(non_production=True))
    assert got.off_hours is None
    assert any("off_hours" in s.sentence for s in got.statements)
    quiet = answer(ScheduleRules(non_production=True), night=0.0)
    assert quiet.off_hours is not None
    assert any("found in the traffic" in s.sentence for s in quiet.statements)


def test_the_minimum_of_the_costs_is_the_price_of_its_instances() -> None:
    got = answer(ScheduleRules("Europe/Berlin"))
    costs = costs_of(got)
    assert costs is not None
    assert got.chosen is not None
    kept = [p.usd_per_month.mid for p in costs.parts if p.name.startswith("minimum:")]
    assert got.schedule is not None
    assert sum(kept) == pytest.approx(got.schedule.lowest_minimum * 0.23 * 720.0)
    parts = {p.name: p for p in costs.parts}
    fixed = next(c for c in got.alternatives if c.name == "fixed_peak_fleet")
    month = got.chosen.expected.cost_per_month_usd
    other = fixed.expected.cost_per_month_usd
    assert month is not None
    assert other is not None
    assert parts["scaling"].usd_per_month.mid == pytest.approx(month.mid - other.mid)
    assert parts["schedule"].usd_per_month.mid < 0.0
    assert not parts["schedule"].in_total
    assert costs.total_per_month.mid == pytest.approx(month.mid)
    week = bounds_over_a_week(got.schedule.actions)
    above = float(np.mean([low for low, _ in week])) - got.schedule.lowest_minimum
    assert parts["scheduled_minimum"].usd_per_month.mid == pytest.approx(above * 0.23 * 720.0)
    for end in ("low", "mid", "high"):
        bill = sum(getattr(p.usd_per_month, end) for p in costs.parts if p.in_total)
        assert bill == pytest.approx(getattr(costs.total_per_month, end))
    own = got.chosen.expected.cost_per_million_usd
    assert own is not None
    each = costs.per_million(month)
    assert each is not None
    assert each.mid == pytest.approx(own.mid)
    assert {r.name for r in costs.rows} >= {
        "recommended",
        "without_schedule",
        "fixed_peak_fleet",
    }


def test_capture_joins_the_total_and_the_document() -> None:
    got = answer(ScheduleRules("Europe/Berlin"))
    seen = Interval(1.0, 1.01, 1.02)
    decision = decide_capture(
        CaptureRules((20,), None, 0.05, 30.0, "s3://b/c"),
        CaptureLoad(3000.0, 300.0, 30e6, 4.0),
        (CaptureEffect(20, seen, seen, 0.2, 10_000, 40.0),),
    )
    both = replace(got, data_capture=decision)
    before, after = costs_of(got), costs_of(both)
    assert before is not None
    assert after is not None
    assert decision.cost is not None
    more = after.total_per_month.mid - before.total_per_month.mid
    assert more == pytest.approx(decision.cost.usd_per_month)
    document = json.loads(to_json(both, {}))
    assert document["data_capture"]["sampling_percent"] == 20
    assert document["schedule"]["actions"][0]["timezone"] == "Europe/Berlin"
    assert document["costs"]["total_per_month_usd"]["mid"] == after.total_per_month.mid
    assert "off_hours" not in document
