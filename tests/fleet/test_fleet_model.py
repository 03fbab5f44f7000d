"""Life of instances and fate of requests, in made-up time."""

from __future__ import annotations

import math

import numpy as np
import pytest

from tuner.fleet import (
    Batching,
    ColdStart,
    Completion,
    Fate,
    Fleet,
    FleetSpec,
    InstanceSpec,
    Phase,
    RoutingStrategy,
    ServiceTime,
    simulate,
)

ONE = ServiceTime.deterministic(1.0)
LOR = RoutingStrategy.LEAST_OUTSTANDING_REQUESTS


def fleet(instance: InstanceSpec, **more: object) -> Fleet:
    return Fleet(FleetSpec(instance, **more), np.random.default_rng(0))  # type: ignore[arg-type]


def drain(model: Fleet) -> list[Completion]:
    ended = []
    while (due := model.next_event_s()) != math.inf:
        ended += model.advance(due)
    return ended


def test_a_late_look_does_not_delay_the_next_start() -> None:
    model = fleet(InstanceSpec(ONE))
    for tag in range(3):
        model.submit(0.0, tag)
    ended = model.advance(100.0)
    assert [(c.tag, c.started_s, c.done_s) for c in ended] == [(0, 0, 1), (1, 1, 2), (2, 2, 3)]


def test_the_time_axis_may_start_anywhere() -> None:
    model = Fleet(FleetSpec(InstanceSpec(ONE)), np.random.default_rng(0), now=-1e6)
    model.submit(-5.0)
    assert model.advance(0.0)[0].done_s == -4.0
    spec = FleetSpec(InstanceSpec(ONE, workers=2), instance_count=2, routing=LOR)
    assert simulate(spec, np.array([-5.0]), np.random.default_rng(0)).done_s[0] == -4.0


def test_overhead_is_outside_the_instance() -> None:
    model = fleet(InstanceSpec(ONE, overhead=ServiceTime.deterministic(0.25)))
    model.submit(0.0)
    model.submit(0.0)
    first, second = drain(model)
    assert (first.served_s, first.done_s) == (1.0, 1.25)
    assert (second.served_s, second.done_s) == (2.0, 2.25)


def test_payload_makes_service_longer() -> None:
    model = fleet(InstanceSpec(ONE, per_byte_s=0.001))
    model.submit(0.0, request_bytes=500)
    assert drain(model)[0].done_s == pytest.approx(1.5)


def test_launched_instance_serves_after_its_lag() -> None:
    model = fleet(InstanceSpec(ONE), launch_lag=ServiceTime.deterministic(5.0), routing=LOR)
    model.set_instance_count(0.0, 3)
    assert (model.in_service, model.starting, model.desired) == (1, 2, 3)
    assert model.next_event_s() == 5.0
    model.advance(4.999)
    assert model.in_service == 1
    model.advance(5.0)
    assert (model.in_service, model.starting) == (3, 0)
    for _ in range(3):
        model.submit(6.0)
    assert {c.instance_id for c in model.advance(7.0)} == {0, 1, 2}


def test_scale_in_gives_up_starting_instances_first_and_drains_the_newest() -> None:
    model = fleet(InstanceSpec(ONE), instance_count=2, launch_lag=ServiceTime.deterministic(5.0),
                  routing=LOR, drain_s=10.0)  # fmt: skip
    for _ in range(6):
        model.submit(0.0)
    model.set_instance_count(0.0, 4)
    model.set_instance_count(0.5, 1)
    phases = {i: p for i, _, p, _ in model.instances()}
    assert phases == {0: Phase.IN_SERVICE, 1: Phase.DRAINING}
    model.submit(0.6, "later")
    ended = model.advance(9.0)
    assert all(c.fate is Fate.OK for c in ended)
    assert next(c for c in ended if c.tag == "later").instance_id == 0
    assert [i for i, *_ in model.instances()] == [0]


def test_requests_left_after_the_drain_are_lost() -> None:
    model = fleet(InstanceSpec(ONE), instance_count=1, drain_s=1.5)
    for tag in range(3):
        model.submit(0.0, tag)
    model.set_instance_count(0.0, 0)
    assert model.draining == 1
    ended = model.advance(10.0)
    assert [(c.tag, c.fate, c.done_s) for c in ended] == [
        (0, Fate.OK, 1.0),
        (1, Fate.INSTANCE_LOST, 1.5),
        (2, Fate.INSTANCE_LOST, 1.5),
    ]
    assert model.draining == 0


def test_without_instances_there_is_no_capacity() -> None:
    model = fleet(InstanceSpec(ONE), instance_count=0)
    model.submit(1.0, "x")
    (end,) = model.advance(1.0)
    assert (end.fate, end.instance_id) == (Fate.NO_CAPACITY, -1)


def test_a_dead_instance_loses_its_requests_and_is_replaced() -> None:
    model = fleet(InstanceSpec(ONE), instance_count=2, launch_lag=ServiceTime.deterministic(3.0),
                  routing=LOR)  # fmt: skip
    for tag in range(4):
        model.submit(0.0, tag)
    model.kill(0.5, 0)
    ended = drain(model)
    lost = [c for c in ended if c.fate is Fate.INSTANCE_LOST]
    assert len(lost) == 2
    assert {c.done_s for c in lost} == {0.5}
    assert sorted(c.done_s for c in ended if c.fate is Fate.OK) == [1.0, 2.0]
    assert (model.in_service, model.starting) == (2, 0)
    with pytest.raises(KeyError):
        model.kill(9.0, 0)


