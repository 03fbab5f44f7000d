"""Models in an instance's memory: cold loads, least recently used eviction, 429 after a minute."""

from __future__ import annotations

import numpy as np
import pytest

from tuner.fleet import Fate, Fleet, FleetSpec, InstanceSpec, ModelsSpec, ServiceTime
from tuner.fleet.model import Completion
from tuner.fleet.spec import RoutingStrategy

GIB = 2.0**30
SERVICE_S, LOAD_S, DOWNLOAD_S = 0.01, 1.0, 2.0
fixed = ServiceTime.deterministic


def fleet(
    slots: int = 2,
    *,
    instances: int = 1,
    workers: int = 4,
    load_s: float = LOAD_S,
    seed: int = 1,
    timeout_s: float = 60.0,
    **models: object,
) -> Fleet:
    spec = ModelsSpec(
        slots * GIB, GIB, fixed(load_s), download=fixed(DOWNLOAD_S), **models,  # type: ignore[arg-type]
    )  # fmt: skip
    instance = InstanceSpec(fixed(SERVICE_S), workers=workers, models=spec)
    whole = FleetSpec(instance, instance_count=instances, timeout_s=timeout_s)
    return Fleet(whole, np.random.default_rng(seed))


def run(made: Fleet, requests: list[tuple[float, str]]) -> dict[int, Completion]:
    ended = []
    for number, (at, model) in enumerate(requests):
        made.submit(at, number, model=model)
        ended += made.advance(at)
    while (due := made.next_event_s()) != np.inf:
        ended += made.advance(due)
    return {end.tag: end for end in ended}


def test_the_first_request_of_a_model_waits_for_download_and_load() -> None:
    made = fleet()
    ends = run(made, [(0.0, "a"), (10.0, "a")])
    assert ends[0].done_s == pytest.approx(DOWNLOAD_S + LOAD_S + SERVICE_S)
    assert ends[0].cache_hit is False
    assert ends[0].model_wait_s == pytest.approx(DOWNLOAD_S + LOAD_S)
    assert ends[1].done_s == pytest.approx(10.0 + SERVICE_S)
    assert ends[1].cache_hit is True
    assert ends[1].model_wait_s == 0.0
    assert made.loaded_models() == [1]


def test_requests_of_a_model_on_its_way_share_one_load() -> None:
    made = fleet()
    ends = run(made, [(0.0, "a"), (1.0, "a"), (2.5, "a")])
    assert [ends[i].cache_hit for i in range(3)] == [False] * 3
    assert ends[2].model_wait_s == pytest.approx(0.5)
    assert len(made.take_loads()) == 1


def test_the_least_recently_used_model_goes_and_comes_back_from_disk() -> None:
    made = fleet(slots=2)
    at = [(0.0, "a"), (10.0, "b"), (20.0, "a"), (30.0, "c"), (40.0, "a"), (50.0, "b")]
    ends = run(made, at)
    # c pushes b out (a was used after it), so a is still there and b comes back.
    assert [ends[i].cache_hit for i in range(6)] == [False, False, True, False, True, False]
    loads = made.take_loads()
    assert [(x.model, x.evicted) for x in loads] == [("a", 0), ("b", 0), ("c", 1), ("b", 1)]
    assert [x.download_s for x in loads] == [DOWNLOAD_S, DOWNLOAD_S, DOWNLOAD_S, 0.0]
    assert made.loaded_models() == [2]


def test_a_model_in_use_is_not_unloaded() -> None:
    made = Fleet(
        FleetSpec(
            InstanceSpec(fixed(5.0), models=ModelsSpec(GIB, GIB, fixed(1.0))), timeout_s=100.0
        ),
        np.random.default_rng(1),
    )
    ends = run(made, [(0.0, "a"), (2.0, "b")])
    # a loads until 1 and works until 6; only then may b take its memory.
    assert ends[0].done_s == pytest.approx(6.0)
    assert made.take_loads()[1].began_s == pytest.approx(6.0)
    assert ends[1].done_s == pytest.approx(12.0)


def test_a_load_beyond_a_minute_answers_not_ready_and_goes_on() -> None:
    made = fleet(load_s=100.0)
    ends = run(made, [(0.0, "a"), (70.0, "a"), (110.0, "a")])
    assert ends[0].fate is Fate.MODEL_NOT_READY
    assert ends[0].done_s == pytest.approx(60.0)
    assert ends[1].fate is Fate.OK
    assert ends[1].done_s == pytest.approx(102.0 + SERVICE_S)
    assert ends[2].fate is Fate.OK
    assert ends[2].cache_hit is True


