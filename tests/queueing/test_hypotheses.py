"""Posterior chances of workers and floors, against closed forms and frequencies."""

from __future__ import annotations

import numpy as np
import pytest

from tuner.queueing.hypotheses import Candidate, weigh
from tuner.queueing.recovery import Segment, recover

NOTHING = np.zeros(0)


def parabola(workers: int, at: float, sd: float, least: float = 0.0) -> Candidate:
    return Candidate(workers, lambda f: least + ((f - at) / sd) ** 2, NOTHING, 0.1)


def test_a_well_seen_floor_has_the_normal_posterior() -> None:
    found = weigh([parabola(4, 2.0, 0.1)], 10.0)
    weight = np.array([h.weight for h in found])
    floor = np.array([h.floor_s for h in found])
    assert weight.sum() == pytest.approx(1.0)
    assert weight @ floor == pytest.approx(2.0, abs=0.01)
    assert weight @ (floor - 2.0) ** 2 == pytest.approx(0.1**2, rel=0.25)


def test_the_chance_of_no_floor_follows_from_the_prior_odds() -> None:
    """Spike: exp(-(1/.5)^2/2) / 2. Slab: half the area of a normal with sd 0.5 over 10."""
    found = weigh([parabola(4, 1.0, 0.5)], 10.0)
    none = sum(h.weight for h in found if h.floor_s == 0.0)
    spike = 0.5 * np.exp(-2.0)
    slab = 0.5 * np.sqrt(2.0 * np.pi) * 0.5 / 10.0 * 0.977
    assert none == pytest.approx(spike / (spike + slab), abs=0.03)


def test_workers_share_the_chance_by_their_likelihood() -> None:
    found = weigh([parabola(4, 0.0, 1e6, 3.0), parabola(5, 0.0, 1e6, 0.0)], 1e-9)
    chance = {m: sum(h.weight for h in found if h.workers == m) for m in (4, 5)}
    assert found[0].workers == 5
    assert chance[4] / chance[5] == pytest.approx(np.exp(-1.5), rel=0.05)


def test_a_hopeless_number_of_workers_is_left_out() -> None:
    found = weigh([parabola(4, 0.0, 1.0), parabola(5, 0.0, 1.0, 200.0)], 3.0)
    assert {h.workers for h in found} == {4}


def test_the_true_server_keeps_its_chance_however_little_was_seen() -> None:
    """Six seconds of load: posterior chances of the true workers must be honest."""
    chance, right = [], []
    for seed in range(30):
        rng = np.random.default_rng([seed, 21])
        arrival = np.cumsum(rng.exponential(1.0 / 90.0, 500))
        demand = rng.lognormal(np.log(0.02) - 0.15, 0.55, 500)
        free = np.zeros(4)
        done = np.empty(500)
        for i in range(500):
            k = int(free.argmin())
            free[k] = max(free[k], arrival[i]) + demand[i]
            done[i] = free[k] + 0.001
        work = recover([Segment(arrival, done, np.zeros(500, np.uint16), 0.0)])
        assert work is not None
        chance.append(sum(h.weight for h in work.hypotheses if h.workers == 4))
        right.append(work.workers == 4)
    # Thirty draws of a mean: three standard errors of a Bernoulli are at most 0.27.
    assert np.mean(right) == pytest.approx(np.mean(chance), abs=0.27)
    assert np.mean(np.array(chance) > 0.01) >= 0.9
