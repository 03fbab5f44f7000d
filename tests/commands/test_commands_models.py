"""The sweep over the number of models: over sockets, through its file, and into every answer."""

from __future__ import annotations

import io
import json
from pathlib import Path

import numpy as np
import pytest

from tuner.campaign.models import ModelStage, VirtualModels, warm_requests
from tuner.campaign.types import Routing
from tuner.campaign.virtual import VirtualBackend
from tuner.commands.answer import answer
from tuner.commands.controller import Controller
from tuner.commands.inputs import campaign_of
from tuner.commands.models import sweep_models
from tuner.commands.models_file import MODELS_FILE, mix_of, read_sweep, write_sweep
from tuner.commands.session import open_endpoint, payloads_of
from tuner.commands.ui import PlainUi
from tuner.emulator.presets import preset
from tuner.endpoints.models import ModelActivity
from tuner.errors import PlanError, RunDirectoryError
from tuner.plan.parse import Plan, parse_plan
from tuner.store.run import Run

PLAN = """\
[endpoint]
kind = "emulator"
preset = "multi-model"

[slo]
p95_ms = 150

[load]
body = "{}"
instance_counts = [1]
quick = true
start_rate_per_s = 60
step_s = 1
max_send_lag_ms = 1000

[traffic]
peak_per_min = 6000
shape = "sample_day"

[capacity]
instance_type = "ml.m5.xlarge"
lose = "1 instance"
max_capacity = 30

[models]
count = 90
exponent = 0.8
rate_per_s = 100
"""


def plan_of(text: str = PLAN, folder: Path = Path()) -> Plan:
    return parse_plan(text, source="tuner.toml", base_dir=folder)


