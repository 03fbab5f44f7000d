"""``terraform.tfvars``: the numbers, their rounding, and what hostile text cannot do."""

from __future__ import annotations

import json
import math
import random
import unicodedata
from collections.abc import Callable, Sequence
from pathlib import Path
from subprocess import CompletedProcess

import pytest
from terraform_samples import recommendation_of

from tuner.autoscaling.policy import ScalingMetric
from tuner.errors import InputError, InsufficientDataError, SloUnreachableError
from tuner.recommend.types import Recommendation
from tuner.slo import Verdict
from tuner.terraform.hcl import expression, number, one_line
from tuner.terraform.tfvars import (
    MODULE,
    copy_module,
    module_variables,
    safe_target,
    tfvars_text,
)

Run = Callable[[Path, Sequence[str]], "CompletedProcess[str]"]

TEMPLATE = {
    "name": "demo",
    "sm_role_arn": "arn:aws:iam::123456789012:role/sm",
    "image_uri": "image:1",
    "model_data_s3": "s3://bucket/model.tar.gz",
}
HOSTILE = [
    'quote " and \\ backslash',
    "${var.name} %{ if true } $${x} %%{y} $ % ${",
    'line\nbreak\r\n}\nname = "evil"\t',
    "nul-free control \x01\x1b[31m\x7f\u2028\u202e",
    "emoji 🚀 é 中文",
    "<script>alert(1)</script>",
    "",
    "<<EOT",
]


def text_of(recommendation: Recommendation, **passthrough: object) -> str:
    return tfvars_text(
        recommendation,
        run_name="2026-11-22-demo",
        date_text="2026-11-22",
        passthrough=TEMPLATE | passthrough,
    )


def read_back(terraform: Run, where: Path, text: str) -> dict[str, object]:
    """What Terraform itself makes of the file, through the module's typed variables."""
    for source in MODULE.glob("variables*.tf"):
        (where / source.name).write_bytes(source.read_bytes())
    (where / "outputs.tf").write_text(
        "".join(f'output "{v}" {{\n  value = var.{v}\n}}\n' for v in sorted(module_variables()))
    )
    (where / "terraform.tfvars").write_text(text, encoding="utf-8")
    assert terraform(where, ["init", "-input=false"]).returncode == 0
    done = terraform(where, ["apply", "-input=false", "-no-color", "-auto-approve"])
    assert done.returncode == 0, done.stderr
    assert "undeclared" not in done.stdout
    shown = json.loads(terraform(where, ["output", "-json"]).stdout)
    return {name: entry["value"] for name, entry in shown.items()}


@pytest.mark.terraform
def test_terraform_reads_the_recommended_numbers(
    terraform: Run, tmp_path: Path, recommendation: Recommendation
) -> None:
    values = read_back(terraform, tmp_path, text_of(recommendation, tags={"team": "ml"}))
    assert values["target_value"] == 1358
    assert (values["min_capacity"], values["max_capacity"]) == (3, 12)
    assert (values["scale_out_cooldown"], values["scale_in_cooldown"]) == (60, 600)
    assert values["instance_type"] == "ml.c5.xlarge"
    assert values["instance_count"] == 3
    assert values["predefined_metric_type"] == "SageMakerVariantInvocationsPerInstance"
    assert values["tags"] == {"team": "ml"}


@pytest.mark.terraform
def test_a_cpu_target_becomes_a_customized_metric(terraform: Run, tmp_path: Path) -> None:
    chosen = recommendation_of(metric=ScalingMetric.CPU, target_value=217.36)
    values = read_back(terraform, tmp_path, text_of(chosen))
    assert values["target_value"] == 217
    assert values["customized_metric"] == {
        "metric_name": "CPUUtilization",
        "namespace": "/aws/sagemaker/Endpoints",
        "statistic": "Average",
        "unit": "Percent",
    }


@pytest.mark.terraform
def test_hostile_text_comes_back_as_it_went_in(
    terraform: Run, tmp_path: Path, recommendation: Recommendation
) -> None:
    env = {f"V{i}": text for i, text in enumerate(HOSTILE)}
    tags = {text: "x" for text in HOSTILE if text}
    text = tfvars_text(
        recommendation,
        run_name='run\n}\nname = "evil"\r# */ <<EOT',
        date_text="2026-11-22\u2028x",
        passthrough=TEMPLATE | {"env": env, "tags": tags},
    )
    assert "\x1b" not in text
    values = read_back(terraform, tmp_path, text)
    assert values["env"] == env
    assert values["tags"] == tags
    assert values["name"] == "demo"


@pytest.mark.terraform
def test_the_file_is_formatted_as_terraform_formats_it(
    terraform: Run, tmp_path: Path, recommendation: Recommendation
) -> None:
    text = text_of(
        recommendation,
        env={},
        tags={"A": "1", "LONGER_NAME": "2", "with space": "3"},
        routing_strategy="RANDOM",
        scheduled_actions=[
            {"name": "up", "schedule": "cron(0 7 * * ? *)", "min_capacity": "4"},
            {"name": "down", "schedule": "cron(0 19 * * ? *)", "min_capacity": "1"},
        ],
        data_capture={
            "destination_s3_uri": "s3://b/c",
            "sampling_percentage": 5,
            "capture_modes": ["Input", "Output"],
        },
    )
    (tmp_path / "terraform.tfvars").write_text(text)
    done = terraform(tmp_path, ["fmt", "-check", "-diff"])
    assert done.returncode == 0, done.stdout
    assert read_back(terraform, tmp_path, text)["data_capture"] is not None


