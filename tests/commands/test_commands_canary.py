"""``tuner canary`` through real sockets, in minutes of one second."""

from __future__ import annotations

import json
import xml.etree.ElementTree as ET
from collections.abc import Callable
from pathlib import Path
from typing import Any

import boto3
import pytest

from tuner.cli import main
from tuner.commands.canary import candidate_of
from tuner.commands.session import open_endpoint
from tuner.commands.ui import PlainUi
from tuner.emulator.process import EmulatorProcess
from tuner.errors import InputError
from tuner.load.target import TARGET_VARIANT
from tuner.plan.knobs import CanaryTable
from tuner.plan.parse import parse_plan
from tuner.store.run import Run

CanaryPlan = Callable[[float], Path]


@pytest.fixture
def plan(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, canary_plan: CanaryPlan) -> Path:
    """A plan whose candidate takes twice as long."""
    monkeypatch.chdir(tmp_path)
    for name in ("AWS_PROFILE", "AWS_ENDPOINT_URL", "AWS_REGION", "AWS_DEFAULT_REGION"):
        monkeypatch.delenv(name, raising=False)
    return canary_plan(400.0)


def run(capsys: pytest.CaptureFixture[str], *args: object) -> tuple[int, str, str]:
    code = main([str(a) for a in args])
    out, err = capsys.readouterr()
    return code, out, err


def test_a_slower_variant_is_seen_and_can_be_reported_again(
    plan: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "run"
    junit = tmp_path / "junit.xml"
    code, said, err = run(capsys, "canary", plan, "--out", out, "--junit", junit)
    assert code == 3, err + said
    assert said.startswith("SLOWER")
    answer = json.loads((out / "canary.json").read_text())
    assert (answer["verdict"], answer["minutes"]) == ("SLOWER", 10)
    # Service takes twice as long, and a millisecond of overhead does not.
    assert answer["slower"]["low"] < 0.95 < answer["slower"]["high"]
    assert answer["provenance"]["candidate"]["variant"] == "Candidate"
    assert ET.parse(junit).getroot().get("failures") == "1"
    _same_arrivals_on_both_sides(out)

    names = ("canary.json", "report.html", "deployment.auto.tfvars")
    kept = [(out / n).read_bytes() for n in names]
    assert b"deployment_alarms" in kept[2]
    assert run(capsys, "report", out)[0] == 3
    assert [(out / n).read_bytes() for n in names] == kept
    for command in ("recommend", "report"):
        code, _, err = run(capsys, command, out, "--out", tmp_path / "elsewhere")
        assert code == {"recommend": 2, "report": 3}[command], err
    assert "run of a canary" in run(capsys, "recommend", out)[2]


def _same_arrivals_on_both_sides(out: Path) -> None:
    with Run.open(out) as kept:
        stages = kept.stages()
    pairs = zip(stages[::2], stages[1::2], strict=True)
    sound = [(mine, other) for mine, other in pairs if not (mine.void or other.void)]
    assert sound
    for mine, other in sound:
        assert mine.spec.seed == other.spec.seed
        assert mine.log is not None
        assert other.log is not None
        assert len(mine.log) == len(other.log)
        assert abs(mine.log.scheduled_s - other.log.scheduled_s).max() < 1e-6


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("rate_per_s = 60\n", ""), "the rate of the paired load is not given"),
        (("[canary]", '[canary]\nvariant = "Third"'), "has no such variant"),
        (("[canary]", '[canary]\nvariant = "AllTraffic"'), "the same variant"),
        (("[canary]", '[canary]\nurl = "http://127.0.0.1:1/"'), "only for kind = http"),
        (('spec = "emulator.toml"', 'preset = "demo"'), "the candidate is not named"),
        (("max_minutes = 12", "max_minutes = 5"), "canary.max_minutes"),
    ],
)
def test_a_canary_that_cannot_be_begun_says_why(
    plan: Path, capsys: pytest.CaptureFixture[str], change: tuple[str, str], message: str
) -> None:
    text = plan.read_text()
    assert change[0] in text
    plan.write_text(text.replace(*change))
    code, _, err = run(capsys, "canary", plan, "--out", plan.parent / "never")
    assert code == 2
    assert message in err
    assert not (plan.parent / "never").exists()


def test_a_canary_is_gone_on_with_by_name(plan: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, _, err = run(capsys, "canary", plan, "--resume")
    assert code == 2
    assert "--out" in err


ACCOUNT = """\
[endpoint]
kind = "sagemaker"
name = "tuner-canary"
variant = "AllTraffic"
region = "us-east-1"
endpoint_url = "{url}"
[slo]
p99_ms = 300
[load]
body = "{{}}"
[traffic]
peak_per_min = 5000
"""


def test_another_endpoint_of_the_account_can_be_the_candidate(tmp_path: Path) -> None:
    ui = PlainUi()
    with EmulatorProcess("canary") as emulator:
        aws = boto3.client(
            "sagemaker",
            region_name="us-east-1",
            endpoint_url=emulator.url,
            aws_access_key_id="local",
            aws_secret_access_key="local",
        )
        aws.create_model(
            ModelName="m",
            PrimaryContainer={"Image": "image"},
            ExecutionRoleArn="arn:aws:iam::123456789012:role/sagemaker",
        )
        variant = {"VariantName": "New", "ModelName": "m", "InstanceType": "ml.m5.xlarge"}
        variants: list[Any] = [variant | {"InitialInstanceCount": 1}]
        aws.create_endpoint_config(EndpointConfigName="c", ProductionVariants=variants)
        aws.create_endpoint(EndpointName="second", EndpointConfigName="c")
        aws.get_waiter("endpoint_in_service").wait(
            EndpointName="second", WaiterConfig={"Delay": 1, "MaxAttempts": 30}
        )
        plan = parse_plan(ACCOUNT.format(url=emulator.url), source="t.toml", base_dir=tmp_path)
        with open_endpoint(plan, ui) as baseline:
            other = candidate_of(plan, CanaryTable(endpoint="second"), baseline)
            assert (other.state.name, other.state.variant) == ("second", "New")
            assert other.target.url == f"{emulator.url}/endpoints/second/invocations"
            assert TARGET_VARIANT not in dict(other.target.headers)
            beside = candidate_of(plan, CanaryTable(), baseline)
            assert beside.state.variant == "Candidate"
            assert dict(beside.target.headers)[TARGET_VARIANT] == "Candidate"
            assert dict(baseline.target.headers)[TARGET_VARIANT] == "AllTraffic"


def test_another_url_can_be_the_candidate(tmp_path: Path) -> None:
    with EmulatorProcess("null") as emulator:
        base = f"{emulator.url}/endpoints/{emulator.endpoint_name}/invocations"
        text = ACCOUNT.split("[slo]")[1]
        head = f'[endpoint]\nkind = "http"\nurl = "{base}"\n[slo]'
        plan = parse_plan(head + text.format(), source="t.toml", base_dir=tmp_path)
        with open_endpoint(plan, PlainUi()) as baseline:
            other = candidate_of(plan, CanaryTable(url=f"{base}?new"), baseline)
            assert other.target.url == f"{base}?new"
            with pytest.raises(InputError, match="not named"):
                candidate_of(plan, CanaryTable(), baseline)
