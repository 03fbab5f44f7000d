"""The contract of ``recommendation.json``."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from functools import cache

import pytest
from recommend_samples import SLO, capacity, true_rate

from tuner.errors import InputError
from tuner.interval import Interval
from tuner.queueing.capacity import CountCapacity
from tuner.recommend.as_json import SCHEMA_VERSION, candidate_to_json, from_json, to_json
from tuner.recommend.constraints import Constraints
from tuner.recommend.recommend import recommend
from tuner.recommend.types import Recommendation
from tuner.slo import Verdict
from tuner.workload.traffic import make_traffic

PROVENANCE = {"run": "demo", "seed": 1, "versions": {"tuner": "0"}}


@cache
def answer(verdict: Verdict = Verdict.MET, ceiling: int = 60) -> Recommendation:
    traffic = make_traffic("flash_crowd", peak_per_min=6 * 60 * true_rate(False, 1), days=0.25)
    return recommend(
        capacity(verdict=verdict),
        traffic,
        slo=SLO,
        constraints=Constraints("ml.m5.xlarge", max_capacity=ceiling),
        launch_lag_s=240.0,
    )


def test_the_keys_that_scripts_rely_on() -> None:
    doc = json.loads(to_json(answer(), PROVENANCE))
    assert doc["schema_version"] == SCHEMA_VERSION == 1
    assert doc["verdict"] == "MET"
    assert set(doc["capacity"]["per_instance_rate_per_s"]) == {"low", "mid", "high", "level"}
    assert [c["instance_count"] for c in doc["capacity"]["by_instance_count"]] == [1, 2, 4, 8]
    assert set(doc["policy"]) == {
        "metric",
        "target_value",
        "min_capacity",
        "max_capacity",
        "scale_out_cooldown",
        "scale_in_cooldown",
    }
    for key in ("slo_attainment", "instance_hours", "cost_per_month_usd", "cost_per_million_usd"):
        assert isinstance(doc["expected"][key], float)
        assert set(doc["expected"]["intervals"][key]) >= {"low", "mid", "high", "level"}
    assert {"stages", "requests", "intervals", "gates"} <= set(doc["evidence"])
    for key in ("slo", "rejected", "warnings", "alternatives", "statements", "provenance"):
        assert key in doc
    assert all(c["failing"] for c in doc["rejected"])
    assert doc["provenance"] == PROVENANCE


def test_numbers_are_unrounded_and_bytes_repeat() -> None:
    first, second = to_json(answer(), PROVENANCE), to_json(answer(), PROVENANCE)
    assert first == second
    assert first.endswith("}\n")
    chosen = answer().chosen
    assert chosen is not None
    assert chosen.policy is not None
    assert json.loads(first)["policy"]["target_value"] == chosen.policy.target_value


def test_an_unknown_end_is_null_and_named() -> None:
    model = capacity()
    entry = CountCapacity(1, Interval(10.0, 12.0, math.inf), "predicted", 100)
    open_ended = replace(answer(), capacity=replace(model, by_count=(entry,)))
    rate = json.loads(to_json(open_ended, {}))["capacity"]["per_instance_rate_per_s"]
    assert rate["high"] is None
    assert rate["unbounded"] == ["high"]


@pytest.mark.parametrize("verdict", [Verdict.VIOLATED, Verdict.INCONCLUSIVE])
def test_a_refusal_is_a_document_with_reasons(verdict: Verdict) -> None:
    doc = json.loads(to_json(answer(verdict), PROVENANCE))
    assert doc["verdict"] == verdict.value
    assert doc["policy"] is None
    assert doc["expected"] is None
    assert doc["refusals"]
    assert all(r["code"] and r["sentence"] for r in doc["refusals"])


def test_bounds_too_low_are_a_document_with_a_proposal() -> None:
    doc = json.loads(to_json(answer(ceiling=2), PROVENANCE))
    assert doc["verdict"] == "VIOLATED"
    assert doc["policy"] is None
    assert doc["refusals"][0]["code"] == "refused:no_policy"
    assert doc["proposal"]["policy"]["max_capacity"] > 2


def test_other_commands_read_back_what_was_written() -> None:
    chosen = answer().chosen
    assert chosen is not None
    back = from_json(to_json(answer(), PROVENANCE), "recommendation.json")
    assert back.verdict is Verdict.MET
    assert back.policy == chosen.policy
    assert back.bounds == chosen.bounds
    assert back.slo == SLO
    assert back.instance_type == "ml.m5.xlarge"
    nothing = from_json(to_json(answer(Verdict.INCONCLUSIVE), PROVENANCE), "x")
    assert nothing.policy is None
    assert nothing.bounds is None


@pytest.mark.parametrize(
    "text",
    ["", "[]", "{}", '{"schema_version": 2}', '{"schema_version": 1}', '{"schema_version": 1, "x"'],
)
def test_other_documents_are_refused(text: str) -> None:
    with pytest.raises(InputError, match=r"r\.json"):
        from_json(text, "r.json")


def test_broken_values_are_refused() -> None:
    doc = json.loads(to_json(answer(), {}))
    doc["policy"]["target_value"] = -3
    with pytest.raises(InputError, match="missing or wrong"):
        from_json(json.dumps(doc), "r.json")


def test_one_candidate_alone_is_a_document() -> None:
    chosen = answer().chosen
    assert chosen is not None
    doc = json.loads(candidate_to_json(chosen))
    assert doc["schema_version"] == 1
    assert doc["policy"]["min_capacity"] == chosen.bounds.min_capacity
