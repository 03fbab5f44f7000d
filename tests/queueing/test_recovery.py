"""Work recovery against servers simulated here with a plain heap."""

from __future__ import annotations

import heapq

import numpy as np
import pytest
from numpy.typing import NDArray

from tuner.queueing.independence import group_test, trend
from tuner.queueing.recovery import (
    NEGATIVE_SHARE_LIMIT,
    Segment,
    in_system,
    recover,
    running_departures,
)

Array = NDArray[np.float64]


def fifo(arrival: Array, demand: Array, workers: int) -> Array:
    """Departures of a first-come-first-served server."""
    free = [0.0] * workers
    done = []
    for a, s in zip(arrival.tolist(), demand.tolist(), strict=True):
        end = max(a, free[0]) + s
        heapq.heapreplace(free, end)
        done.append(end)
    return np.array(done)


def out_of_order(arrival: Array, demand: Array, workers: int, rng: np.random.Generator) -> Array:
    """Departures when any waiting request may be next."""
    done = np.empty(len(arrival))
    busy: list[tuple[float, int]] = []
    queue: list[int] = []
    i = 0
    while i < len(arrival) or busy:
        if i < len(arrival) and (not busy or arrival[i] < busy[0][0]):
            if len(busy) < workers:
                heapq.heappush(busy, (arrival[i] + demand[i], i))
            else:
                queue.append(i)
            i += 1
            continue
        now, left = heapq.heappop(busy)
        done[left] = now
        if queue:
            k = queue.pop(int(rng.integers(len(queue))))
            heapq.heappush(busy, (now + demand[k], k))
    return done


def poisson(rate: float, n: int, rng: np.random.Generator) -> Array:
    return np.cumsum(rng.exponential(1.0 / rate, n))


def lognormal(mean: float, cv: float, n: int, rng: np.random.Generator) -> Array:
    variance = np.log1p(cv * cv)
    return np.exp(np.log(mean) - variance / 2 + np.sqrt(variance) * rng.standard_normal(n))


def segment(arrival: Array, done: Array, from_s: float = 0.0) -> Segment:
    return Segment(arrival, done, np.zeros(len(arrival), np.uint16), from_s)


DEMANDS = {
    "exponential": lambda n, rng: rng.exponential(0.05, n),
    "lognormal": lambda n, rng: lognormal(0.05, 1.0, n, rng),
    "two_point": lambda n, rng: np.where(rng.random(n) < 0.1, 0.275, 0.025),
}


def test_running_departures_are_the_order_statistics_of_the_past() -> None:
    done = np.random.default_rng(1).random(200)
    chain = running_departures(done)
    for m in range(1, 6):
        row = next(chain)
        for j in (0, 3, 17, 199):
            past = sorted(done[:j], reverse=True)
            assert row[j] == (past[m - 1] if len(past) >= m else -np.inf)


def test_in_system_counts_those_who_came_and_have_not_left() -> None:
    sent = np.array([0.0, 1.0, 2.0, 3.0])
    done = np.array([2.5, 1.5, 9.0, 4.0])
    assert in_system(sent, done).tolist() == [0, 1, 1, 1]


@pytest.mark.parametrize("name", DEMANDS)
def test_noiseless_demands_equal_the_drawn_service_times(name: str) -> None:
    rng = np.random.default_rng(7)
    arrival, demand = poisson(56.0, 4000, rng), DEMANDS[name](4000, rng)
    work = recover([segment(arrival, fifo(arrival, demand, 4))])
    assert work is not None
    assert (work.workers, work.floor_s) == (4, 0.0)
    kept = demand > 0.03 * np.median(demand)
    assert np.abs(work.demand_s - demand)[kept].max() < 1e-9


@pytest.mark.parametrize("workers", [1, 2, 8])
def test_the_number_of_workers_is_found(workers: int) -> None:
    rng = np.random.default_rng(workers)
    arrival = poisson(0.75 * workers / 0.05, 5000, rng)
    work = recover([segment(arrival, fifo(arrival, lognormal(0.05, 1.0, 5000, rng), workers))])
    assert work is not None
    assert work.workers == workers


def test_a_network_floor_and_jitter_are_fitted_not_mistaken_for_work() -> None:
    rng = np.random.default_rng(3)
    arrival, demand = poisson(150.0, 12_000, rng), lognormal(0.02, 0.6, 12_000, rng)
    done = fifo(arrival, demand, 4) + 0.001 + rng.exponential(0.001, 12_000)
    work = recover([segment(arrival, done)])
    assert work is not None
    assert work.workers == 4
    # Floor and mean jitter are one constant to a queue; the standard error is 0.1 ms.
    assert work.floor_s == pytest.approx(0.002, abs=0.0005)
    assert work.demand_s.mean() == pytest.approx(demand.mean(), rel=0.02)
    assert work.negative_share < NEGATIVE_SHARE_LIMIT


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_jitter_of_a_few_milliseconds_does_not_add_a_worker(seed: int) -> None:
    """Short demands turn negative under the right workers, and one worker more hides that."""
    rng = np.random.default_rng(seed)
    arrival, demand = poisson(55.0, 12_000, rng), rng.exponential(0.05, 12_000)
    done = fifo(arrival, demand, 4) + 0.02 + rng.exponential(0.002, 12_000)
    work = recover([segment(arrival, done)])
    assert work is not None
    assert work.workers == 4
    assert work.floor_s == pytest.approx(0.022, abs=0.0015)
    assert work.state.p_value > 0.01


