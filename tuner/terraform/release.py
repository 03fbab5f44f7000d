"""``deployment.auto.tfvars``: how a release is let in, beside ``terraform.tfvars``."""

from __future__ import annotations

from collections.abc import Sequence

from tuner import __version__
from tuner.recommend.deployment import Alarm, Deployment
from tuner.terraform.hcl import attributes, one_line


def deployment_variables(deployment: Deployment) -> dict[str, object]:
    """The module's ``deployment`` and ``deployment_alarms``."""
    return {
        "deployment": {
            "strategy": "CANARY",
            "size": deployment.size_percent,
            "size_type": "CAPACITY_PERCENT",
            "wait_interval_in_seconds": deployment.wait_s,
            "termination_wait_in_seconds": deployment.termination_wait_s,
            "maximum_execution_timeout_in_seconds": deployment.timeout_s,
        },
        "deployment_alarms": [_alarm(a) for a in deployment.alarms],
    }


def _alarm(alarm: Alarm) -> dict[str, object]:
    return {
        "name": alarm.name,
        "metric_name": alarm.metric_name,
        "statistic": alarm.statistic,
        "threshold": alarm.threshold,
        "period": alarm.period_s,
        "evaluation_periods": alarm.periods,
    }


def deployment_tfvars_text(
    deployment: Deployment, *, run_name: str, date_text: str, answer: str, notes: Sequence[str] = ()
) -> str:
    """The whole file, formatted as ``terraform fmt`` would."""
    said = [
        f'Written by tuner {__version__} on {one_line(date_text)} from run "{one_line(run_name)}".',
        f"Canary: {one_line(answer)}",
        *map(one_line, deployment.sentences),
        *map(one_line, notes),
        "Thresholds of ModelLatency are in microseconds.",
    ]
    head = "".join(f"# {line}\n" for line in said)
    return head + "\n" + "".join(attributes(deployment_variables(deployment)))
