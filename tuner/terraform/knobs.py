"""Module variables of the optional knobs: scheduled actions and data capture."""

from __future__ import annotations

from tuner.recommend.types import Recommendation


def knob_variables(recommendation: Recommendation) -> dict[str, object]:
    """What the plan asked for and the answer decided; capacities of actions are strings."""
    found: dict[str, object] = {}
    actions = recommendation.scheduled_actions
    if actions:
        found["scheduled_actions"] = [
            {
                "name": a.name,
                "schedule": a.schedule,
                "timezone": a.timezone,
                "min_capacity": str(a.min_capacity),
                "max_capacity": str(a.max_capacity),
            }
            for a in actions
        ]
    decision = recommendation.data_capture
    if decision is not None and decision.sampling_percent and decision.rules.destination:
        found["data_capture"] = {
            "destination_s3_uri": decision.rules.destination,
            "sampling_percentage": decision.sampling_percent,
        }
    if recommendation.models is not None:
        found["multi_model"] = True
    return found
