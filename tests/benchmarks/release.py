"""Do the deployment variables that ``tuner canary`` writes take a slow release back, and no other?

An emulated endpoint, its minutes made short. First ``tuner canary`` compares two equal variants
and writes its variables. Then stock boto3 does what the Terraform module does with them: alarms
on the new fleet's configuration, and UpdateEndpoint with the canary and the alarms. Releases as
good as the old fleet and releases slower than it are deployed under production's load, one after
another; each ends with the new configuration in service, or rolled back.
"""

from __future__ import annotations

import contextlib
import json
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import boto3
from figures import Row, main, row

from tuner.campaign.types import StageKind, StageSpec
from tuner.cli import main as tuner
from tuner.emulator.process import EmulatorProcess
from tuner.load.session import LocustSession
from tuner.load.target import sagemaker_target
from tuner.workload.payloads import PayloadSet

MINUTE_S = 0.5
"""Length of the emulator's minute."""
CANARY_MINUTE_S = 1.0
RATE_PER_S = 100.0
SLOWER = 1.5
INSTANCES = 2
LONGEST_S = 120.0

SPEC = """\
minute_seconds = {minute_s}
publish_delay_s = 0
[endpoint]
name = "shop"
instance_type = "ml.m5.xlarge"
instance_count = {count}
launch_lag_s = 1.0
drain_s = 0.0
[instance]
workers = 32
service = {{ shape = "lognormal", mean_ms = 200.0, cv = 0.3 }}
[[variants]]
variant = "Candidate"
instance_type = "ml.c5.xlarge"
instance_count = {count}
weight = 0.0
[variants.instance]
workers = 32
service = {{ shape = "lognormal", mean_ms = 200.0, cv = 0.3 }}
[[variants]]
variant = "Slow"
instance_type = "ml.c5.large"
instance_count = {count}
weight = 0.0
[variants.instance]
workers = 32
service = {{ shape = "lognormal", mean_ms = {slow_ms}, cv = 0.3 }}
"""
PLAN = """\
[endpoint]
kind = "sagemaker"
name = "shop"
variant = "AllTraffic"
region = "us-east-1"
endpoint_url = "{url}"
[slo]
p99_ms = 1000
max_error_rate = 0.01
[load]
body = "{{}}"
max_send_lag_ms = 500
[canary]
variant = "Candidate"
rate_per_s = {rate}
minute_s = {minute_s}
settle_s = 0.2
slower_by = 0.35
max_minutes = 12
traffic_per_s = {traffic}
"""


class Deployer:
    """Deploys one release after another, as the Terraform module would."""

    def __init__(self, url: str, answer: dict[str, Any]) -> None:
        keys = {"aws_access_key_id": "local", "aws_secret_access_key": "local"}
        self._sagemaker, self._cloudwatch = (
            boto3.client(name, region_name="us-east-1", endpoint_url=url, **keys)
            for name in ("sagemaker", "cloudwatch")
        )
        self._answer = answer
        self._number = 0
        self._sagemaker.create_model(
            ModelName="release",
            PrimaryContainer={"Image": "image"},
            ExecutionRoleArn="arn:aws:iam::123456789012:role/sagemaker",
        )
        self.name = "live"
        self._sagemaker.create_endpoint(
            EndpointName=self.name, EndpointConfigName=self._config("ml.m5.xlarge")
        )
        self._wait()

    def deploy(self, instance_type: str) -> tuple[bool, float]:
        """Whether it was rolled back, and after how many minutes the endpoint stood again."""
        config = self._config(instance_type)
        names = [self._alarm(a, config) for a in self._answer["alarms"]]
        begun = time.monotonic()
        self._sagemaker.update_endpoint(
            EndpointName=self.name, EndpointConfigName=config, DeploymentConfig=self._guard(names)
        )
        self._wait()
        minutes = (time.monotonic() - begun) / MINUTE_S
        found = self._sagemaker.describe_endpoint(EndpointName=self.name)
        return found["EndpointConfigName"] != config, minutes

    def _config(self, instance_type: str) -> str:
        self._number += 1
        name = f"release-{self._number}"
        variant: Any = {
            "VariantName": "AllTraffic",
            "ModelName": "release",
            "InstanceType": instance_type,
            "InitialInstanceCount": INSTANCES,
        }
        self._sagemaker.create_endpoint_config(
            EndpointConfigName=name, ProductionVariants=[variant]
        )
        return name

    def _alarm(self, alarm: dict[str, Any], config: str) -> str:
        name = f"{config}-{alarm['name']}"
        kind = "ExtendedStatistic" if alarm["statistic"].startswith("p") else "Statistic"
        dimensions = {"EndpointName": self.name, "VariantName": "AllTraffic"}
        dimensions["EndpointConfigName"] = config
        self._cloudwatch.put_metric_alarm(
            AlarmName=name,
            Namespace="AWS/SageMaker",
            MetricName=alarm["metric_name"],
            Dimensions=[{"Name": k, "Value": v} for k, v in dimensions.items()],
            Period=alarm["period_s"],
            EvaluationPeriods=alarm["periods"],
            Threshold=alarm["threshold"],
            ComparisonOperator="GreaterThanThreshold",
            TreatMissingData="notBreaching",
            **{kind: alarm["statistic"]},
        )
        return name

    def _guard(self, alarms: list[str]) -> Any:
        routing = {
            "Type": "CANARY",
            "WaitIntervalInSeconds": self._answer["wait_s"],
            "CanarySize": {"Type": "CAPACITY_PERCENT", "Value": self._answer["size_percent"]},
        }
        return {
            "BlueGreenUpdatePolicy": {
                "TrafficRoutingConfiguration": routing,
                "TerminationWaitInSeconds": self._answer["termination_wait_s"],
                "MaximumExecutionTimeoutInSeconds": self._answer["timeout_s"],
            },
            "AutoRollbackConfiguration": {"Alarms": [{"AlarmName": n} for n in alarms]},
        }

    def _wait(self) -> None:
        until = time.monotonic() + LONGEST_S
        while time.monotonic() < until:
            found = self._sagemaker.describe_endpoint(EndpointName=self.name)
            if found["EndpointStatus"] == "InService":
                return
            time.sleep(0.2)
        raise RuntimeError(f"{self.name} is not in service after {LONGEST_S:g} s")


