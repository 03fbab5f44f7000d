"""Right-sizing against closed-form servers whose prices and capacities are ours."""

from __future__ import annotations

import csv
import json
import math
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from recommend_samples import OBJECTIVE, SLO, capacity, true_rate

from tuner.errors import InputError
from tuner.interval import Interval
from tuner.queueing.capacity import CapacityModel, CountCapacity, Gate
from tuner.recommend.as_json import to_json
from tuner.recommend.constraints import Constraints
from tuner.recommend.prices import Price, PriceTable
from tuner.recommend.recommend import recommend
from tuner.recommend.right_size import MeasuredType, right_size, usd_per_million
from tuner.recommend.types import Resilience, RightSizing, Standing, TypeCost
from tuner.slo import Verdict
from tuner.workload.shapes import make_traffic

TRAFFIC = make_traffic("diurnal", peak_per_min=60_000.0, days=1.0, seed=1)
ONE = Resilience("instance", count=1)
LAG_S = 240.0


def faster(factor: float, spread: float = 0.02) -> CapacityModel:
    """The sample's server with an instance that carries ``factor`` times as much.

    Time is not rescaled: the sojourn law stays, the rates grow, as with more instances of the
    same kind behind one name.
    """
    base = capacity(spread=spread)
    assert base.table is not None
    return replace(
        base,
        by_count=tuple(
            CountCapacity(c.instance_count, c.rate_per_s.scaled(factor), c.source, c.requests)
            for c in base.by_count
        ),
        ensemble=base.ensemble * factor,
        table=replace(base.table, saturation_rate_per_s=base.table.saturation_rate_per_s * factor),
    )


@cache
def measured(name: str, factor: float, usd_per_hour: float, spread: float = 0.02) -> MeasuredType:
    return answered(name, faster(factor, spread), usd_per_hour)


def answered(name: str, model: CapacityModel, usd_per_hour: float) -> MeasuredType:
    price = Price(name, usd_per_hour, "given", "the plan", "")
    constraints = Constraints(name, resilience=ONE)
    found = recommend(
        model,
        TRAFFIC,
        slo=SLO,
        constraints=constraints,
        launch_lag_s=LAG_S,
        prices=PriceTable({name: price}),
        seed=3,
    )
    return MeasuredType(name, price, constraints, found, launch_lag_s=LAG_S)


@cache
def four() -> RightSizing:
    """B costs two thirds of A for the same; C is B under another name; D cannot hold the SLO."""
    failed = Gate("unloaded", False, 0.3, "", "The unloaded p99 is above the objective.")
    slow = replace(capacity(), verdict=Verdict.VIOLATED, by_count=(), table=None, gates=(failed,))
    price = Price("ml.d", 0.01, "given", "the plan", "")
    return right_size(
        [
            measured("ml.a", 1.0, 0.30),
            measured("ml.b", 1.0, 0.20),
            measured("ml.c", 1.01, 0.202),
            MeasuredType(
                "ml.d",
                price,
                Constraints("ml.d"),
                answered("ml.d", slow, 0.01).recommendation,
                misses=True,
            ),
        ],
        TRAFFIC,
        seed=3,
    )


def named(found: RightSizing, name: str) -> TypeCost:
    return next(t for t in found.types if t.name == name)


def test_the_cheapest_that_meets_is_named_and_equals_are_called_a_tie() -> None:
    found = four()
    assert {found.chosen, *found.ties} == {"ml.b", "ml.c"}
    assert named(found, "ml.a").standing is Standing.DOMINATED
    assert named(found, "ml.a").beaten_by == found.chosen
    assert "x1.5 the price" in named(found, "ml.a").reason
    assert "tie" in found.sentence


def test_a_type_that_misses_the_slo_is_never_taken_however_cheap() -> None:
    cheap = named(four(), "ml.d")
    assert cheap.standing is Standing.MISSES
    assert cheap.scaled_usd_per_month is None
    assert "unloaded instance" in cheap.reason


def test_equal_servers_cost_in_proportion_to_their_price() -> None:
    a, b = named(four(), "ml.a"), named(four(), "ml.b")
    for part in ("scaled_usd_per_month", "static_usd_per_month", "usd_per_million_at_capacity"):
        dear, cheap = getattr(a, part), getattr(b, part)
        assert dear.mid / cheap.mid == pytest.approx(1.5)
        assert dear.high / cheap.high == pytest.approx(1.5)


def test_the_static_fleet_is_the_peak_over_the_capacity_plus_the_spare() -> None:
    row = named(four(), "ml.b")
    peak_per_s = float(np.nanmax(TRAFFIC.requests_per_min)) / 60.0
    needed = math.ceil(peak_per_s / (true_rate(False, 1) * 0.98)) + 1
    assert row.static_count == needed
    assert row.static_usd_per_month is not None
    assert row.static_usd_per_month.high == pytest.approx(needed * 0.20 * 24 * 30)


