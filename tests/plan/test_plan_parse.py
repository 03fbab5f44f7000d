"""A plan is read whole, or every problem in it is named."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tuner.errors import PlanError
from tuner.plan.parse import Plan, load_plan, parse_plan
from tuner.plan.template import FULL, TEMPLATE
from tuner.plan.template_knobs import TABLES
from tuner.slo import LatencyObjective, Measure

GOOD = """
[endpoint]
kind = "sagemaker"
name = "fraud"
[slo]
p99_ms = 100
[load]
body = "{}"
[traffic]
peak_per_min = 6000
"""


def parse(text: str, base: Path = Path(), **overrides: object) -> Plan:
    return parse_plan(text, source="tuner.toml", base_dir=base, overrides=overrides)


def keys(text: str, base: Path = Path()) -> list[str]:
    with pytest.raises(PlanError) as caught:
        parse(text, base)
    assert caught.value.exit_code == 2
    return [p.key for p in caught.value.problems]


def test_a_comparison_of_endpoints_needs_no_traffic() -> None:
    text = GOOD.replace("[traffic]\npeak_per_min = 6000\n", "")
    plan = parse_plan(text, source="tuner.toml", base_dir=Path(), traffic=False)
    assert plan.traffic.peak_per_min is None
    assert keys(text) == ["traffic"]
    with pytest.raises(PlanError, match="together"):
        parse_plan(
            GOOD + 'csv = "t.csv"', source="tuner.toml", base_dir=Path(), files=False, traffic=False
        )


def test_the_template_is_a_valid_plan() -> None:
    plan = parse(TEMPLATE)
    assert plan.endpoint.kind == "emulator"
    assert plan.slo.objectives == (LatencyObjective(0.99, 0.15),)
    assert plan.load.rates == "auto"


def test_the_full_template_is_the_same_plan_and_its_tables_are_valid() -> None:
    assert parse(FULL).load == parse(TEMPLATE).load
    assert parse(FULL).canary is None
    shown = "".join(TABLES).splitlines()
    assert all(line.startswith("# ") for line in shown)
    plan = parse("\n".join([TEMPLATE, *(line.removeprefix("# ") for line in shown)]))
    assert plan.canary is not None
    assert set(plan.canary.model_fields_set) > {"variant", "slower_by", "size_percent"}


def test_objectives_come_from_their_keys() -> None:
    objectives = "p50_ms = 20\np99_9_ms = 300\nttft_p95_ms = 250.5\nchunk_gap_p90_ms = 40"
    text = GOOD.replace("p99_ms = 100", objectives)
    text = text.replace('name = "fraud"', 'name = "fraud"\nstreaming = true')
    names = [(o.name, o.threshold_s, o.measure) for o in parse(text).slo.objectives]
    assert names == [
        ("p50", pytest.approx(0.02), Measure.LATENCY),
        ("p99.9", pytest.approx(0.3), Measure.LATENCY),
        ("ttft_p95", pytest.approx(0.2505), Measure.TTFT),
        ("chunk_gap_p90", pytest.approx(0.04), Measure.CHUNK_GAP),
    ]


@pytest.mark.parametrize("key", ["ttft_p95_ms", "chunk_gap_p95_ms"])
def test_an_objective_on_chunks_needs_streaming(key: str) -> None:
    assert keys(GOOD.replace("p99_ms = 100", f"{key} = 100")) == [f"slo.{key}"]


def test_boto3_cannot_drive_a_plain_url() -> None:
    text = GOOD.replace('name = "fraud"', 'url = "http://127.0.0.1:1/x"')
    text = text.replace('body = "{}"', 'body = "{}"\nclient = "boto3"')
    text = re.sub(r'kind = "\w+"', 'kind = "http"', text)
    assert keys(text) == ["load.client"]


def test_every_problem_is_reported_at_once() -> None:
    text = """
