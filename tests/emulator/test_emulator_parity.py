"""Emulator, simulator and the plain scaling rules: the same traffic, the same activities."""

from __future__ import annotations

import datetime as dt
import math
import re
from dataclasses import dataclass

import numpy as np
import pytest
from emulator_harness import MadeUpTime, Start, ThreadedEmulator

from tuner.autoscaling.policy import CapacityBounds, ScalingMetric, TargetTrackingPolicy
from tuner.autoscaling.target import ScalableTarget
from tuner.queueing.capacity import ViolationTable
from tuner.simulator.inputs import LaunchLag, PolicyGrid, SimulationOptions
from tuner.simulator.simulate import timeline

MINUTE_S = 0.6
LAUNCH_S = 100.0
"""Not a whole minute: at its edge a moment decides which minute the instances belong to."""
SPEC = f"""
minute_seconds = {MINUTE_S}
publish_delay_s = 60.0
[endpoint]
name = "parity"
launch_lag_s = {LAUNCH_S}
drain_s = 0.1
[instance]
workers = 64
service = {{ mean_ms = 0.0 }}
"""
TARGET = 1000.0
BOUNDS = (1, 8)
SURGE = [600.0] * 3 + [3400.0] * 14 + [600.0] * 12
"""Requests per minute: one instance's worth, a surge for four, and quiet again."""


@dataclass(frozen=True)
class Order:
    """A scaling activity: the (control) minute it began in, and the count ordered."""

    minute: float
    desired: int


def replay(emulator: ThreadedEmulator, clock: MadeUpTime, per_minute: list[float]) -> float:
    """Invoke with stock boto3 at equal gaps, each (control) minute at its own rate.

    It begins with a minute of the emulator's clock, so that a minute of the traffic is one of
    the metrics; when that was, as Unix time.
    """
    client = emulator.client("sagemaker-runtime")
    control = emulator.emulator.account.clock
    began = control.unix_s(math.ceil(control.now_control_s() / 60.0) * 60.0)
    for index, rate in enumerate(per_minute):
        # Rates are of real seconds: a shorter minute holds fewer requests.
        count = round(rate / 60.0 * MINUTE_S)
        for i in range(count):
            due = began + (index + (i + 0.5) / count) * MINUTE_S
            clock.move(emulator, due - clock.time())
            client.invoke_endpoint(EndpointName=emulator.endpoint, Body=b"{}")["Body"].read()
    clock.move(emulator, MINUTE_S / 2)
    return began


def emulated(emulator: ThreadedEmulator, clock: MadeUpTime, per_minute: list[float]) -> list[Order]:
    """What a target-tracking policy put by stock boto3 orders, and its alarms' form."""
    client = emulator.client("application-autoscaling")
    key = {
        "ServiceNamespace": "sagemaker",
        "ResourceId": f"endpoint/{emulator.endpoint}/variant/AllTraffic",
        "ScalableDimension": "sagemaker:variant:DesiredInstanceCount",
    }
    client.register_scalable_target(**key, MinCapacity=BOUNDS[0], MaxCapacity=BOUNDS[1])
    client.put_scaling_policy(
        **key,
        PolicyName="parity",
        PolicyType="TargetTrackingScaling",
        TargetTrackingScalingPolicyConfiguration={
            "TargetValue": TARGET,
            "ScaleOutCooldown": 0,
            "ScaleInCooldown": 0,
            "PredefinedMetricSpecification": {
                "PredefinedMetricType": "SageMakerVariantInvocationsPerInstance"
            },
        },
    )
    began = dt.datetime.fromtimestamp(replay(emulator, clock, per_minute), dt.UTC)
    alarms = emulator.client("cloudwatch").describe_alarms()["MetricAlarms"]
    assert sorted((a["EvaluationPeriods"], a["Period"], a["Threshold"]) for a in alarms) == [
        (3, 60, TARGET),
        (15, 60, 0.9 * TARGET),
    ]
    activities = client.describe_scaling_activities(**key)["ScalingActivities"]
    return [
        Order(
            (a["StartTime"] - began).total_seconds() / MINUTE_S,
            int(re.findall(r"\d+", a["Description"])[-1]),
        )
        for a in reversed(activities)
    ]


def simulated(per_minute: list[float]) -> list[Order]:
    """What the simulator orders; its capacity is endless, so only the policy is seen."""
    table = ViolationTable(
        np.arange(1, 9),
        np.array([0.0, 0.5, 1.0]),
        np.array([0.0, 1.0]),
        np.zeros((8, 3, 2)),
        1e6,
    )
    policy = TargetTrackingPolicy(ScalingMetric.INVOCATIONS, TARGET, 0, 0)
    seen = timeline(
        PolicyGrid.of([(policy, CapacityBounds(*BOUNDS))]),
        0,
        per_minute,
        table,
        LaunchLag.of(LAUNCH_S),
        options=SimulationOptions(initial_capacity=1),
    )
    ordered = np.concatenate([[1.0], seen.in_service + seen.starting])
    # The record of a minute holds what is decided at its end.
    return [Order(m + 1.0, int(ordered[m + 1])) for m in np.flatnonzero(np.diff(ordered))]


def by_the_rules(per_minute: list[float]) -> list[Order]:
    """The scaling rules alone, fed with what AWS would publish, in made-up time."""
    target = ScalableTarget("endpoint/parity/variant/AllTraffic", CapacityBounds(*BOUNDS))
    policy = TargetTrackingPolicy(ScalingMetric.INVOCATIONS, TARGET, 0, 0)
    target.put_policy(0.0, "parity", policy)
    in_service = desired = 1
    ready_s, orders, datapoints = None, [], []
    for minute, requests in enumerate(per_minute):
        # The datapoint of the minute before the last is published now.
        now_s = minute * 60.0
        if ready_s is not None and now_s >= ready_s:
            in_service, ready_s = desired, None
            running = target.in_progress
            assert running is not None
            target.finish(running.activity_id, now_s)
        if len(datapoints) >= 2:
            value, count = datapoints[-2]
            target.observe(now_s, policy.metric, value, count)
            activity = target.evaluate(now_s, desired, updating=ready_s is not None)
            if activity is not None:
                orders.append(Order(float(minute), activity.desired))
                desired = activity.desired
                ready_s = now_s + (LAUNCH_S if desired > in_service else 0.0)
        datapoints.append((requests / in_service, in_service))
    return orders


@pytest.fixture(scope="module")
def expected() -> list[Order]:
    orders = simulated(SURGE)
    assert [o.desired for o in orders] == [4, 1], "the surge is answered, and forgotten"
    return orders


def test_the_simulator_orders_what_the_rules_order(expected: list[Order]) -> None:
    rules = by_the_rules(SURGE)
    assert [o.desired for o in rules] == [o.desired for o in expected]
    for one, other in zip(rules, expected, strict=True):
        assert one.minute == pytest.approx(other.minute, abs=0.5)


def test_an_accelerated_emulator_orders_what_the_simulator_orders(
    start: Start, made_up_time: MadeUpTime, expected: list[Order]
) -> None:
    orders = emulated(start(SPEC), made_up_time, SURGE)
    assert [o.desired for o in orders] == [o.desired for o in expected]
    for one, other in zip(orders, expected, strict=True):
        assert one.minute == pytest.approx(other.minute, abs=0.5)