def test_a_load_beyond_its_limit_is_given_up() -> None:
    made = fleet(load_s=500.0, load_limit_s=360.0)
    ends = run(made, [(0.0, "a"), (359.0, "a")])
    assert {e.fate for e in ends.values()} == {Fate.MODEL_NOT_READY}
    (load,) = made.take_loads()
    assert not load.loaded
    assert load.done_s == pytest.approx(360.0)
    assert made.loaded_models() == [0]


def test_a_request_follows_its_model_unless_the_instance_is_busy() -> None:
    made = fleet(instances=3, workers=1, slots=5)
    ends = run(made, [(float(i * 10), "a") for i in range(20)])
    assert len({e.instance_id for e in ends.values()}) == 1
    made = fleet(instances=3, workers=1, slots=5)
    ends = run(made, [(0.0, "a"), *((100.0 + i * 1e-4, "a") for i in range(40))])
    assert len({e.instance_id for e in ends.values()}) == 3


def test_without_affinity_every_instance_loads_its_own() -> None:
    made = fleet(instances=3, slots=5, affinity=False)
    ends = run(made, [(float(i * 10), "a") for i in range(60)])
    assert len({e.instance_id for e in ends.values()}) == 3
    assert len(made.take_loads()) == 3


@pytest.mark.parametrize("routing", list(RoutingStrategy))
def test_every_request_ends_once_and_nothing_stays_behind(routing: RoutingStrategy) -> None:
    rng = np.random.default_rng(5)
    spec = ModelsSpec(
        5 * GIB, GIB, ServiceTime.exponential(0.3), unload=fixed(0.05), size_cv=0.5, loaders=2
    )
    instance = InstanceSpec(ServiceTime.exponential(0.02), workers=2, queue_limit=5, models=spec)
    made = Fleet(FleetSpec(instance, instance_count=3, routing=routing), rng)
    at = np.cumsum(rng.exponential(0.01, 5000)).tolist()
    models = [f"m{i}" for i in rng.integers(0, 25, 5000)]
    requests = list(zip(at, models, strict=True))
    for number, (moment, model) in enumerate(requests[:2500]):
        made.submit(moment, number, model=model)
    made.set_instance_count(at[2499], 2)
    made.kill(at[2499], made.instances()[0][0])
    for number, (moment, model) in enumerate(requests[2500:], 2500):
        made.submit(moment, number, model=model)
    ended = made.advance(at[-1] + 1000.0)
    assert sorted(e.tag for e in ended) == list(range(5000))
    assert all(outstanding == 0 for *_, outstanding in made.instances())
    assert made.next_event_s() == np.inf


def test_the_same_seed_gives_the_same_fleet_and_no_memory_is_over_full() -> None:
    def once() -> list[tuple[int, float]]:
        made = fleet(slots=3, seed=9, size_cv=0.8)
        rng = np.random.default_rng(2)
        requests = [(float(i), f"m{rng.integers(0, 9)}") for i in range(300)]
        ends = run(made, requests)
        assert max(made.loaded_models()) <= 9
        return [(k, ends[k].done_s) for k in sorted(ends)]

    assert once() == once()


def test_hit_ratio_of_independent_requests_is_that_of_an_exact_lru_cache() -> None:
    """King's sum over ordered caches (1971), by enumeration: truth from a closed form."""
    popularity = np.array([0.4, 0.25, 0.15, 0.12, 0.08])
    exact = 0.0
    for a in range(5):
        for b in range(5):
            if a != b:
                held = popularity[a] * popularity[b] / (1.0 - popularity[a])
                exact += held * (popularity[a] + popularity[b])
    rng = np.random.default_rng(3)
    names = rng.choice(5, 40_000, p=popularity)
    made = fleet(slots=2, load_s=0.0)
    requests = [(float(i * 10), f"m{m}") for i, m in enumerate(names)]
    ends = run(made, requests)
    hits = np.mean([ends[i].cache_hit for i in range(1000, 40_000)])
    assert hits == pytest.approx(exact, abs=4.0 * np.sqrt(0.25 / 39_000))


@pytest.mark.parametrize(
    "wrong",
    [{"model_bytes": 3.0}, {"model_bytes": 0.0}, {"loaders": 0}, {"size_cv": -1.0}, {"spill": 0},
     {"wait_limit_s": 0.0}],
)  # fmt: skip
def test_a_wrong_specification_is_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=r"must|need"):
        ModelsSpec(**{"memory_bytes": 2.0, "model_bytes": 1.0, "load": fixed(1.0), **wrong})  # type: ignore[arg-type]
