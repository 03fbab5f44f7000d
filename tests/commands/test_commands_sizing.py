"""Several instance types in one plan: their campaigns, and one answer over all of them."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from tuner.campaign.types import Routing
from tuner.campaign.virtual import VirtualBackend
from tuner.commands.answer import answer
from tuner.commands.apply import driver_of, main
from tuner.commands.arguments import build_parser
from tuner.commands.controller import Controller
from tuner.commands.inputs import campaign_of
from tuner.commands.legs import Leg, finished, legs_of, require_prices
from tuner.commands.recorded import Question
from tuner.commands.run import newest_unfinished
from tuner.commands.session import payloads_of
from tuner.commands.ui import PlainUi
from tuner.emulator.presets import preset
from tuner.errors import InputError, PlanError
from tuner.plan.parse import Plan, parse_plan
from tuner.plan.price_file import PRICE_FILE, FilePrice, price_file_text
from tuner.store.run import Run

PLAN = """\
[endpoint]
kind = "emulator"
preset = "demo"

[slo]
p99_ms = 120

[load]
body = "{}"
instance_counts = [1]
quick = true
start_rate_per_s = 60

[traffic]
peak_per_min = 60000
shape = "sample_day"

[capacity]
instance_type = "ml.m5.xlarge"
launch_lag_s = 240
max_capacity = 40
today_target_per_min = 2000
today_min_capacity = 4

[[types]]
instance_type = "ml.c5.xlarge"
preset = "demo"

[[types]]
instance_type = "ml.c5.2xlarge"
preset = "demo"
price_per_hour_usd = 0.5
"""
SPEED = {"ml.m5.xlarge": 1.0, "ml.c5.xlarge": 1.25, "ml.c5.2xlarge": 1.3}
"""ml.c5.xlarge is the fastest per dollar: x1.25 at 0.204 against 0.23 USD."""


def plan_of(text: str = PLAN) -> Plan:
    return parse_plan(text, source="tuner.toml", base_dir=Path.cwd(), files=False)


def measure(leg: Leg, out: Path, seed: int) -> None:
    """A leg's campaign in virtual time, journaled as `tuner run` does."""
    fleet = preset("demo").variants[0].fleet
    kind = leg.plan.capacity.instance_type
    assert kind is not None
    service = replace(fleet.instance.service, values_s=(0.020 / SPEED[kind],))
    fleet = replace(fleet, instance=replace(fleet.instance, service=service))
    payloads = payloads_of(leg.plan)
    config = campaign_of(leg.plan, Routing.RANDOM, payloads, None)
    meta = {
        "plan": leg.plan.text,
        "plan_source": "tuner.toml",
        "traffic_csv": None,
        "seed": seed,
        "python": "3",
        "platform": "test",
        "endpoint": {
            "kind": "emulator",
            "name": "tuner-demo",
            "variant": "AllTraffic",
            "instance_type": kind,
            "routing": "RANDOM",
            "config": None,
            "profile": None,
        },
        "payload_classes": list(payloads.class_names),
        "overrides": dict(leg.overrides),
    }
    with Run.create(out, meta) as run:
        backend = VirtualBackend(fleet, seed=seed)
        ended = Controller(config, run, backend, PlainUi(tick_every_s=1e9)).drive()
        run.set_meta("finished", ended.reason)


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("sizing") / "run"
    for seed, leg in enumerate(legs_of(plan_of(), files=False), start=1):
        measure(leg, out / leg.directory, seed)
    return out


@pytest.fixture
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_every_type_has_a_plan_and_a_directory_of_its_own() -> None:
    main_leg, small, large = legs_of(plan_of(), files=False)
    assert (main_leg.name, main_leg.directory) == ("ml.m5.xlarge", "")
    assert (small.name, small.directory) == ("ml.c5.xlarge", "types/ml.c5.xlarge")
    assert small.plan.capacity.instance_type == "ml.c5.xlarge"
    assert small.plan.capacity.price_per_hour_usd is None
    assert large.plan.capacity.price_per_hour_usd == 0.5
    assert small.plan.types == ()
    assert small.plan.slo == main_leg.plan.slo


def test_a_type_has_its_own_cores() -> None:
    text = PLAN.replace("[[types]]", "[signals]\nvcpus = 8\n\n[[types]]\nvcpus = 4", 1)
    first, second, third = legs_of(plan_of(text), files=False)
    cores = [leg.plan.signals.vcpus for leg in (first, second, third) if leg.plan.signals]
    assert cores == [8, 4, None]


def test_one_type_on_two_endpoints_gets_two_names() -> None:
    text = PLAN.replace('"ml.c5.2xlarge"\npreset = "demo"', '"ml.c5.xlarge"\npreset = "realistic"')
    names = [leg.name for leg in legs_of(plan_of(text), files=False)]
    assert names == ["ml.m5.xlarge", "ml.c5.xlarge demo", "ml.c5.xlarge realistic"]


@pytest.mark.usefixtures("elsewhere")
def test_a_type_without_a_price_is_a_question_before_anything_is_measured() -> None:
    text = PLAN.replace('"ml.c5.2xlarge"', '"ml.q9.huge"').replace("price_per_hour_usd = 0.5\n", "")
    with pytest.raises(InputError) as caught:
        require_prices(legs_of(plan_of(text), files=False))
    assert caught.value.exit_code == 2
    assert "ml.q9.huge" in str(caught.value)
    assert "tuner prices update ml.q9.huge" in str(caught.value)