@pytest.mark.parametrize(
    ("exact", "written"),
    [
        (1358.77, 1358),
        (1358.0, 1358),
        (99999.99, 99999),
        (100.0, 100),
        (99.999, 99.9),
        (12.3456, 12.3),
        (0.98765, 0.987),
        (0.3, 0.3),
        (0.1 + 0.2, 0.3),
        (7.0, 7),
        (1e-5, 1e-5),
    ],
)
def test_the_target_is_rounded_down(exact: float, written: float) -> None:
    assert safe_target(exact) == written


def test_the_written_target_never_exceeds_the_proved_one() -> None:
    rng = random.Random(7)
    for _ in range(20_000):
        exact = 10 ** rng.uniform(-3, 6)
        written = safe_target(exact)
        assert exact * 0.99 < written <= exact


def test_a_fixed_fleet_writes_no_scaling_variables() -> None:
    text = text_of(recommendation_of(fixed=True))
    assert "instance_count = 3" in text.replace("  ", " ")
    assert "capacity" not in "".join(t for t in text.splitlines() if not t.startswith("#"))


def test_the_comment_says_run_date_slo_and_interval(recommendation: Recommendation) -> None:
    head = text_of(recommendation).split("\n\n")[0]
    for part in ("2026-11-22-demo", "p99 <= 100 ms", "36.9 to 39.5", "95% interval", "21600"):
        assert part in head


def test_what_is_not_known_is_said(recommendation: Recommendation) -> None:
    text = tfvars_text(recommendation, run_name="r", date_text="d", passthrough={"name": "demo"})
    assert "still to be set: sm_role_arn, image_uri, model_data_s3" in text


def test_an_unknown_variable_is_refused(recommendation: Recommendation) -> None:
    with pytest.raises(InputError, match="no such variable") as caught:
        text_of(recommendation, instance_kind="x")
    assert caught.value.value == "instance_kind"
    assert "routing_strategy" in str(caught.value.allowed)


def test_a_contradiction_is_refused(recommendation: Recommendation) -> None:
    assert text_of(recommendation, min_capacity=3) == text_of(recommendation)
    with pytest.raises(InputError, match="tuner decides"):
        text_of(recommendation, min_capacity=1)


@pytest.mark.parametrize("value", [math.nan, math.inf, b"x", {1: 2}, object(), "\ud800"])
def test_a_value_without_a_word_in_terraform_is_refused(
    recommendation: Recommendation, value: object
) -> None:
    with pytest.raises(InputError):
        text_of(recommendation, tags=value)


def test_without_a_policy_nothing_is_written() -> None:
    with pytest.raises(SloUnreachableError):
        text_of(recommendation_of(verdict=Verdict.VIOLATED))
    with pytest.raises(InsufficientDataError):
        text_of(recommendation_of(verdict=Verdict.INCONCLUSIVE))


def test_small_numbers_have_no_exponent() -> None:
    assert number(1e-5) == "0.00001"
    assert number(1e21) == "1000000000000000000000"
    assert expression([True, None, 1.5]) == "[true, null, 1.5]"


def test_a_comment_is_one_visible_line() -> None:
    assert one_line("a\r\nb\x1b[31m\u202ec\u2028d") == "a b [31m c d"


def test_the_module_is_copied_again_over_its_own_files_only(tmp_path: Path) -> None:
    target = tmp_path / "out" / "module"
    copy_module(target)
    own = {p.name for p in MODULE.iterdir() if not p.name.startswith(".")}
    assert {p.name for p in target.iterdir()} == own
    (target / "terraform.tfstate").write_text("{}")
    (target / "main.tf").write_text("# edited by an older release\n")
    copy_module(target)
    assert (target / "main.tf").read_bytes() == (MODULE / "main.tf").read_bytes()
    assert {p.name for p in target.iterdir()} == own | {"terraform.tfstate"}
    assert [p.name for p in target.parent.iterdir()] == ["module"]


def test_a_foreign_directory_is_not_replaced(tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes.txt").write_text("keep")
    with pytest.raises(InputError, match="not the Terraform module"):
        copy_module(tmp_path / "mine")
    assert (tmp_path / "mine" / "notes.txt").read_text() == "keep"


@pytest.mark.terraform
def test_any_text_comes_back_through_terraform(
    terraform: Run, tmp_path: Path, recommendation: Recommendation
) -> None:
    """Terraform keeps strings in normal form C; nothing else may change."""
    rng = random.Random(11)
    special = "\"\\$%{}\n\r\t\0 #/<>'~`\u2028\u00a0\ufeff\U0001f680e\u0301"
    env = {
        f"V{i}": "".join(
            rng.choice(special) if rng.random() < 0.6 else chr(rng.randrange(32, 0x2FFF))
            for _ in range(rng.randrange(12))
        )
        for i in range(99)
    }
    values = read_back(terraform, tmp_path, text_of(recommendation, env=env))
    assert values["env"] == {k: unicodedata.normalize("NFC", v) for k, v in env.items()}
