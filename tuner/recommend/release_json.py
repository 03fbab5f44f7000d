"""``canary.json`` and ``tuner compare --json``: answers about releases for scripts.

Schema 1, with the conventions of ``recommendation.json``.
"""

from __future__ import annotations

from collections.abc import Mapping

from tuner.campaign.canary import CanaryTest, Look
from tuner.campaign.changes import Change
from tuner.campaign.compare import Comparison, StageChange
from tuner.recommend.as_json import SCHEMA_VERSION, dump_json
from tuner.recommend.deployment import Alarm, Deployment
from tuner.recommend.json_values import interval_json, number_value


def comparison_to_json(comparison: Comparison, provenance: Mapping[str, object]) -> str:
    """A comparison of two runs as text."""
    c = comparison
    return dump_json(
        {
            "schema_version": SCHEMA_VERSION,
            "verdict": c.verdict.value,
            "sentence": c.sentence,
            "slower_by": c.slower_by,
            "level": c.level,
            "overall": [_change(x) for x in c.overall],
            "stages": [_stage(s) for s in c.stages],
            "unmatched": {
                "baseline": list(c.unmatched[0]),
                "candidate": list(c.unmatched[1]),
            },
            "provenance": dict(provenance),
        }
    )


def _stage(stage: StageChange) -> dict[str, object]:
    return {
        "instance_count": stage.instance_count,
        "rate_per_s": stage.rate_per_s,
        "stages": {"baseline": list(stage.stages[0]), "candidate": list(stage.stages[1])},
        "requests": {"baseline": stage.requests[0], "candidate": stage.requests[1]},
        "changes": [_change(x) for x in stage.changes],
    }


def _change(change: Change) -> dict[str, object]:
    return {
        "name": change.name,
        "verdict": change.verdict.value,
        "deciding": change.deciding,
        "relative": change.relative,
        "baseline": number_value(change.baseline),
        "candidate": number_value(change.candidate),
        "change": interval_json(change.change),
    }


def canary_to_json(
    look: Look,
    test: CanaryTest,
    deployment: Deployment | None,
    provenance: Mapping[str, object],
) -> str:
    """A canary's answer and its deployment variables' reasons as text."""
    return dump_json(
        {
            "schema_version": SCHEMA_VERSION,
            "verdict": look.verdict.value,
            "sentence": look.sentence,
            "minutes": look.minutes,
            "slower": interval_json(look.slower),
            "late_share_rise": interval_json(look.late),
            "test": {
                "slower_by": test.slower_by,
                "late_allowance": test.late_allowance,
                "alpha": test.alpha,
                "max_minutes": test.max_minutes,
                "minutes_needed": look.minutes_needed,
            },
            "deployment": None if deployment is None else _deployment(deployment),
            "provenance": dict(provenance),
        }
    )


def _deployment(deployment: Deployment) -> dict[str, object]:
    d = deployment
    return {
        "size_percent": d.size_percent,
        "wait_s": d.wait_s,
        "termination_wait_s": d.termination_wait_s,
        "timeout_s": d.timeout_s,
        "minutes_to_see": d.minutes_to_see,
        "alarms": [_alarm(a) for a in d.alarms],
        "sentences": list(d.sentences),
    }


def _alarm(alarm: Alarm) -> dict[str, object]:
    return {
        "name": alarm.name,
        "metric_name": alarm.metric_name,
        "statistic": alarm.statistic,
        "threshold": alarm.threshold,
        "period_s": alarm.period_s,
        "periods": alarm.periods,
        "sees_slowdown_of": alarm.sees,
    }