def canary(url: str, folder: Path) -> dict[str, Any]:
    """What ``tuner canary`` decides on the deployment."""
    plan = folder / "tuner.toml"
    # A minute here lasts MINUTE_S: production's requests a minute are so many fewer.
    traffic = RATE_PER_S * MINUTE_S / 60.0
    plan.write_text(
        PLAN.format(url=url, rate=RATE_PER_S, minute_s=CANARY_MINUTE_S, traffic=traffic)
    )
    out = folder / "canary"
    with contextlib.redirect_stdout(sys.stderr):
        code = tuner(["canary", str(plan), "--out", str(out), "--yes-this-is-production"])
    answer: dict[str, Any] = json.loads((out / "canary.json").read_text())
    if answer["deployment"] is None:
        raise RuntimeError(f"tuner canary ended with {code} and without a deployment")
    return dict(answer["deployment"])


def load_until(url: str, name: str, over: threading.Event) -> None:
    """Production's load, in pieces, until it is over."""
    target = sagemaker_target(name, "us-east-1", endpoint_url=url, signed=False)
    with LocustSession(target, PayloadSet.inline("{}"), lag_limit_s=1.0) as session:
        number = 0
        while not over.is_set():
            session.measure(
                StageSpec(
                    number, StageKind.VERIFY, INSTANCES, RATE_PER_S, 3.0, 0.0, "poisson",
                    number, "production",
                )
            )  # fmt: skip
            number += 1


def rows(quick: bool) -> list[Row]:
    """The figures; ``quick`` deploys one release of either kind."""
    many = 1 if quick else 10
    spec = SPEC.format(minute_s=MINUTE_S, count=INSTANCES, slow_ms=200.0 * SLOWER)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "spec.toml").write_text(spec)
        with EmulatorProcess(spec_path=folder / "spec.toml") as emulator:
            answer = canary(emulator.url, folder)
            deployer = Deployer(emulator.url, answer)
            over = threading.Event()
            load = threading.Thread(target=load_until, args=(emulator.url, deployer.name, over))
            load.start()
            try:
                good = [deployer.deploy("ml.m5.xlarge") for _ in range(many)]
                slow = [deployer.deploy("ml.c5.large") for _ in range(many)]
            finally:
                over.set()
                load.join()
    sees = max(a["sees_slowdown_of"] or 0.0 for a in answer["alarms"])
    return [
        row("release: canary size", answer["size_percent"], "%"),
        row("release: wait at the canary", answer["wait_s"] / 60.0, "min"),
        row("release: slow-down that the alarm sees nine times in ten", sees),
        row("release: as good as the old one, let in", _share(good, back=False), at_least=0.9),
        row("release: 50 % slower, rolled back", _share(slow, back=True), at_least=0.9),
        row("release: minutes until a slow one was back", _median(slow), "min (median)"),
        row("release: minutes until a good one stood", _median(good), "min (median)"),
    ]


def _share(done: list[tuple[bool, float]], *, back: bool) -> float:
    return sum(rolled is back for rolled, _ in done) / len(done)


def _median(done: list[tuple[bool, float]]) -> float:
    minutes = sorted(m for _, m in done)
    return minutes[len(minutes) // 2]


if __name__ == "__main__":
    sys.exit(main(__doc__, rows))
