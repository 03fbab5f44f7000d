"""``deployment.auto.tfvars`` against the real ``terraform``."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from subprocess import CompletedProcess

import pytest

from tuner.recommend.deployment import Alarm, Deployment
from tuner.terraform.release import deployment_tfvars_text
from tuner.terraform.tfvars import MODULE, module_variables

Run = Callable[[Path, Sequence[str]], "CompletedProcess[str]"]
pytestmark = pytest.mark.terraform

DEPLOYMENT = Deployment(
    size_percent=15,
    wait_s=780,
    termination_wait_s=360,
    timeout_s=4740,
    alarms=(
        Alarm("slow", "ModelLatency", "p50", 21_377.0, 60, 3, 0.08, "Roll back when slow."),
        Alarm("slo-p99-9", "ModelLatency", "p99.9", 120_000.0, 60, 3, None, "The SLO."),
        Alarm("errors", "Invocation5XXErrors", "Average", 0.00213, 60, 3, None, "Errors."),
    ),
    minutes_to_see=13,
    sentences=("A canary of 15 %.", "Roll back when slow."),
)


def text() -> str:
    return deployment_tfvars_text(
        DEPLOYMENT,
        run_name="nightly\n}",
        date_text="2026-11-22",
        answer="latency differs by +0.3%",
        notes=("CloudWatch was not read.",),
    )


def test_the_file_is_formatted_and_carries_its_reasons(terraform: Run, tmp_path: Path) -> None:
    (tmp_path / "deployment.auto.tfvars").write_text(text())
    done = terraform(tmp_path, ["fmt", "-check", "-diff"])
    assert done.returncode == 0, done.stdout
    for part in ("latency differs by +0.3%", "A canary of 15 %.", "microseconds", '"nightly }"'):
        assert part in text()


def test_the_module_takes_every_value(terraform: Run, tmp_path: Path) -> None:
    for source in MODULE.glob("variables*.tf"):
        shutil.copy(source, tmp_path)
    (tmp_path / "outputs.tf").write_text(
        "".join(f'output "{v}" {{\n  value = var.{v}\n}}\n' for v in sorted(module_variables()))
    )
    (tmp_path / "terraform.tfvars.json").write_text(
        json.dumps(
            {
                "name": "demo",
                "sm_role_arn": "arn:aws:iam::123456789012:role/sm",
                "image_uri": "image:1",
                "model_data_s3": "s3://bucket/model.tar.gz",
            }
        )
    )
    (tmp_path / "deployment.auto.tfvars").write_text(text())
    assert terraform(tmp_path, ["init", "-input=false"]).returncode == 0
    done = terraform(tmp_path, ["apply", "-input=false", "-no-color", "-auto-approve"])
    assert done.returncode == 0, done.stderr
    shown = json.loads(terraform(tmp_path, ["output", "-json"]).stdout)
    deployment = shown["deployment"]["value"]
    assert (deployment["strategy"], deployment["size"]) == ("CANARY", 15)
    assert deployment["wait_interval_in_seconds"] == 780
    alarms = shown["deployment_alarms"]["value"]
    assert [(a["name"], a["statistic"], a["threshold"]) for a in alarms] == [
        ("slow", "p50", 21377),
        ("slo-p99-9", "p99.9", 120000),
        ("errors", "Average", 0.00213),
    ]