@pytest.mark.parametrize("jitter_s", [0.0, 3e-4])
def test_many_workers_are_counted_though_services_are_all_alike(jitter_s: float) -> None:
    """Nobody overtakes, so that fewer workers behind a longer floor leave nothing negative."""
    rng = np.random.default_rng(8)
    arrival, demand = poisson(90.0, 12_000, rng), np.full(12_000, 0.05)
    done = fifo(arrival, demand, 8) + 0.002 + rng.exponential(jitter_s, 12_000)
    work = recover([segment(arrival, done)])
    assert work is not None
    assert work.workers == 8
    assert np.mean(work.demand_s) == pytest.approx(0.05, rel=0.01)


def test_service_out_of_order_is_seen_from_safe_loads_every_time() -> None:
    seen = 0
    for seed in range(10):
        rng = np.random.default_rng([seed, 5])
        arrival, demand = poisson(50.0, 6000, rng), lognormal(0.05, 1.0, 6000, rng)
        work = recover([segment(arrival, out_of_order(arrival, demand, 4, rng))])
        tests = () if work is None else (work.state, work.future)
        seen += work is None or any(t.p_value < 3e-4 and t.effect > 0.02 for t in tests)
    assert seen == 10


def test_sound_servers_are_not_accused() -> None:
    """120 tests at 3e-4: more than one alarm in 40 servers has a chance below 0.1 %."""
    alarms = 0
    for seed in range(40):
        rng = np.random.default_rng([seed, 9])
        arrival, demand = poisson(60.0, 3000, rng), lognormal(0.05, 1.0, 3000, rng)
        work = recover([segment(arrival, fifo(arrival, demand, 4))])
        assert work is not None
        tests = (work.state, work.future, work.time)
        alarms += any(t.p_value < 3e-4 and t.effect > 0.02 for t in tests)
    assert alarms <= 1


def test_answers_given_together_betray_batches() -> None:
    rng = np.random.default_rng(11)
    arrival = poisson(80.0, 4000, rng)
    done = np.ceil(arrival / 0.05) * 0.05 + 0.03
    batched = recover([segment(arrival, done)])
    alone = recover([segment(arrival, arrival + rng.exponential(0.05, 4000))])
    assert batched is None or batched.clumped_share > 0.5
    assert alone is not None
    assert alone.clumped_share < 0.1


def test_a_slow_spell_shows_in_the_test_of_time() -> None:
    rng = np.random.default_rng(13)
    arrival, demand = poisson(50.0, 9000, rng), lognormal(0.05, 1.0, 9000, rng)
    demand *= np.where(arrival % 60.0 < 5.0, 1.5, 1.0)
    work = recover([segment(arrival, fifo(arrival, demand, 4))])
    assert work is not None
    assert work.time.p_value < 3e-4


def test_a_server_that_speeds_up_has_a_falling_trend() -> None:
    rng = np.random.default_rng(17)
    arrival, demand = poisson(40.0, 8000, rng), lognormal(0.05, 1.0, 8000, rng)
    demand *= 1.0 - 0.3 * arrival / arrival[-1]
    work = recover([segment(arrival, fifo(arrival, demand, 4))])
    assert work is not None
    change, t = work.trend
    assert change == pytest.approx(np.log(0.7), abs=0.1)
    assert t < -4.0


def test_nothing_is_recovered_from_a_handful_of_requests() -> None:
    rng = np.random.default_rng(1)
    arrival = poisson(10.0, 50, rng)
    assert recover([segment(arrival, arrival + 0.05)]) is None


def test_a_bootstrap_draws_whole_blocks_of_time() -> None:
    rng = np.random.default_rng(19)
    arrival, demand = poisson(50.0, 9000, rng), rng.exponential(0.05, 9000)
    work = recover([segment(arrival, fifo(arrival, demand, 4))])
    assert work is not None
    rows = work.resampled(np.random.default_rng(2))
    blocks, times = np.unique(work.block[rows], return_counts=True)
    sizes = np.bincount(work.block)
    assert (times % sizes[blocks] == 0).all()


def test_equal_means_give_a_uniform_p_value() -> None:
    """Kolmogorov distance of 400 p values from uniform stays under its 0.1 % point."""
    rng = np.random.default_rng(23)
    p = np.sort(
        [group_test(rng.normal(size=400), rng.integers(5, size=400)).p_value for _ in range(400)]
    )
    assert np.abs(p - (np.arange(400) + 0.5) / 400).max() < 1.95 / np.sqrt(400)


def test_a_trend_of_the_loads_is_told_from_a_drift() -> None:
    rng = np.random.default_rng(3)
    block = np.repeat(np.arange(60), 100)
    # Loads rise in three stages, and the state found varies around the load.
    cell = np.clip(block // 20 + rng.integers(0, 2, len(block)), 0, 3)
    noise = 0.8 * rng.standard_normal(len(block))
    by_load = 0.15 * cell + noise
    change, t = trend(by_load, block)
    assert change == pytest.approx(0.35, abs=0.1)
    assert t > 5.0
    assert abs(trend(by_load, block, cell)[1]) < 3.0
    drifting = 0.3 * block / 59.0 + noise
    assert trend(drifting, block)[0] == pytest.approx(0.3, abs=0.1)
    own, own_t = trend(drifting, block, cell)
    assert own == pytest.approx(0.3, abs=0.15)
    assert own_t > 3.0
