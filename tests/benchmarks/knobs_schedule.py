"""Schedules: what they save where need keeps to the clock, and that they are refused elsewhere.

Three weeks of made traffic with a surge on weekdays: two choose the policy and the windows, the
third, which neither has seen, is simulated under the policy alone and under the schedule. The
capacity is that of a known server. Where the surge comes at any hour of the day no schedule may
be written that misses the SLO on the third week.
"""

from __future__ import annotations

import sys
from dataclasses import replace
from datetime import datetime
from pathlib import Path

import numpy as np
from figures import Row, main, row
from numpy.typing import NDArray

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "recommend"))

from recommend_samples import SLO, capacity, true_rate

from tuner.autoscaling.policy import CapacityBounds, TargetTrackingPolicy
from tuner.autoscaling.schedule import parse_schedule
from tuner.recommend.actions import ScheduledAction, ScheduleRules
from tuner.recommend.constraints import Constraints
from tuner.recommend.recommend import recommend
from tuner.simulator.inputs import LaunchLag, PolicyGrid, SimulationOptions
from tuner.simulator.simulate import simulate
from tuner.units import MINUTES_PER_DAY
from tuner.workload.traffic import TrafficProfile

FloatArray = NDArray[np.float64]
PER_MIN = true_rate(False, 1) * 60.0
MONDAY = datetime(2026, 11, 2)  # noqa: DTZ001 - traffic is in local time
LAUNCH_S = 300.0
WEEK = 7 * MINUTES_PER_DAY
BUDGET_REQUESTS = 0.01
RULES = ScheduleRules("UTC")


def three_weeks(seed: int, *, by_clock: bool) -> FloatArray:
    """Requests a minute; the surge of an hour begins within 09:00 to 09:20, or anywhere."""
    rng = np.random.default_rng(seed)
    minute = np.arange(MINUTES_PER_DAY)
    base = 1.2 - 0.8 * np.cos((minute - 180) / MINUTES_PER_DAY * 2.0 * np.pi)
    days = []
    for day in range(21):
        load = base * rng.normal(1.0, 0.03) * (0.5 if day % 7 >= 5 else 1.0)
        if day % 7 < 5:
            start = 540 + int(rng.integers(0, 20)) if by_clock else int(rng.integers(0, 1380))
            load = load + np.where((minute >= start) & (minute < start + 60), 5.0, 0.0)
        days.append(load)
    flat: FloatArray = np.concatenate(days) * PER_MIN
    return np.asarray(rng.poisson(flat), np.float64)


def minimum_of(actions: tuple[ScheduledAction, ...]) -> FloatArray:
    """The minimum at each minute of a week, by firing the actions' own cron expressions."""
    begin = MONDAY.timestamp()
    fired = []
    for action in actions:
        schedule = parse_schedule(action.schedule, action.timezone)
        now: float | None = begin - 8 * 86400.0
        while (now := schedule.next_after(now or 0.0)) is not None and now < begin + 7 * 86400.0:
            fired.append((now, action.min_capacity))
    fired.sort()
    out = np.empty(WEEK)
    for minute in range(WEEK):
        out[minute] = next(m for t, m in reversed(fired) if t <= begin + 60.0 * minute)
    return out


def third_week(
    days: FloatArray,
    choice: tuple[TargetTrackingPolicy, CapacityBounds],
    minimum: FloatArray | None,
) -> tuple[float, float]:
    """Share of slow requests and instance-hours a day, the truth as the capacity."""
    table = capacity().table
    assert table is not None
    options = SimulationOptions(allowance=BUDGET_REQUESTS)
    if minimum is not None:
        options = replace(options, min_capacity_by_minute=minimum.astype(np.int64))
    result = simulate(
        PolicyGrid.of([choice]), days[2 * WEEK :], table, LaunchLag.of(LAUNCH_S), options=options
    )
    return float(result.overall_violating_share[0]), float(result.mean_instance_hours[0]) / 7.0


def trial(seed: int, *, by_clock: bool) -> tuple[float | None, float, float, float]:
    """Hours with over without the schedule (None: none written); slow shares; predictability."""
    days = three_weeks(seed, by_clock=by_clock)
    found = recommend(
        capacity(),
        TrafficProfile(days[: 2 * WEEK], 0, "made", start=MONDAY),
        slo=SLO,
        constraints=Constraints("ml.m5.xlarge", max_capacity=40, quota=40),
        launch_lag_s=LAUNCH_S,
        schedule=RULES,
        seed=seed,
    )
    assert found.chosen is not None
    assert found.chosen.policy is not None
    plain = third_week(days, (found.chosen.policy, found.chosen.bounds), None)
    schedule = found.schedule
    if schedule is None:
        return None, plain[0], 0.0, 0.0
    under = (schedule.policy, schedule.bounds)
    slow, hours = third_week(days, under, minimum_of(schedule.actions))
    return hours / plain[1], plain[0], slow, schedule.repeats or 0.0


def rows(quick: bool) -> list[Row]:
    """The benchmark's figures."""
    trials = 3 if quick else 20
    clocked = [trial(s, by_clock=True) for s in range(trials)]
    anywhere = [trial(100 + s, by_clock=False) for s in range(trials)]
    written = [t for t in clocked if t[0] is not None]
    kept = [t[2] <= BUDGET_REQUESTS for t in written]
    ratios = [t[0] for t in written if t[0] is not None]
    wrong = [t for t in anywhere if t[0] is not None and t[2] > BUDGET_REQUESTS]
    return [
        row(
            "schedule: written where the surge keeps to the clock",
            len(written) / trials,
            at_least=0.9,
        ),
        row(
            "schedule: SLO held on the unseen week",
            float(np.mean(kept)) if kept else 0.0,
            at_least=0.9,
        ),
        row(
            "schedule: instance-hours against the policy alone, unseen week",
            float(np.median(ratios)) if ratios else 1.0,
        ),
        row(
            "schedule: half hours that other days foretell",
            float(np.mean([t[3] for t in written])) if written else 0.0,
        ),
        row(
            "schedule: surges at any hour, schedules that miss the SLO on the unseen week",
            len(wrong) / trials,
            at_most=0.1,
        ),
    ]


if __name__ == "__main__":
    sys.exit(main(__doc__, rows))
