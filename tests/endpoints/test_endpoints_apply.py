"""Applying a policy: the diff first, the record before the change, and all of it undone."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import botocore.session
import pytest
from botocore.validate import ParamValidator
from fake_aws import NAME, VARIANT, Clock, FakeAws, serve
from moto_account import KEY, Account
from moto_account import NAME as MOTO_NAME

from tuner.autoscaling.policy import CapacityBounds, ScalingMetric, TargetTrackingPolicy
from tuner.endpoints.apply import (
    POLICY_NAME,
    apply_plan,
    as_definition,
    as_policy,
    plan_apply,
    today,
)
from tuner.endpoints.records import RestoreRecord
from tuner.endpoints.sagemaker import SageMakerEndpoint
from tuner.errors import EndpointError

WANTED = TargetTrackingPolicy(ScalingMetric.INVOCATIONS, 1350.0, 30, 600)
BOUNDS = CapacityBounds(3, 10)
CPU_POLICY: dict[str, Any] = {
    "PolicyName": "by-cpu",
    "PolicyType": "TargetTrackingScaling",
    "TargetTrackingScalingPolicyConfiguration": {
        "TargetValue": 200.0,
        "CustomizedMetricSpecification": {
            "MetricName": "CPUUtilization",
            "Namespace": "/aws/sagemaker/Endpoints",
            "Dimensions": [
                {"Name": "EndpointName", "Value": NAME},
                {"Name": "VariantName", "Value": VARIANT},
            ],
            "Statistic": "Average",
            "Unit": "Percent",
        },
    },
}
STEP_POLICY: dict[str, Any] = {
    "PolicyName": "steps",
    "PolicyType": "StepScaling",
    "StepScalingPolicyConfiguration": {
        "AdjustmentType": "ChangeInCapacity",
        "StepAdjustments": [{"MetricIntervalLowerBound": 0.0, "ScalingAdjustment": 1}],
        "Cooldown": 60,
    },
}


class Lab:
    def __init__(self, fake: FakeAws, clock: Clock, url: str) -> None:
        self.fake, self.records = fake, list[RestoreRecord]()
        self.endpoint = SageMakerEndpoint(
            NAME, endpoint_url=url, poll_interval_s=5.0, clock=clock.time, sleep=clock.sleep
        )


@pytest.fixture
def lab() -> Iterator[Lab]:
    clock = Clock()
    fake = FakeAws(clock.time)
    with serve(fake) as url:
        yield Lab(fake, clock, url)


def test_planning_changes_nothing_and_shows_what_would_change(lab: Lab) -> None:
    before = lab.fake.snapshot()
    plan = plan_apply(lab.endpoint, WANTED, BOUNDS)
    assert [str(c) for c in plan.changes] == [
        "~ scalable target: 2 to 8 instances -> 3 to 10 instances",
        "~ policy by-invocations: SageMakerVariantInvocationsPerInstance at 750, out 60 s, "
        "in 240 s -> SageMakerVariantInvocationsPerInstance at 1350, out 30 s, in 600 s",
    ]
    assert not plan.empty
    assert lab.fake.snapshot() == before
    assert all(c.startswith("Describe") or c == "ListTags" for c in lab.fake.calls)


def test_the_policy_of_the_same_metric_is_updated_under_its_name(lab: Lab) -> None:
    apply_plan(lab.endpoint, plan_apply(lab.endpoint, WANTED, BOUNDS), lab.records.append)
    assert lab.fake.bounds == (3, 10)
    assert list(lab.fake.policies) == ["by-invocations"]
    body = lab.fake.policies["by-invocations"]["TargetTrackingScalingPolicyConfiguration"]
    assert body["TargetValue"] == 1350.0
    assert (body["ScaleOutCooldown"], body["ScaleInCooldown"]) == (30, 600)
    assert today(lab.endpoint).policies == (WANTED,)
    assert today(lab.endpoint).bounds == BOUNDS
    assert plan_apply(lab.endpoint, WANTED, BOUNDS).empty


def test_the_record_is_written_first_and_restores_all_of_it(lab: Lab) -> None:
    before = lab.fake.snapshot()
    seen: list[tuple[RestoreRecord, object]] = []
    plan = plan_apply(lab.endpoint, WANTED, BOUNDS)
    apply_plan(lab.endpoint, plan, lambda r: seen.append((r, lab.fake.snapshot())))
    assert seen[0][1] == before
    assert lab.fake.snapshot() != before
    assert lab.endpoint.restore(seen[0][0]).complete
    assert lab.fake.snapshot() == before


def test_without_scaling_a_target_and_a_policy_are_made_and_taken_away(lab: Lab) -> None:
    lab.fake.registered, lab.fake.policies = False, {}
    before = lab.fake.snapshot()
    plan = plan_apply(lab.endpoint, WANTED, BOUNDS)
    assert [c.action for c in plan.changes] == ["create", "create"]
    apply_plan(lab.endpoint, plan, lab.records.append)
    assert lab.fake.registered
    assert list(lab.fake.policies) == [POLICY_NAME]
    report = lab.endpoint.restore(lab.records[-1])
    assert report.complete
    assert {**lab.fake.snapshot(), "bounds": None} == {**before, "bounds": None}


def test_bounds_that_exclude_the_count_move_it_and_restoring_moves_it_back(lab: Lab) -> None:
    lab.fake.policies = {}
    before = lab.fake.snapshot()
    plan = plan_apply(lab.endpoint, WANTED, CapacityBounds(5, 9))
    apply_plan(lab.endpoint, plan, lab.records.append)
    assert lab.fake.desired == 5
    assert lab.endpoint.restore(lab.records[-1]).complete
    assert lab.fake.snapshot() == before


def test_others_stay_with_a_warning(lab: Lab) -> None:
    lab.fake.policies = {"by-cpu": CPU_POLICY, "steps": STEP_POLICY}
    plan = plan_apply(lab.endpoint, WANTED, BOUNDS)
    assert [c.action for c in plan.changes] == ["update", "create", "keep", "keep"]
    assert len(plan.warnings) == 2
    apply_plan(lab.endpoint, plan, lab.records.append)
    assert set(lab.fake.policies) == {"by-cpu", "steps", POLICY_NAME}


def test_others_are_replaced_when_told_but_never_step_policies(lab: Lab) -> None:
    lab.fake.policies = {"by-cpu": CPU_POLICY, "steps": STEP_POLICY}
    before = lab.fake.snapshot()
    plan = plan_apply(lab.endpoint, WANTED, BOUNDS, replace_others=True)
    apply_plan(lab.endpoint, plan, lab.records.append)
    assert set(lab.fake.policies) == {"steps", POLICY_NAME}
    assert lab.endpoint.restore(lab.records[-1]).complete
    assert lab.fake.snapshot() == before


def test_suspended_scaling_is_told(lab: Lab) -> None:
    lab.fake.suspended["DynamicScalingOutSuspended"] = True
    plan = plan_apply(lab.endpoint, WANTED, BOUNDS)
    assert any("suspended" in w for w in plan.warnings)
    assert today(lab.endpoint).suspended


def test_zero_instances_are_refused(lab: Lab) -> None:
    with pytest.raises(EndpointError, match="scale to zero"):
        plan_apply(lab.endpoint, WANTED, CapacityBounds(0, 4))


def test_today_tells_what_it_has_words_for(lab: Lab) -> None:
    math = {
        **CPU_POLICY,
        "PolicyName": "math",
        "TargetTrackingScalingPolicyConfiguration": {
            "TargetValue": 1.0,
            "CustomizedMetricSpecification": {"Metrics": [{"Id": "m1", "Expression": "1"}]},
        },
    }
    lab.fake.policies |= {"by-cpu": CPU_POLICY, "steps": STEP_POLICY, "math": math}
    now = today(lab.endpoint)
    assert now.bounds == CapacityBounds(2, 8)
    assert now.policies == (
        TargetTrackingPolicy(ScalingMetric.CPU, 200.0, 300, 300),
        TargetTrackingPolicy(ScalingMetric.INVOCATIONS, 750.0, 60, 240),
    )
    assert now.others == ("math", "steps")
    assert now.instance_count == 3
    assert not now.suspended


@pytest.mark.parametrize("metric", list(ScalingMetric))
@pytest.mark.parametrize("disable", [False, True])
def test_definitions_are_valid_for_botocore_and_read_back(
    metric: ScalingMetric, disable: bool
) -> None:
    policy = TargetTrackingPolicy(metric, 42.5, 0, 120, disable)
    definition = as_definition(policy, "p", NAME, VARIANT)
    model = botocore.session.get_session().get_service_model("application-autoscaling")
    shape = model.operation_model("PutScalingPolicy").input_shape
    report = ParamValidator().validate({**KEY, **definition.arguments}, shape)
    assert not report.has_errors(), report.generate_report()
    assert as_policy(definition, NAME, VARIANT) == policy


def test_a_policy_about_another_endpoint_is_not_ours() -> None:
    definition = as_definition(TargetTrackingPolicy(ScalingMetric.CPU, 50.0), "p", "other", VARIANT)
    assert as_policy(definition, NAME, VARIANT) is None


def test_aws_that_shows_something_else_is_an_error(lab: Lab) -> None:
    plan = plan_apply(lab.endpoint, WANTED, BOUNDS)
    lab.fake.do_PutScalingPolicy = lambda body: {"PolicyARN": "arn"}  # type: ignore[method-assign]
    with pytest.raises(EndpointError, match="shows something else"):
        apply_plan(lab.endpoint, plan, lab.records.append)
    assert lab.endpoint.restore(lab.records[-1]).complete


def test_a_target_not_visible_yet_is_waited_for(lab: Lab) -> None:
    lab.fake.registered, lab.fake.policies = False, {}
    register, calls = lab.fake.do_RegisterScalableTarget, iter(range(10))

    def slowly(body: dict[str, Any]) -> dict[str, Any]:
        answer = register(body)
        lab.fake.registered = False
        lab.fake.at(12.0, lambda: lab.fake._set(registered=True))
        next(calls)
        return answer

    lab.fake.do_RegisterScalableTarget = slowly  # type: ignore[method-assign]
    apply_plan(lab.endpoint, plan_apply(lab.endpoint, WANTED, BOUNDS), lab.records.append)
    assert next(calls) == 1
    assert lab.fake.calls.count("PutScalingPolicy") > 1
    assert today(lab.endpoint).policies == (WANTED,)


def test_apply_and_restore_on_moto(account: Account) -> None:
    account.create(count=3)
    account.scale(low=2, high=8)
    before = account.snapshot()
    endpoint = SageMakerEndpoint(
        MOTO_NAME, region=account.region, endpoint_url=account.url, poll_interval_s=0.001
    )
    records: list[RestoreRecord] = []
    apply_plan(endpoint, plan_apply(endpoint, WANTED, BOUNDS), records.append)
    changed = account.snapshot()
    assert changed["bounds"] == [(3, 10)]
    targets = {
        p["PolicyName"]: p["TargetTrackingScalingPolicyConfiguration"]["TargetValue"]
        for p in changed["policies"]
        if p["PolicyType"] == "TargetTrackingScaling"
    }
    assert targets == {"by-invocations": 1350.0}
    assert endpoint.restore(records[-1]).complete
    assert account.snapshot() == before
