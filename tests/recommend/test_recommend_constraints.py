"""Resilience in numbers, headroom rules, prices: closed forms and hand arithmetic."""

from __future__ import annotations

import math

import numpy as np
import pytest

from tuner.errors import InputError
from tuner.recommend.constraints import (
    Constraints,
    describe_resilience,
    parse_resilience,
    smallest_useful_minimum,
    static_fleet,
    survivors,
)
from tuner.recommend.prices import PRICES
from tuner.recommend.types import Resilience


@pytest.mark.parametrize(
    ("text", "lose", "count", "zones"),
    [
        ("none", "none", 1, 3),
        ("1 instance", "instance", 1, 3),
        ("2 instances", "instance", 2, 3),
        ("1 zone", "zone", 1, 3),
        ("1 Zone of 2", "zone", 1, 2),
    ],
)
def test_resilience_is_read_and_told_again(text: str, lose: str, count: int, zones: int) -> None:
    rule = parse_resilience(text)
    assert (rule.lose, rule.count) == (lose, count)
    if lose == "zone":
        assert rule.zones == zones
    again = parse_resilience("none" if lose == "none" else describe_resilience(rule))
    assert again == rule


@pytest.mark.parametrize("text", ["", "0 instances", "2 zones of 3", "1 zone of 1", "everything"])
def test_unknown_resilience_is_refused(text: str) -> None:
    with pytest.raises(InputError):
        parse_resilience(text)


def test_zone_survivors_follow_the_fullest_zone() -> None:
    zone = Resilience("zone", zones=3)
    shares = [int(survivors(zone, n)) / n for n in (2, 3, 4, 6, 9, 12)]
    assert shares == pytest.approx([0.5, 2 / 3, 0.5, 2 / 3, 2 / 3, 2 / 3])
    assert survivors(Resilience("instance", count=2), np.array([1, 2, 5])).tolist() == [0, 0, 3]
    assert survivors(Resilience(), 7) == 7
    assert [smallest_useful_minimum(r) for r in (Resilience(), zone)] == [1, 2]
    assert smallest_useful_minimum(Resilience("instance", count=2)) == 3


def test_static_fleet_is_the_smallest_that_carries_the_peak() -> None:
    rates = np.array([10.0, 12.0, 13.0])
    assert [static_fleet(p, rates) for p in (1.0, 10.0, 10.1, 24.0, 39.0)] == [1, 1, 2, 2, 3]
    assert static_fleet(100.0, rates) == math.ceil(100.0 / 13.0)


@pytest.mark.parametrize(
    "bad",
    [
        {"min_capacity": 0},
        {"min_capacity": 5, "max_capacity": 4},
        {"quota": 0},
        {"budget_requests": 1.5},
        {"budget_minutes": -0.1},
        {"resilient_minutes": 2.0},
        {"scale_out_cooldowns_s": ()},
        {"scale_in_cooldowns_s": (-1,)},
    ],
)
def test_constraints_out_of_range_are_refused(bad: dict[str, object]) -> None:
    with pytest.raises(InputError) as caught:
        Constraints("ml.m5.xlarge", **bad)  # type: ignore[arg-type]
    assert caught.value.exit_code == 2


def test_the_lower_of_bound_and_quota_is_the_ceiling() -> None:
    assert Constraints("x", max_capacity=10, quota=4).ceiling == 4
    assert Constraints("x", max_capacity=3, quota=4).ceiling == 3
    assert Constraints("x").ceiling > 1000


def test_prices_are_dated_and_an_unknown_type_has_none() -> None:
    price = PRICES.lookup("ml.m5.xlarge")
    assert price is not None
    assert (price.usd_per_hour, price.grade) == (0.23, "A")
    assert all(p.usd_per_hour > 0.0 and p.source and p.date for p in PRICES.prices.values())
    assert {p.grade for p in PRICES.prices.values()} == {"A", "B", "C", "D"}
    assert PRICES.lookup("ml.unheard.of") is None
    given = PRICES.with_price("ml.unheard.of", 1.25).lookup("ml.unheard.of")
    assert given is not None
    assert (given.usd_per_hour, given.grade) == (1.25, "given")
    for bad in (0.0, -1.0, math.nan, math.inf):
        with pytest.raises(InputError):
            PRICES.with_price("ml.m5.xlarge", bad)