def test_a_lost_zone_is_replaced_in_the_others() -> None:
    model = fleet(InstanceSpec(ONE), instance_count=6, zones=3)
    assert sorted(z for _, z, _, _ in model.instances()) == [0, 0, 1, 1, 2, 2]
    model.close_zone(0.0, 1)
    model.advance(1.0)
    assert model.in_service == 6
    assert sorted(z for _, z, _, _ in model.instances()) == [0, 0, 0, 2, 2, 2]
    with pytest.raises(ValueError, match="zone"):
        model.close_zone(1.0, 7)
    model.close_zone(1.0, 0)
    with pytest.raises(ValueError, match="remain"):
        model.close_zone(1.0, 2)
    model.open_zone(1)
    model.close_zone(2.0, 2)
    assert {z for _, z, _, _ in model.instances()} == {1}


def test_the_platform_gives_up_but_the_worker_works_on() -> None:
    model = fleet(InstanceSpec(ServiceTime.deterministic(10.0)), timeout_s=4.0)
    model.submit(0.0, "a")
    model.submit(1.0, "b")
    assert [(c.tag, c.fate, c.done_s) for c in model.advance(30.0)] == [
        ("a", Fate.TIMED_OUT, 4.0),
        ("b", Fate.TIMED_OUT, 5.0),
    ]
    model.submit(19.0, "c")  # both are still being served until 20
    (end,) = model.advance(60.0)
    assert (end.tag, end.fate) == ("c", Fate.TIMED_OUT)


def test_new_instances_are_cold_and_the_first_are_warm() -> None:
    model = fleet(InstanceSpec(ONE, cold_start=ColdStart(2, 5.0)), instance_count=1)
    model.submit(0.0)
    assert model.advance(50.0)[0].done_s == 1.0
    model.launch(50.0)
    model.set_instance_count(51.0, 1)
    model.kill(51.0, 0)
    model.advance(51.0)
    for start in (100.0, 110.0, 120.0):
        model.submit(start, start)
    assert [c.done_s - c.tag for c in model.advance(200.0)] == [5.0, 5.0, 1.0]


def test_batches_fill_or_wait_and_share_a_worker() -> None:
    batching = Batching(max_size=4, max_wait_s=0.5, per_item_s=0.1)
    model = fleet(InstanceSpec(ONE, batching=batching))
    for tag in range(2):
        model.submit(0.0, tag)
    for tag in range(2, 8):
        model.submit(0.6, tag)
    ended = {c.tag: c for c in drain(model)}
    assert ended[0].started_s == 0.5
    assert ended[0].done_s == ended[1].done_s == pytest.approx(0.5 + 1.0 + 0.2)
    assert ended[0].worker_share == 0.5
    # Six wait while the worker is busy: four go at once, the last two have waited long enough.
    assert ended[2].done_s == pytest.approx(1.7 + 1.4)
    assert ended[7].done_s == pytest.approx(3.1 + 1.2)


def test_a_full_queue_refuses() -> None:
    model = fleet(InstanceSpec(ONE, queue_limit=1))
    for tag in range(3):
        model.submit(0.0, tag)
    ended = drain(model)
    assert sorted((c.tag, c.fate.value) for c in ended) == [
        (0, "ok"),
        (1, "ok"),
        (2, "queue_full"),
    ]


def test_thousand_instances_share_evenly_under_least_outstanding() -> None:
    model = fleet(InstanceSpec(ONE), instance_count=1000, routing=LOR)
    for _ in range(3000):
        model.submit(0.0)
    assert {n for *_, n in model.instances()} == {3}


def test_same_seed_same_fleet() -> None:
    def run() -> list[tuple[float, int]]:
        spec = FleetSpec(InstanceSpec(ServiceTime.lognormal(1.0, 1.0)), instance_count=5)
        model = Fleet(spec, np.random.default_rng(42))
        for i in range(200):
            model.submit(i * 0.3)
        return [(c.done_s, c.instance_id) for c in model.advance(1e6)]

    assert run() == run()


@pytest.mark.parametrize(
    "time",
    [
        ServiceTime.gamma(2.0, 0.5),
        ServiceTime.lognormal(2.0, 0.8),
        ServiceTime.exponential(2.0),
        ServiceTime.two_point(1.0, 11.0, 0.1),
        ServiceTime.hyperexponential(1.0, 11.0, 0.1),
        ServiceTime.empirical((1.0, 2.0, 3.0)),
        ServiceTime.deterministic(2.0),
    ],
)
def test_draws_have_the_stated_moments(time: ServiceTime) -> None:
    draws = time.sample(np.random.default_rng(1), 400_000)
    assert draws.mean() == pytest.approx(time.mean_s, rel=0.02)
    assert draws.std() / draws.mean() == pytest.approx(time.cv, rel=0.03, abs=1e-9)
    assert time.scaled(3.0).mean_s == pytest.approx(3.0 * time.mean_s)


@pytest.mark.parametrize(
    "build",
    [
        lambda: ServiceTime.exponential(-1.0),
        lambda: ServiceTime.exponential(math.nan),
        lambda: ServiceTime.gamma(1.0, 0.0),
        lambda: ServiceTime.two_point(1.0, 2.0, 1.5),
        lambda: ServiceTime.empirical(()),
        lambda: InstanceSpec(ONE, workers=0),
        lambda: InstanceSpec(ONE, queue_limit=-1),
        lambda: FleetSpec(InstanceSpec(ONE), timeout_s=0.0),
        lambda: Batching(0),
        lambda: ColdStart(1, 0.5),
    ],
)
def test_impossible_specifications_are_refused(build: object) -> None:
    with pytest.raises(ValueError, match=r".+"):
        build()  # type: ignore[operator]
