"""How far plausible servers move the crossing, against closed forms."""

from __future__ import annotations

import math

import numpy as np
import pytest
from campaign_samples import MM4_LIMIT, mm4_limit

from tuner.campaign.members import Shifts, shifts
from tuner.campaign.predict import Effort, ServerModel, crossing
from tuner.queueing.mmc import sojourn_survival
from tuner.slo import LatencyObjective

OBJECTIVE = LatencyObjective(0.99, 0.3)


def exponential(mean_s: float, n: int = 8000) -> np.ndarray:
    return -mean_s * np.log1p(-(np.arange(n) + 0.5) / n)


@pytest.mark.parametrize("slower", [0.97, 0.99, 1.02, 1.06])
def test_a_slower_server_crosses_where_erlang_c_says(slower: float) -> None:
    model = ServerModel(4, 0.0, exponential(0.05))
    at = crossing(model, OBJECTIVE, rng=np.random.default_rng(1), effort=Effort())
    assert at is not None
    assert at.rate_per_s == pytest.approx(MM4_LIMIT, rel=0.01)
    other = ServerModel(4, 0.0, exponential(0.05 * slower))
    found = shifts(model, [model, other], OBJECTIVE, at, np.random.default_rng(2), 40_000)
    # Time scales with the mean: the limit of the slower server is that of a tighter SLO.
    exact = math.log(mm4_limit(0.99, 0.3 / slower) / slower / mm4_limit(0.99, 0.3))
    assert found.log[0] == 0.0
    assert found.log[1] == pytest.approx(exact, abs=0.004 + 0.1 * abs(exact))
    assert found.odds[0] == 0.0
    late = [float(sojourn_survival(0.3, at.rate_per_s, 4, 0.05 * s)) for s in (1.0, slower)]
    odds = [math.log(p / (1.0 - p)) for p in late]
    assert found.odds[1] == pytest.approx(odds[1] - odds[0], abs=0.01, rel=0.06)
    assert found.noise[1] < 0.006


def test_one_worker_more_is_seen_as_far_as_it_goes() -> None:
    """Two steps reach a limit a quarter away well enough to weigh a doubtful hypothesis."""
    model, more = (ServerModel(m, 0.0, exponential(0.05)) for m in (4, 5))
    at = crossing(model, OBJECTIVE, rng=np.random.default_rng(1))
    assert at is not None
    five = crossing(more, OBJECTIVE, rng=np.random.default_rng(1))
    assert five is not None
    found = shifts(model, [more], OBJECTIVE, at, np.random.default_rng(3), 40_000).log[0]
    assert found == pytest.approx(math.log(five.rate_per_s / at.rate_per_s), abs=0.06)


def test_a_server_too_slow_when_alone_is_moved_as_far_as_it_goes() -> None:
    model = ServerModel(4, 0.0, exponential(0.05))
    at = crossing(model, OBJECTIVE, rng=np.random.default_rng(1))
    assert at is not None
    hopeless = ServerModel(4, 0.0, exponential(0.07))
    found = shifts(model, [hopeless], OBJECTIVE, at, np.random.default_rng(2), 20_000)
    assert found.log[0] < -0.3


def test_noise_of_simulating_is_taken_out_of_the_spread() -> None:
    rng = np.random.default_rng(4)
    true = 0.02 * rng.standard_normal(400)
    seen = true + 0.015 * rng.standard_normal(400)
    found = Shifts(np.append(0.3, seen), np.full(401, 0.015), np.zeros(401)).of_resampled(1)
    assert found.std() == pytest.approx(true.std(), rel=0.1)
    assert found.mean() == pytest.approx(seen.mean())


def test_servers_all_alike_have_no_spread() -> None:
    assert list(Shifts(np.zeros(3), np.zeros(3), np.zeros(3)).of_resampled(0)) == [0.0, 0.0, 0.0]