def test_the_scaled_fleet_costs_what_the_recommendation_expects() -> None:
    own = measured("ml.b", 1.0, 0.20)
    row = right_size([own], TRAFFIC, seed=3).types[0]
    assert own.recommendation is not None
    assert own.recommendation.chosen is not None
    expected = own.recommendation.chosen.expected
    assert row.scaled_usd_per_month is not None
    assert row.scaled_usd_per_million is not None
    assert expected.cost_per_month_usd is not None
    assert expected.cost_per_million_usd is not None
    assert row.scaled_usd_per_month.high == pytest.approx(expected.cost_per_month_usd.mid, rel=0.01)
    assert row.scaled_usd_per_million.high == pytest.approx(
        expected.cost_per_million_usd.mid, rel=0.01
    )
    assert row.scaled_usd_per_month.low < row.scaled_usd_per_month.high


def test_a_million_requests_on_a_full_instance_is_price_over_rate() -> None:
    row = named(four(), "ml.b")
    at = row.usd_per_million_at_capacity
    assert at is not None
    assert at.mid == pytest.approx(0.20 / (true_rate(False, 1) * 3600) * 1e6)
    assert at.low == pytest.approx(at.mid / 1.02)


def test_large_instances_lose_where_the_nights_are_quiet() -> None:
    quiet = make_traffic("diurnal", peak_per_min=9_000.0, days=1.0, seed=1, trough_share=0.02)
    pair = []
    for name, factor, price in (("ml.small", 1.0, 0.20), ("ml.large", 8.0, 1.58)):
        own = PriceTable({name: Price(name, price, "given", "", "")})
        constraints = Constraints(name, resilience=ONE)
        found = recommend(
            faster(factor), quiet, slo=SLO, constraints=constraints, launch_lag_s=LAG_S,
            prices=own, seed=3,
        )  # fmt: skip
        row = MeasuredType(name, own.prices[name], constraints, found, launch_lag_s=LAG_S)
        pair.append(row)
    sized = right_size(pair, quiet, seed=3)
    assert sized.chosen == "ml.small"
    assert "run at all hours" in named(sized, "ml.large").reason


def test_a_wide_interval_makes_a_tie_of_a_real_difference() -> None:
    sharp = right_size([measured("ml.a", 1.0, 0.20), measured("ml.b", 1.0, 0.23)], TRAFFIC, seed=3)
    vague = right_size(
        [measured("ml.a", 1.0, 0.20, 0.2), measured("ml.b", 1.0, 0.23, 0.2)],
        TRAFFIC,
        seed=3,
    )
    assert sharp.ties == ()
    assert vague.ties == ("ml.b",)


def test_nothing_known_is_said_and_nothing_is_chosen() -> None:
    price = Price("ml.x", 1.0, "given", "", "")
    lone = MeasuredType("ml.x", price, Constraints("ml.x"), None, "The campaign was cut short.")
    found = right_size([lone], TRAFFIC)
    assert found.chosen is None
    assert found.types[0].standing is Standing.UNKNOWN
    assert "cut short" in found.sentence


def test_names_must_tell_types_apart() -> None:
    price = Price("ml.x", 1.0, "given", "", "")
    lone = MeasuredType("ml.x", price, Constraints("ml.x"), None, "")
    with pytest.raises(InputError, match="compared"):
        right_size([lone, lone], TRAFFIC)


def test_the_json_holds_the_comparison_only_where_there_is_one() -> None:
    own = measured("ml.b", 1.0, 0.20)
    assert own.recommendation is not None
    assert "right_sizing" not in json.loads(to_json(own.recommendation, {}))
    document = json.loads(to_json(replace(own.recommendation, right_size=four()), {}))
    sized = document["right_sizing"]
    assert sized["chosen"] == four().chosen
    assert [t["standing"] for t in sized["types"]] == [t.standing.value for t in four().types]
    assert sized["types"][0]["static_fleet"]["instances"] == four().types[0].static_count


def test_published_inference_recommender_costs_follow_from_price_and_maximum() -> None:
    """Result rows printed in notebooks of aws/amazon-sagemaker-examples (Apache-2.0)."""
    with (Path(__file__).parent / "inference_recommender.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 18
    for row in rows:
        published = float(row["cost_per_inference_usd"])
        per_hour = float(row["max_invocations_per_min"]) * 60.0
        ours = usd_per_million(float(row["cost_per_hour_usd"]), per_hour) / 1e6
        mantissa, exponent = row["cost_per_inference_usd"].split("e")
        decimals = len(mantissa.partition(".")[2])
        half_a_digit = 0.5 * 10.0 ** (int(exponent) - decimals)
        # Some rows are 32-bit floats printed in full.
        assert abs(ours - published) <= max(half_a_digit * 1.001, 1e-6 * published), row


def test_the_interval_of_the_sample_is_what_the_tests_assume() -> None:
    assert OBJECTIVE.allowance == pytest.approx(0.01)
    assert capacity().by_count[0].rate_per_s == Interval(
        true_rate(False, 1) * 0.98, true_rate(False, 1), true_rate(False, 1) * 1.02
    )
