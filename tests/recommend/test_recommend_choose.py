"""Choosing among simulated policies: made-up scores whose right answer is known by hand."""

from __future__ import annotations

import numpy as np
import pytest

from tuner.recommend.choose import (
    Budgets,
    Scores,
    bootstrap_interval,
    cheapest,
    choose,
    meets,
    pareto,
    plain_shares,
    split,
    upper_bounds,
)
from tuner.recommend.search import believable_peak
from tuner.recommend.types import Failing

BUDGETS = Budgets(requests=0.01, minutes=0.005, unsafe_minutes=None)


def scores(cost: list[float], slow: np.ndarray, bad: np.ndarray | None = None) -> Scores:
    """Policies with constant cost; ``slow`` (p, d) is the share of 1000 requests a day."""
    days = slow.shape[1]
    return Scores(
        requests=np.full(days, 1000.0),
        violating=slow * 1000.0,
        bad=np.zeros_like(slow) if bad is None else bad,
        unsafe=np.ones_like(slow),
        instance_hours=np.repeat(np.array(cost)[:, None], days, axis=1),
    )


def test_scoring_days_are_every_third_of_each_kind() -> None:
    weekend = np.array([False] * 5 + [True] * 2 + [False] * 5 + [True] * 2)
    chosen, scored = split(weekend)
    assert scored.tolist() == [2, 7, 10, 12]
    assert sorted([*chosen, *scored]) == list(range(14))
    assert split(np.zeros(3, bool))[1].size == 0


def test_the_cheapest_policy_inside_the_budget_wins() -> None:
    slow = np.repeat(np.array([[0.02], [0.004], [0.001]]), 9, axis=1)
    choice = choose(scores([10.0, 20.0, 30.0], slow), np.zeros(9, bool), BUDGETS, seed=0)
    assert choice.index == 1
    assert choice.refuted is None
    assert choice.scored_on.size == 3
    assert choice.met.failing(0) == (Failing.REQUESTS,)


def test_a_mean_inside_the_budget_is_not_enough_when_it_rests_on_luck() -> None:
    slow = np.zeros((2, 9))
    slow[0, 4] = 0.05  # mean 0.56 % over all days; drawn twice it breaks 1 %
    choice = choose(scores([10.0, 12.0], slow), np.zeros(9, bool), BUDGETS, seed=0)
    assert meets(plain_shares(scores([10.0, 12.0], slow)), BUDGETS).all[0]
    assert choice.index == 1


def test_scoring_days_refute_and_then_all_days_choose() -> None:
    slow = np.zeros((2, 9))
    slow[0, 2] = 0.2  # a day that only scores
    choice = choose(scores([10.0, 12.0], slow), np.zeros(9, bool), BUDGETS, seed=0)
    assert choice.refuted == 0
    assert choice.index == 1
    assert choice.scored_on.size == 0
    assert choice.chosen_on.size == 9


def test_few_days_must_each_meet_the_budgets() -> None:
    slow = np.array([[0.0, 0.0, 0.012], [0.0, 0.0, 0.009]])
    choice = choose(scores([10.0, 12.0], slow), np.zeros(3, bool), BUDGETS, seed=0)
    assert choice.index == 1


def test_bad_minutes_and_resilience_are_budgets_too() -> None:
    slow = np.zeros((2, 9))
    bad = np.array([[0.006] * 9, [0.004] * 9])
    strict = Budgets(0.01, 0.005, 0.01)
    made = scores([10.0, 12.0], slow, bad)
    assert choose(made, np.zeros(9, bool), BUDGETS, 0).index == 1
    nothing = choose(made, np.zeros(9, bool), strict, 0)
    assert nothing.index is None
    assert nothing.met.failing(0) == (Failing.MINUTES, Failing.RESILIENCE)


def test_equal_cost_is_decided_by_misses() -> None:
    slow = np.repeat(np.array([[0.004], [0.001]]), 9, axis=1)
    made = scores([10.0, 10.02], slow)
    assert cheapest(made, np.array([True, True])) == 1
    assert cheapest(made, np.array([True, False])) == 0
    assert cheapest(made, np.array([False, False])) is None
    same = scores([10.0, 10.0, 10.0], np.full((3, 9), 0.001))
    assert cheapest(same, np.ones(3, bool), np.array([0.3, 0.1, 0.2])) == 1


def test_bootstrap_bound_of_equal_days_is_their_share() -> None:
    high = upper_bounds(scores([1.0], np.full((1, 8), 0.003)), seed=1)
    assert high[0][0] == pytest.approx(0.003)


def test_bootstrap_interval_covers_the_truth_about_as_often_as_it_says() -> None:
    rng = np.random.default_rng(3)
    hits = 0
    for trial in range(200):
        days = rng.gamma(4.0, 1.0, 30)
        low, high = bootstrap_interval(days, np.ones(30), trial, 0.9)
        hits += low <= 4.0 <= high
    assert 0.80 <= hits / 200 <= 0.97  # percentile bootstrap of 30 skewed days


def test_the_front_keeps_what_nothing_beats() -> None:
    cost = np.array([3.0, 1.0, 2.0, 2.0, 4.0])
    misses = np.array([0.1, 0.5, 0.4, 0.3, 0.1])
    assert pareto(cost, misses).tolist() == [1, 3, 0]


def test_believable_peak_covers_the_next_day_as_often_as_promised() -> None:
    rng = np.random.default_rng(8)
    covered = 0
    for _ in range(400):
        peaks = np.exp(rng.normal(0.0, 0.3, 15))
        covered += believable_peak(peaks[:14]) >= peaks[14]
    assert covered / 400 >= 0.98
    assert believable_peak(np.array([100.0])) == pytest.approx(200.0)
    assert believable_peak(np.array([100.0, 100.0])) == pytest.approx(200.0)
    assert believable_peak(np.array([1.0, 1000.0])) == pytest.approx(4000.0)
    assert believable_peak(np.array([0.0, 1e5])) == pytest.approx(4e5)


def test_silent_days_miss_nothing() -> None:
    made = scores([1.0], np.zeros((1, 6)))
    silent = Scores(np.zeros(6), made.violating, made.bad, made.unsafe, made.instance_hours)
    assert silent.violating_share.tolist() == [0.0]
    assert upper_bounds(silent, 0)[0].tolist() == [0.0]
