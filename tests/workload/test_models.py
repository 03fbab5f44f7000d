"""Popularity of models, bodies spread over them, and misses of a least-recently-used memory."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from tuner.errors import PayloadError
from tuner.workload.cache import Fetch, characteristic_time, missed, wait_of
from tuner.workload.models import ModelMix, law, parse_model_trace, spread
from tuner.workload.payloads import Payload, PayloadSet


def lru_misses(shares: np.ndarray, slots: int, seed: int, requests: int = 60_000) -> float:
    """An LRU list by hand, started full of whatever came first."""
    rng = np.random.default_rng(seed)
    held: list[int] = []
    missed = counted = 0
    for number, model in enumerate(rng.choice(len(shares), requests, p=shares).tolist()):
        hit = model in held
        if hit:
            held.remove(model)
        held.append(model)
        if len(held) > slots:
            held.pop(0)
        if number >= requests // 6:
            counted += 1
            missed += not hit
    return missed / counted


@pytest.mark.parametrize(
    ("models", "slots", "exponent"), [(40, 20, 1.0), (60, 20, 0.7), (25, 20, 0)]
)
def test_misses_agree_with_a_simulated_memory(models: int, slots: int, exponent: float) -> None:
    shares = law(models, "m{n}", popularity="zipf", exponent=exponent).shares
    assert missed(shares, slots).share == pytest.approx(lru_misses(shares, slots, 1), rel=0.05)


def test_misses_agree_with_the_exact_sum_for_a_tiny_memory() -> None:
    """King (1971): the stationary order of an LRU memory, enumerated; Che is near even here."""
    shares = np.array([0.3, 0.25, 0.2, 0.15, 0.1])
    exact = 1.0
    for held in itertools.permutations(range(5), 3):
        chance, left = 1.0, 1.0
        for model in held:
            chance *= shares[model] / left
            left -= shares[model]
        exact -= chance * shares[list(held)].sum()
    assert missed(shares, 3).share == pytest.approx(exact, rel=0.03)


def slow_lru(
    shares: np.ndarray, slots: int, wait: float, load: float, requests: int, longer_than: float
) -> tuple[float, float]:
    """An LRU list whose models come ``wait`` requests after they are asked for.

    For the last ``load`` of them they take up a place already, for which the longest unused
    model goes. Share and mean of the waits.
    """
    rng = np.random.default_rng(3)
    held: list[int] = []
    due: dict[int, float] = {}
    waits = []
    for now, model in enumerate(rng.choice(len(shares), requests, p=shares).tolist()):
        for other in [m for m, at in due.items() if at <= now]:
            held.append(other)
            del due[other]
        under_way = sum(at - load <= now for at in due.values())
        del held[: max(0, len(held) + under_way - slots)]
        if model in held:
            held.remove(model)
            held.append(model)
            waits.append(0.0)
        else:
            waits.append(due.setdefault(model, now + wait) - now)
    seen = np.array(waits[requests // 5 :])
    late = seen > longer_than
    return float(late.mean()), float(seen[late].mean())


@pytest.mark.parametrize(("wait", "load"), [(20.0, 20.0), (60.0, 20.0), (60.0, 0.0)])
def test_models_that_take_time_to_come_are_waited_for(wait: float, load: float) -> None:
    shares = law(30, "m{n}", popularity="zipf", exponent=0.5).shares
    for longer_than in (0.0, 8.0):
        share, mean = slow_lru(shares, 22, wait, load, 40_000, longer_than)
        found = missed(shares, 22, Fetch(wait, load), longer_than=longer_than)
        assert found.share == pytest.approx(share, rel=0.05)
        assert found.wait == pytest.approx(mean, rel=0.05)
        back = wait_of(shares, 22, found.wait, load, longer_than=longer_than)
        assert back == pytest.approx(wait, rel=1e-3)


def test_nothing_is_missed_when_all_fit_and_all_of_little_when_uniform() -> None:
    uniform = np.full(50, 0.02)
    assert missed(uniform, 50).share == 0.0
    assert characteristic_time(uniform, 50) == np.inf
    assert missed(uniform, 20).share == pytest.approx(0.6)
    assert missed(uniform, 20, Fetch(50.0, 0.0)).share > 0.6
    with pytest.raises(ValueError, match="slots"):
        characteristic_time(uniform, 0.0)


def test_a_law_gives_names_and_shares_in_order() -> None:
    mix = law(4, "model-{n}.tar.gz", popularity="zipf")
    assert mix.names == tuple(f"model-{n}.tar.gz" for n in (1, 2, 3, 4))
    assert mix.shares * 25 / 12 == pytest.approx([1.0, 1 / 2, 1 / 3, 1 / 4])
    assert law(4, "m{n}", popularity="uniform").shares == pytest.approx([0.25] * 4)
    assert mix.first(2).shares == pytest.approx([2 / 3, 1 / 3])


def test_a_trace_gives_shares_by_how_often_a_model_occurs() -> None:
    mix = parse_model_trace("model,when\nb,1\na,2\nb,3\nc,4\nb,5\n\n")
    assert mix.names == ("b", "a", "c")
    assert mix.shares == pytest.approx([0.6, 0.2, 0.2])
    with pytest.raises(PayloadError, match="names no model"):
        parse_model_trace("model\n")


@pytest.mark.parametrize(
    ("count", "name", "popularity"),
    [(2, "fixed", "zipf"), (2, "m{n}", "pareto"), (0, "m{n}", "zipf")],
)
def test_an_unusable_law_is_refused(count: int, name: str, popularity: str) -> None:
    with pytest.raises(PayloadError):
        law(count, name, popularity=popularity)


def test_bodies_are_spread_over_models_in_proportion_to_both() -> None:
    bodies = PayloadSet((Payload(b"a", weight=3.0), Payload(b"b", payload_class="heavy")))
    mix = ModelMix(("x", "y"), np.array([0.8, 0.2]))
    whole = spread(bodies, mix)
    assert [(p.body, p.target_model, round(p.weight, 3)) for p in whole.payloads] == [
        (b"a", "x", 0.6), (b"b", "x", 0.2), (b"a", "y", 0.15), (b"b", "y", 0.05),
    ]  # fmt: skip
    assert whole.class_names == ("default", "heavy")
    by_model = spread(bodies, mix, class_per_model=True)
    assert by_model.class_names == ("x", "y")
    assert by_model.class_index.tolist() == [0, 0, 1, 1]
    picked = by_model.draw(np.random.default_rng(1), 1000)
    assert (picked == by_model.draw(np.random.default_rng(1), 1000)).all()
    with pytest.raises(PayloadError, match="memory"):
        spread(PayloadSet.inline(b"x" * 2**21), law(600, "m{n}", popularity="uniform"))


@pytest.mark.parametrize("name", ["", "x" * 1025, "line\nbreak", "ümlaut"])
def test_a_model_name_that_is_no_header_value_is_refused(name: str) -> None:
    with pytest.raises(PayloadError, match="target model"):
        PayloadSet((Payload(b"", target_model=name),))