def test_a_price_file_answers_the_question(elsewhere: Path) -> None:
    text = PLAN.replace('"ml.c5.2xlarge"', '"ml.q9.huge"').replace("price_per_hour_usd = 0.5\n", "")
    entry = FilePrice("ml.q9.huge", 9.5, "us-east-1", "the price list", "2026-11-22")
    (elsewhere / PRICE_FILE).write_text(price_file_text([entry]))
    require_prices(legs_of(plan_of(text), files=False))


@pytest.mark.usefixtures("elsewhere")
def test_the_answer_is_the_cheapest_types_with_its_own_policy(measured: Path) -> None:
    found = answer(measured, PlainUi(), page=True, png=False)
    document = json.loads(found.json_text)
    sized = document["right_sizing"]
    assert sized["chosen"] == "ml.c5.xlarge" == document["instance_type"]
    rows = {t["name"]: t for t in sized["types"]}
    assert rows["ml.c5.2xlarge"]["standing"] == "dominated"
    assert rows["ml.c5.2xlarge"]["price"]["usd_per_hour"] == 0.5
    assert document["policy"] == rows["ml.c5.xlarge"]["policy"]
    # What is paid today is that of the plan's own type, whichever is taken.
    assert document["today"]["reason"].startswith("On ml.m5.xlarge. ")
    named = {p["name"]: p for p in document["costs"]["policies"]}
    assert {"today", "recommended"} <= set(named)
    assert "policy" in {p["name"] for p in document["costs"]["parts"]}
    tfvars = (measured / "terraform.tfvars").read_text()
    assert '"ml.c5.xlarge"' in tfvars
    page = (measured / "report.html").read_text()
    assert "Instance types compared on this traffic" in page
    assert "ml.c5.2xlarge" in page
    assert document["provenance"]["run"] == "run"


@pytest.mark.usefixtures("elsewhere")
def test_another_question_is_asked_of_all_types(measured: Path, tmp_path: Path) -> None:
    asked = Question(overrides={"capacity.price_per_hour_usd": 0.10})
    found = answer(measured, PlainUi(), asked, out=tmp_path, page=False)
    assert json.loads(found.json_text)["instance_type"] == "ml.m5.xlarge"


@pytest.mark.usefixtures("elsewhere")
def test_an_slo_that_a_type_cannot_hold_leaves_the_others(measured: Path, tmp_path: Path) -> None:
    """At 2.3 times the mean an unloaded request of the slow type is late too often."""
    found = answer(measured, PlainUi(), Question(slo={"p99_ms": 55.0}), out=tmp_path, page=False)
    rows = {t["name"]: t for t in json.loads(found.json_text)["right_sizing"]["types"]}
    assert rows["ml.m5.xlarge"]["standing"] == "misses_the_slo"
    assert rows["ml.m5.xlarge"]["cost_per_month_usd"] is None


@pytest.mark.usefixtures("elsewhere")
def test_a_type_that_was_not_measured_yet_is_not_known(tmp_path: Path) -> None:
    legs = legs_of(plan_of(), files=False)
    measure(legs[0], tmp_path / "run", 1)
    found = answer(tmp_path / "run", PlainUi(), page=False)
    sized = json.loads(found.json_text)["right_sizing"]
    assert sized["chosen"] == "ml.m5.xlarge"
    assert {t["standing"] for t in sized["types"][1:]} == {"not_known"}
    assert not finished(tmp_path / "run" / legs[1].directory)


def test_resuming_looks_for_runs_with_a_type_to_go(elsewhere: Path) -> None:
    (elsewhere / "tuner.toml").write_text(PLAN)
    legs = legs_of(plan_of(), files=False)
    measure(legs[0], elsewhere / "reports" / "a", 1)
    assert newest_unfinished(elsewhere / "tuner.toml") == Path("reports/a")


@pytest.mark.usefixtures("elsewhere")
def test_a_policy_is_not_applied_to_an_endpoint_of_another_type(measured: Path) -> None:
    answer(measured, PlainUi(), page=False)
    with pytest.raises(InputError, match="another instance type"):
        main(build_parser().parse_args(["apply", str(measured)]), PlainUi())
    with (
        Run.open(measured / "types" / "ml.c5.xlarge") as run,
        pytest.raises(InputError, match="still there"),
    ):
        driver_of(run)


@pytest.mark.parametrize(
    ("change", "key"),
    [
        (('preset = "demo"\nprice', "price"), "types.1"),
        (('preset = "demo"\nprice', 'preset = "demo"\nurl = "http://x"\nprice'), "types.1.url"),
        (('instance_type = "ml.m5.xlarge"\n', ""), "capacity.instance_type"),
        (('preset = "demo"\nprice', 'spec = "none.toml"\nprice'), "types.1.spec"),
        (('preset = "demo"\nprice', 'endpoint_url = "http://127.0.0.1:1"\nprice'), "types.1.name"),
    ],
)
def test_a_type_says_what_is_measured(change: tuple[str, str], key: str, tmp_path: Path) -> None:
    with pytest.raises(PlanError) as caught:
        parse_plan(PLAN.replace(*change), source="tuner.toml", base_dir=tmp_path)
    assert key in str(caught.value)