def virtual_sweep(counts: tuple[int, ...]) -> list[ModelStage]:
    plan = plan_of()
    assert plan.models is not None
    mix = mix_of(plan, plan.models)
    made = VirtualModels(preset("multi-model").variants[0].fleet, mix, seed=3)
    return [
        made.measure(
            n, 100.0, 4000, warm=warm_requests(mix.first(n).shares, 0.05), seed=n, cloudwatch=False
        )
        for n in counts
    ]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run on a virtual clock, with its sweep beside it."""
    out = tmp_path_factory.mktemp("models") / "run"
    plan = plan_of()
    assert plan.models is not None
    payloads = payloads_of(plan)
    meta = {
        "plan": plan.text, "plan_source": "tuner.toml", "traffic_csv": None, "seed": 1,
        "python": "3", "platform": "test",
        "endpoint": {
            "kind": "emulator", "name": "tuner-multi-model", "variant": "AllTraffic",
            "instance_type": "ml.m5.xlarge", "routing": "RANDOM", "config": None, "profile": None,
        },
        "payload_classes": list(payloads.class_names),
    }  # fmt: skip
    with Run.create(out, meta) as made:
        backend = VirtualBackend(preset("demo").variants[0].fleet, seed=2)
        config = campaign_of(plan, Routing.RANDOM, payloads, None)
        Controller(config, made, backend, PlainUi(io.StringIO(), io.StringIO())).drive()
    stages = virtual_sweep((4, 10, 18, 26, 40))
    write_sweep(out / MODELS_FILE, mix_of(plan, plan.models), stages, [None] * 5)
    return out


def test_the_answer_holds_every_model_and_says_so_everywhere(run: Path, tmp_path: Path) -> None:
    found = answer(run, PlainUi(io.StringIO(), io.StringIO()), out=tmp_path, png=False)
    said = json.loads(found.json_text)["models"]
    # Twenty models fit; 18 were measured and hold, 26 were measured and do not.
    assert said["verdict"] == "MET"
    assert said["recommended_per_instance"] == 18
    assert 18 <= said["models_per_instance"]["mid"] < 26
    assert said["min_instances"] == 5 + 1
    assert said["cold_seen_by"] == "latency"
    policy = json.loads(found.json_text)["policy"]
    assert policy["min_capacity"] >= 6
    tfvars = (tmp_path / "terraform.tfvars").read_text()
    assert "multi_model            = true" in tfvars
    page = (tmp_path / "report.html").read_text()
    assert "Models per instance" in page
    assert "An instance holds 18 models" in page
    rows = {row["models"]: row for row in said["sweep"]}
    assert rows[40]["cold_share"]["low"] > 0.2 > rows[18]["cold_share"]["high"]
    assert rows[40]["cost_per_month_usd"] < rows[10]["cost_per_month_usd"]


def test_too_few_instances_for_all_models_is_a_warning(run: Path, tmp_path: Path) -> None:
    from tuner.commands.recorded import Question

    asked = Question(overrides={"capacity.max_capacity": 4})
    ui = PlainUi(io.StringIO(), io.StringIO())
    found = answer(run, ui, asked, out=tmp_path, page=False)
    assert any("load again and again" in w for w in found.recommendation.warnings)


def test_a_sweep_survives_its_file(tmp_path: Path) -> None:
    plan = plan_of()
    assert plan.models is not None
    mix, stages = mix_of(plan, plan.models), virtual_sweep((4, 30))
    broken = stages[0].latency_s.copy()
    broken[3] = np.inf
    stages[0] = ModelStage(4, 100.0, stages[0].shares, broken, 2, 0.9, 4.0, 0.5)
    activity = ModelActivity(10, 0.9, 0.5, 1, 0.3, 2, 0.4, 0, 4.0)
    write_sweep(tmp_path / MODELS_FILE, mix, stages, [activity, None])
    again, read = read_sweep(tmp_path / MODELS_FILE)
    assert again.names == mix.names
    for before, after in zip(stages, read, strict=True):
        assert after.latency_s == pytest.approx(before.latency_s, abs=1e-6)
        assert (after.models, after.hit_ratio, after.wait_s) == (
            before.models, before.hit_ratio, before.wait_s,
        )  # fmt: skip
    (tmp_path / MODELS_FILE).write_text('{"schema_version": 1, "names": []}')
    with pytest.raises(RunDirectoryError, match="cannot be read"):
        read_sweep(tmp_path / MODELS_FILE)


def test_the_campaign_keeps_to_a_few_warm_models() -> None:
    names = {p.target_model for p in payloads_of(plan_of()).payloads}
    assert names == {f"model-{n}.tar.gz" for n in (1, 2, 3, 4)}


def test_a_trace_gives_the_models(tmp_path: Path) -> None:
    (tmp_path / "trace.csv").write_text("model\nb\nb\na\n")
    text = PLAN.replace("count = 90\nexponent = 0.8\n", 'trace = "trace.csv"\n')
    plan = plan_of(text, tmp_path)
    assert plan.models is not None
    assert mix_of(plan, plan.models).names == ("b", "a")


@pytest.mark.parametrize(
    ("old", "new", "key"),
    [
        ("count = 90", "", "models"),
        ("count = 90", 'count = 90\nname = "fixed"', "models.name"),
        ("count = 90", "count = 90\nsweep = [10, 91]", "models.sweep"),
        ("count = 90\nexponent = 0.8", 'trace = "none.csv"', "models.trace"),
        ('body = "{}"', 'body = "{}"\ntarget_model = "a"', "load.target_model"),
        (
            'preset = "multi-model"',
            'preset = "multi-model"\nstreaming = true',
            "endpoint.streaming",
        ),
    ],
)
def test_an_unusable_models_table_is_named(old: str, new: str, key: str) -> None:
    with pytest.raises(PlanError) as caught:
        plan_of(PLAN.replace(old, new))
    assert key in [p.key for p in caught.value.problems]


SMALL = """\
[endpoint]
name = "small"
[instance]
workers = 8
service = { mean_ms = 5.0 }
[models]
memory_mib = 400
model_mib = 100
loaders = 4
load = { mean_ms = 200.0 }
"""


def test_a_sweep_over_sockets_sees_cold_loads(tmp_path: Path) -> None:
    (tmp_path / "spec.toml").write_text(SMALL)
    text = PLAN.replace('preset = "multi-model"', 'spec = "spec.toml"')
    text = text.replace("count = 90", 'count = 8\nsweep = [8]\npopularity = "uniform"')
    plan = plan_of(text.replace("rate_per_s = 100", "rate_per_s = 300"), tmp_path)
    ui = PlainUi(io.StringIO(), io.StringIO())
    with open_endpoint(plan, ui) as opened:
        opened.driver.freeze(lambda _record: None)
        sweep_models(plan, opened, tmp_path, ui)
    mix, (stage,) = read_sweep(tmp_path / MODELS_FILE)
    assert len(mix) == stage.models == 8
    assert stage.first_loads == 0
    assert stage.requests == pytest.approx(1000, rel=0.2)
    # Half of the models do not fit: at least that share of the requests waits for a load.
    assert 0.4 < float(np.mean(stage.latency_s > 0.05)) < 0.95
    assert stage.hit_ratio is None