[endpoint]
kind = "sagemker"
nmae = "x"
[slo]
p99_ms = -5
[load]
body = 3
instance_counts = [1, 0]
rates = [10, -1]
[traffik]
[capacity]
min_capacity = 9
max_capacity = 3
instance_type = "m5.xlarge"
"""
    assert set(keys(text)) >= {
        "traffik",
        "endpoint.kind",
        "endpoint.nmae",
        "slo.p99_ms",
        "load.body",
        "load.instance_counts.1",
        "load.rates.1",
        "capacity.instance_type",
    }


def test_a_misspelt_key_names_its_neighbour() -> None:
    with pytest.raises(PlanError, match="did you mean 'variant'"):
        parse(GOOD.replace('name = "fraud"', 'name = "fraud"\nvariannt = "A"'))


@pytest.mark.parametrize(
    ("old", "new", "key"),
    [
        ("p99_ms = 100", "p99_ms = nan", "slo.p99_ms"),
        ("p99_ms = 100", "p99_ms = inf", "slo.p99_ms"),
        ("p99_ms = 100", 'p99_ms = "100"', "slo.p99_ms"),
        ("p99_ms = 100", "p99_ms = true", "slo.p99_ms"),
        ("p99_ms = 100", "max_error_rate = 0.1", "slo"),
        ("p99_ms = 100", "p95_ms = 200\np99_ms = 100", "slo.p95_ms"),
        ('body = "{}"', "", "load"),
        ('body = "{}"', 'payloads = [{ file = "absent.json" }]', "load.payloads.0.file"),
        ('body = "{}"', 'body = "{}"\ntimeout_s = 0.2', "load.timeout_s"),
        ('body = "{}"', 'body = "{}"\nstep_s = -1', "load.step_s"),
        ('body = "{}"', 'body = "{}"\ninstance_counts = [2, 2]', "load.instance_counts"),
        ('body = "{}"', 'body = "{}"\ninstance_counts = []', "load.instance_counts"),
        ("peak_per_min = 6000", 'csv = "absent.csv"', "traffic.csv"),
        ("peak_per_min = 6000", "", "traffic"),
        ("peak_per_min = 6000", "peak_per_min = -1", "traffic.peak_per_min"),
        ('name = "fraud"', "", "endpoint.name"),
        ('name = "fraud"', 'name = "under_score"', "endpoint.name"),
        ('name = "fraud"', 'name = "fraud"\npreset = "demo"', "endpoint.preset"),
        ('name = "fraud"', 'name = "fraud"\nregion = "mars"', "endpoint.region"),
    ],
)
def test_a_bad_value_is_named_by_its_key(old: str, new: str, key: str, tmp_path: Path) -> None:
    assert keys(GOOD.replace(old, new), tmp_path) == [key]


@pytest.mark.parametrize("rates", ["[]", "3", '"fast"'])
def test_what_is_neither_the_word_nor_a_list_is_told_of_both(rates: str) -> None:
    with pytest.raises(PlanError, match=r'load\.rates: is not allowed .*"auto", or requests per'):
        parse(GOOD.replace('body = "{}"', f'body = "{{}}"\nrates = {rates}'))


def test_flags_override_keys_and_are_checked_like_them() -> None:
    plan = parse_plan(
        GOOD, source="t", base_dir=Path(), overrides={"slo.p99_ms": 250.0, "load.workers": 2}
    )
    assert plan.slo.objectives[0].threshold_s == pytest.approx(0.25)
    assert plan.load.workers == 2
    with pytest.raises(PlanError, match=r"load\.workers"):
        parse_plan(GOOD, source="t", base_dir=Path(), overrides={"load.workers": -1})


def test_the_default_timeout_can_always_falsify_the_slo() -> None:
    assert parse(GOOD).timeout_s == 5.0
    slow = parse(GOOD.replace("p99_ms = 100", "p99_ms = 20000"))
    assert slow.timeout_s == 80.0


def test_syntax_errors_and_missing_files_are_plan_errors(tmp_path: Path) -> None:
    assert keys("[slo\n") == ["syntax"]
    with pytest.raises(PlanError, match="no such file") as caught:
        load_plan(tmp_path / "none.toml")
    assert caught.value.hint is not None
    (tmp_path / "latin.toml").write_bytes(b"\xff\xfe")
    with pytest.raises(PlanError, match="cannot be read"):
        load_plan(tmp_path / "latin.toml")


def test_files_are_found_beside_the_plan(tmp_path: Path) -> None:
    (tmp_path / "p").mkdir()
    (tmp_path / "p" / "a.json").write_text("{}")
    plan_file = tmp_path / "tuner.toml"
    plan_file.write_text(GOOD.replace('body = "{}"', 'payloads = [{ file = "p/*.json" }]'))
    plan = load_plan(plan_file)
    assert plan.load.payloads[0].payload_class == "default"
    assert plan.path("p") == tmp_path.resolve() / "p"
