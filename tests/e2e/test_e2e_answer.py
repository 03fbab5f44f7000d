"""One campaign over real sockets, and everything that can be asked of it afterwards."""

from __future__ import annotations

import csv
import heapq
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from e2e_tools import Tuner

from tuner.emulator.presets import preset


def true_capacity_per_s(threshold_s: float, allowance: float) -> float:
    """Crossing of the demo's server by a plain simulation that shares no code with tuner.

    Four servers, first come first served, lognormal service (mean 20 ms, cv 0.6) and 1 ms of
    overhead; the same random numbers at every load, bisected.
    """
    rng = np.random.default_rng(20)
    n = 300_000
    sigma2 = np.log(1 + 0.6**2)
    service = rng.lognormal(np.log(0.020) - sigma2 / 2, np.sqrt(sigma2), n).tolist()
    unit_gaps = rng.exponential(1.0, n)

    def violations(rate: float) -> float:
        free = [0.0] * 4
        late = 0
        for arrival, work in zip(np.cumsum(unit_gaps / rate).tolist(), service, strict=True):
            start = max(arrival, free[0])
            heapq.heapreplace(free, start + work)
            late += start + work + 0.001 - arrival > threshold_s
        return late / n

    low, high = 100.0, 198.0
    for _ in range(9):
        middle = (low + high) / 2
        low, high = (middle, high) if violations(middle) <= allowance else (low, middle)
    return (low + high) / 2


def test_the_oracle_is_about_the_preset_that_was_measured() -> None:
    instance = preset("demo").variants[0].fleet.instance
    assert instance.workers == 4
    assert (instance.service.mean_s, instance.service.cv) == pytest.approx((0.020, 0.6))


def test_the_fitted_capacity_is_the_true_one(quick_run: Path) -> None:
    capacity = json.loads((quick_run / "recommendation.json").read_text())["capacity"]
    found = capacity["per_instance_rate_per_s"]
    truth = true_capacity_per_s(0.120, 0.01)
    assert found["mid"] == pytest.approx(truth, rel=0.10)
    assert found["low"] < found["mid"] < found["high"]
    assert [c["instance_count"] for c in capacity["by_instance_count"]][:2] == [1, 2]


def test_the_json_holds_the_contract(quick_run: Path, tuner: Tuner) -> None:
    done = tuner("recommend", quick_run, "--json", "--no-report", "--out", quick_run / "again")
    assert done.returncode == 0, done.stderr
    document = json.loads(done.stdout)
    assert document["schema_version"] == 1
    assert document["verdict"] == "MET"
    assert {"slo", "capacity", "policy", "expected", "evidence", "rejected", "warnings"} <= set(
        document
    )
    assert set(document["policy"]) >= {
        "metric",
        "target_value",
        "min_capacity",
        "max_capacity",
        "scale_out_cooldown",
        "scale_in_cooldown",
    }
    assert set(document["expected"]) >= {
        "slo_attainment",
        "instance_hours",
        "cost_per_month_usd",
        "cost_per_million_usd",
    }
    assert document["policy"]["metric"] == "SageMakerVariantInvocationsPerInstance"


def test_terraform_variables_are_the_same_numbers_on_the_safe_side(quick_run: Path) -> None:
    policy = json.loads((quick_run / "recommendation.json").read_text())["policy"]
    lines = (quick_run / "terraform.tfvars").read_text().splitlines()
    values = dict(
        (part.strip() for part in line.split("=", 1))
        for line in lines
        if "=" in line and not line.startswith("#")
    )
    assert float(values["target_value"]) <= policy["target_value"]
    assert float(values["target_value"]) >= 0.99 * policy["target_value"]
    assert int(values["min_capacity"]) == policy["min_capacity"]
    assert int(values["max_capacity"]) == policy["max_capacity"]
    assert int(values["instance_count"]) == policy["min_capacity"]
    assert values["instance_type"] == '"ml.m5.xlarge"'
    assert (quick_run / "terraform" / "variables.tf").is_file()


def test_the_same_question_gives_the_same_bytes(
    quick_run: Path, tuner: Tuner, tmp_path: Path
) -> None:
    for name in ("a", "b"):
        assert tuner("recommend", quick_run, "--out", tmp_path / name).returncode == 0
    for file in ("recommendation.json", "terraform.tfvars", "report.html", "figures"):
        first, second = tmp_path / "a" / file, tmp_path / "b" / file
        pairs = (
            [(first, second)]
            if first.is_file()
            else [(f, second / f.name) for f in sorted(first.iterdir())]
        )
        assert pairs
        for left, right in pairs:
            assert left.read_bytes() == right.read_bytes(), left.name


