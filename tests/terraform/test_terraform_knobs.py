"""Scheduled actions and data capture: what ``terraform`` itself makes of the variables."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from subprocess import CompletedProcess

import pytest
from terraform_samples import recommendation_of

from tuner.autoscaling.policy import CapacityBounds, ScalingMetric, TargetTrackingPolicy
from tuner.errors import InputError
from tuner.interval import Interval
from tuner.recommend.actions import ScheduledAction
from tuner.recommend.data_capture import CaptureEffect, CaptureLoad, CaptureRules, decide_capture
from tuner.recommend.types import Recommendation, Schedule, Window
from tuner.terraform.knobs import knob_variables
from tuner.terraform.tfvars import MODULE, tfvars_text

Run = Callable[[Path, Sequence[str]], "CompletedProcess[str]"]
ACTIONS = (
    ScheduledAction("need-mon-fri-0750", "cron(50 7 ? * MON-FRI *)", "Europe/Berlin", 7, 12),
    ScheduledAction("need-daily-1800", "cron(0 18 * * ? *)", "Europe/Berlin", 2, 12),
)


def scheduled(*, adopted: bool) -> Recommendation:
    policy = TargetTrackingPolicy(ScalingMetric.INVOCATIONS, 1358.77, 60, 600)
    schedule = Schedule(
        windows=(Window(0, 2), Window(470, 7), Window(1080, 2)),
        policy=policy,
        bounds=CapacityBounds(2, 12),
        instance_hours_per_day=70.0,
        violating_share=0.0001,
        bad_minute_share=0.0,
        meets=True,
        actions=ACTIONS,
        adopted=adopted,
    )
    return replace(recommendation_of(), schedule=schedule)


def captured(
    percent_high: float, destination: str | None = "s3://bucket/captured"
) -> Recommendation:
    seen = Interval(0.99, 1.0, percent_high)
    decision = decide_capture(
        CaptureRules((20,), None, 0.05, 30.0, destination),
        CaptureLoad(3000.0, 300.0, 30e6, 4.0),
        (CaptureEffect(20, seen, seen, 0.2, 10_000, 40.0),),
    )
    return replace(recommendation_of(), data_capture=decision)


def text_of(recommendation: Recommendation, **passthrough: object) -> str:
    return tfvars_text(
        recommendation, run_name="run", date_text="2026-11-22", passthrough=passthrough
    )


def read_back(terraform: Run, where: Path, text: str) -> dict[str, object]:
    """The two variables as the module's own types and validations let them through."""
    for source in MODULE.glob("variables*.tf"):
        (where / source.name).write_bytes(source.read_bytes())
    names = ("scheduled_actions", "data_capture")
    (where / "outputs.tf").write_text(
        "".join(f'output "{v}" {{\n  value = var.{v}\n}}\n' for v in names)
    )
    template = (
        'name = "demo"\nsm_role_arn = "arn:aws:iam::123456789012:role/sm"\n'
        'image_uri = "image:1"\nmodel_data_s3 = "s3://bucket/model.tar.gz"\n'
    )
    (where / "terraform.tfvars").write_text(text)
    (where / "own.auto.tfvars").write_text(template)
    assert terraform(where, ["fmt", "-check", "terraform.tfvars"]).returncode == 0
    assert terraform(where, ["init", "-input=false"]).returncode == 0
    done = terraform(where, ["apply", "-input=false", "-no-color", "-auto-approve"])
    assert done.returncode == 0, done.stderr
    shown = json.loads(terraform(where, ["output", "-json"]).stdout)
    return {name: entry["value"] for name, entry in shown.items()}


@pytest.mark.terraform
def test_terraform_reads_actions_with_string_capacities(terraform: Run, tmp_path: Path) -> None:
    values = read_back(terraform, tmp_path, text_of(scheduled(adopted=True)))
    assert values["scheduled_actions"] == [
        {
            "name": a.name,
            "schedule": a.schedule,
            "timezone": "Europe/Berlin",
            "min_capacity": str(a.min_capacity),
            "max_capacity": "12",
            "start_time": None,
            "end_time": None,
        }
        for a in ACTIONS
    ]


@pytest.mark.terraform
def test_terraform_reads_the_sampling_that_was_decided(terraform: Run, tmp_path: Path) -> None:
    values = read_back(terraform, tmp_path, text_of(captured(1.04)))
    capture = values["data_capture"]
    assert isinstance(capture, dict)
    assert capture["sampling_percentage"] == 20
    assert capture["destination_s3_uri"] == "s3://bucket/captured"
    assert capture["enabled"] is True


def test_what_was_not_decided_is_not_written() -> None:
    assert knob_variables(recommendation_of()) == {}
    assert knob_variables(scheduled(adopted=False)) == {}
    assert knob_variables(captured(1.20)) == {}
    assert knob_variables(captured(1.04, None)) == {}


def test_the_users_own_actions_stand_unless_tuner_decides_them() -> None:
    own = [{"name": "x", "schedule": "rate(1 day)", "min_capacity": "2"}]
    assert "rate(1 day)" in text_of(recommendation_of(), scheduled_actions=own)
    with pytest.raises(InputError, match="decides"):
        text_of(scheduled(adopted=True), scheduled_actions=own)
