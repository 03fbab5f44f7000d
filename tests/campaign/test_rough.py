"""Where a search begins: against the law of M/M/1, with and without requests slow by themselves."""

from __future__ import annotations

import math

import numpy as np
import pytest

from tuner.campaign.evidence import StageEvidence
from tuner.campaign.rough import rough_crossing
from tuner.campaign.types import StageKind
from tuner.stats.proportions import share_interval

MU_PER_S, LIMIT_S, ALLOWANCE = 100.0, 0.15, 0.01


def ramp(slow_by_itself: float, loads: tuple[float, ...], seed: int) -> list[StageEvidence]:
    """Steps of 15 s of M/M/1, a share of whose requests is late whatever the load."""
    rng = np.random.default_rng(seed)
    steps = []
    for index, rate in enumerate(loads):
        waited = math.exp(-max(MU_PER_S - rate, 0.0) * LIMIT_S)
        late = slow_by_itself + (1.0 - slow_by_itself) * waited
        share = share_interval(rng.random(int(15.0 * rate)) < late)
        steps.append(StageEvidence(index, StageKind.RAMP, 1, rate, 15.0, share, 0, False))
    return steps


def crossing(slow_by_itself: float) -> float:
    """P(T > t) = slow + (1 - slow) exp(-(mu - lambda) t) is the allowance here."""
    left = (ALLOWANCE - slow_by_itself) / (1.0 - slow_by_itself)
    return MU_PER_S + math.log(left) / LIMIT_S


@pytest.mark.parametrize("slow_by_itself", [0.0, 0.004, 0.007])
def test_the_first_look_lands_near_the_limit(slow_by_itself: float) -> None:
    truth = crossing(slow_by_itself)
    loads = (6.0, 12.0, 24.0, 48.0, 72.0, 96.0)
    found = [rough_crossing(ramp(slow_by_itself, loads, seed), ALLOWANCE) for seed in range(20)]
    error = [math.log(f / truth) for f in found if f is not None]
    assert len(error) == 20
    assert math.sqrt(np.mean(np.square(error))) < 0.15


def test_requests_slow_by_themselves_at_low_load_do_not_pull_it_down() -> None:
    quiet = ramp(0.0, (6.0, 12.0, 24.0), 1)
    steep = ramp(0.007, (48.0, 60.0, 90.0), 1)
    slow = [
        StageEvidence(
            9, StageKind.RAMP, 1, 24.0, 15.0, share_interval(np.arange(360) % 60 == 0), 0, False
        )
    ]
    found = rough_crossing([*quiet, *slow, *steep], ALLOWANCE)
    assert found is not None
    assert found > 48.0


def test_an_overloaded_stage_is_above_the_limit_and_no_stage_is_no_place() -> None:
    share = share_interval(np.zeros(1_000, bool))
    calm = StageEvidence(0, StageKind.RAMP, 1, 40.0, 15.0, share, 0, False)
    lost = StageEvidence(1, StageKind.RAMP, 1, 60.0, 15.0, share, 0, True)
    assert rough_crossing([], ALLOWANCE) is None
    found = rough_crossing([calm, lost], ALLOWANCE)
    assert found is not None
    assert 36.0 < found < 60.0


def test_a_server_late_at_every_load_is_looked_at_below_the_lowest() -> None:
    loads = (4.0, 6.0, 20.0)
    found = rough_crossing(ramp(0.1, loads, 3), ALLOWANCE)
    assert found is not None
    assert found < 4.0


def test_a_window_that_tipped_over_does_not_pull_the_start_below_loads_that_held() -> None:
    """Where the limit is a cliff, a load a little beyond it is late in one long burst."""
    held = [
        StageEvidence(
            k, StageKind.MEASURE, 1, rate, 60.0, share_interval(np.arange(10_000) % every == 0),
            0, False,
        )
        for k, (rate, every) in enumerate(((165.0, 700), (173.0, 400), (177.0, 250)))
    ]  # fmt: skip
    burst = share_interval(np.arange(11_000) > 4_000)
    tipped = StageEvidence(3, StageKind.MEASURE, 1, 188.0, 60.0, burst, 0, False)
    gone = StageEvidence(4, StageKind.RAMP, 1, 262.0, 15.0, burst, 0, True)
    found = rough_crossing([*held, tipped, gone], ALLOWANCE)
    assert found is not None
    assert 165.0 < found < 188.0


def test_a_late_window_far_up_does_not_send_the_search_to_the_lowest_load() -> None:
    quiet = [
        StageEvidence(k, StageKind.RAMP, 1, rate, 15.0, share_interval(np.zeros(n, bool)), 0, False)
        for k, (rate, n) in enumerate(((10.0, 166), (40.0, 640), (90.0, 1_350), (114.0, 3_000)))
    ]
    burst = share_interval(np.arange(2_074) > 766)
    tipped = StageEvidence(4, StageKind.RAMP, 1, 135.0, 15.0, burst, 0, False)
    found = rough_crossing([*quiet, tipped], ALLOWANCE)
    assert found is not None
    assert 100.0 < found < 150.0