def test_the_page_needs_no_network(quick_run: Path) -> None:
    page = (quick_run / "report.html").read_text()
    for outside in ("<script", 'src="http', 'href="http', "url(http", "@import"):
        assert outside not in page
    assert "target_value" in page


def test_another_slo_and_traffic_need_no_endpoint(
    quick_run: Path, tuner: Tuner, tmp_path: Path
) -> None:
    traffic = tmp_path / "traffic.csv"
    traffic.write_text("minute,requests\n" + "".join(f"{m},{9000}\n" for m in range(2880)))
    done = tuner(
        "recommend", quick_run, "--traffic", traffic, "--slo-p99-ms", 200, "--json",
        "--no-report", "--out", tmp_path,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    wider = json.loads(done.stdout)
    own = json.loads((quick_run / "recommendation.json").read_text())
    assert (
        wider["capacity"]["per_instance_rate_per_s"]["mid"]
        > own["capacity"]["per_instance_rate_per_s"]["mid"]
    )


def test_an_slo_below_the_unloaded_latency_is_bad_input(
    quick_run: Path, tuner: Tuner, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    done = tuner("recommend", quick_run, "--slo-p99-ms", 5, "--out", out)
    assert done.returncode == 2
    assert "p99 <= 5 ms" in done.stderr
    assert not out.exists()


def test_too_small_a_fleet_cannot_meet_the_slo(
    quick_run: Path, tuner: Tuner, tmp_path: Path
) -> None:
    stale = tmp_path / "terraform.tfvars"
    stale.write_text("target_value = 1\n")
    done = tuner("recommend", quick_run, "--max-capacity", 1, "--out", tmp_path, "--no-report")
    assert done.returncode == 3, done.stderr
    assert json.loads((tmp_path / "recommendation.json").read_text())["policy"] is None
    assert not stale.exists(), "an older answer beside a refusal would be applied by mistake"


def test_what_if_agrees_with_the_recommendation(quick_run: Path, tuner: Tuner) -> None:
    document = json.loads((quick_run / "recommendation.json").read_text())
    p = document["policy"]
    text = (
        f"target={p['target_value']},min={p['min_capacity']},max={p['max_capacity']},"
        f"out={p['scale_out_cooldown']},in={p['scale_in_cooldown']}"
    )
    done = tuner("simulate", quick_run, "--policy", text, "--json")
    assert done.returncode == 0, done.stderr + done.stdout
    expected = json.loads(done.stdout)["expected"]
    assert expected["instance_hours"] == pytest.approx(
        document["expected"]["instance_hours"], rel=0.02
    )


def test_every_request_can_be_exported(quick_run: Path, tuner: Tuner, tmp_path: Path) -> None:
    assert tuner("export", quick_run, "--out", tmp_path / "csv").returncode == 0
    with (tmp_path / "csv" / "stages.csv").open() as file:
        stages = list(csv.DictReader(file))
    with (tmp_path / "csv" / "requests.csv").open() as file:
        requests = list(csv.DictReader(file))
    assert len(requests) == sum(int(s["requests"]) for s in stages)
    assert (
        tuner("export", quick_run, "--format", "parquet", "--out", tmp_path / "pq").returncode == 0
    )
    pq = pytest.importorskip("pyarrow.parquet")
    table = pq.read_table(tmp_path / "pq" / "requests.parquet")
    assert table.num_rows == len(requests)
    assert tuner("export", quick_run, "--format", "hdr", "--out", tmp_path / "hdr").returncode == 0
    log = (tmp_path / "hdr" / "latency.hlog").read_text()
    assert log.startswith("#[Histogram log format version 1.3]")
    assert all(f"Tag=stage{s['stage']}-ok," in log for s in stages)


def test_a_truncated_run_is_refused(quick_run: Path, tuner: Tuner, tmp_path: Path) -> None:
    broken = tmp_path / "broken"
    shutil.copytree(quick_run, broken)
    journal = broken / "journal.sqlite"
    journal.write_bytes(journal.read_bytes()[:2000])
    before = sorted(p.name for p in broken.iterdir())
    done = tuner("recommend", broken)
    assert done.returncode == 2
    assert "damaged" in done.stderr
    assert "Traceback" not in done.stderr
    assert sorted(p.name for p in broken.iterdir()) == before
