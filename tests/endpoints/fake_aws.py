"""A small AWS control plane on loopback for what moto leaves out.

moto changes counts at once, never rejects, never fails. This one follows what AWS's documents
say of UpdateEndpointWeightsAndCapacities (Updating, desired before current, a rejection while
updating, rollbacks) and of RegisterScalableTarget (a count outside the bounds is pulled
inside), and can be told to fail any call in any way.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

ARN = "arn:aws:sagemaker:us-east-1:123456789012:endpoint/churn"
NAME = "churn"
VARIANT = "AllTraffic"
RESOURCE = f"endpoint/{NAME}/variant/{VARIANT}"
FLAGS = ("DynamicScalingInSuspended", "DynamicScalingOutSuspended", "ScheduledScalingSuspended")
POLICY: dict[str, Any] = {
    "PolicyName": "by-invocations",
    "PolicyType": "TargetTrackingScaling",
    "TargetTrackingScalingPolicyConfiguration": {
        "TargetValue": 750.0,
        "PredefinedMetricSpecification": {
            "PredefinedMetricType": "SageMakerVariantInvocationsPerInstance"
        },
        "ScaleOutCooldown": 60,
        "ScaleInCooldown": 240,
    },
}


class Clock:
    """A clock that only moves when somebody sleeps."""

    def __init__(self) -> None:
        self.now = 1_700_000_000.0

    def time(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


@dataclass
class Fault:
    """What happens to one call: an error answer, or a connection that just ends.

    ``applied`` says whether the call was carried out before its answer got lost.
    """

    kind: str
    applied: bool = False


@dataclass(eq=False)
class FakeAws:
    """The state, and how it moves with the clock."""

    clock: Callable[[], float]
    count: int = 3
    lag_s: float = 30.0
    registered: bool = True
    bounds: tuple[int, int] = (2, 8)
    suspended: dict[str, bool] = field(default_factory=lambda: dict.fromkeys(FLAGS, False))
    policies: dict[str, dict[str, Any]] = field(
        default_factory=lambda: {"by-invocations": dict(POLICY)}
    )
    instance_type: str | None = "ml.m5.xlarge"
    extra_variant: dict[str, Any] = field(default_factory=dict)
    extra_endpoint: dict[str, Any] = field(default_factory=dict)
    quotas: dict[str, float] = field(default_factory=dict)
    default_quotas: dict[str, float] = field(default_factory=dict)
    products: list[dict[str, Any]] = field(default_factory=list)
    metrics: dict[tuple[str, str], dict[int, float]] = field(default_factory=dict)
    metric_page: int = 500
    activities: list[dict[str, Any]] = field(default_factory=list)
    calls: list[str] = field(default_factory=list)
    fault: Callable[[int, str], Fault | None] = lambda index, operation: None
    stale_reads: int = 0
    suspended_shows_after_reads: int = 0
    next_update: str = "ok"
    status_for: list[tuple[float, str]] = field(default_factory=list)
    failure_reason: str | None = None

    def __post_init__(self) -> None:
        self.current = self.desired = self.count
        self.moves: list[tuple[float, Callable[[], None]]] = []
        self.status = "InService"
        self.lock = threading.RLock()
        self._stale: list[tuple[str, int, int]] = []
        self._shown = dict(self.suspended)
        self._hide = 0

    # --- time

    def advance(self) -> None:
        while self.moves and self.moves[0][0] <= self.clock():
            self.moves.pop(0)[1]()

    def at(self, delay_s: float, action: Callable[[], None]) -> None:
        self.moves.append((self.clock() + delay_s, action))
        self.moves.sort(key=lambda move: move[0])

    def order(self, count: int) -> None:
        """What UpdateEndpointWeightsAndCapacities sets in motion."""
        before = self.current
        self._stale = [(self.status, self.current, self.desired)] * self.stale_reads
        self.desired, self.status = count, "Updating"
        outcome, self.next_update = self.next_update, "ok"
        step = 1 if count > before else -1
        if outcome == "ok":
            total = max(abs(count - before), 1)
            for i, value in enumerate(range(before + step, count + step, step), 1):
                self.at(self.lag_s * i / total, lambda v=value: self._set(current=v))
            self.at(self.lag_s, lambda: self._set(status="InService"))
        elif outcome == "rollback":
            self.at(self.lag_s, lambda: self._set(status="RollingBack", desired=before))
            self.at(2 * self.lag_s, lambda: self._set(status="InService"))
        elif outcome == "revert":
            self.at(self.lag_s, lambda: self._set(status="InService", desired=before))
        else:
            self.at(self.lag_s, lambda: self._set(status=outcome))

    def _set(self, **values: Any) -> None:
        for key, value in values.items():
            setattr(self, key, value)

    def snapshot(self) -> dict[str, Any]:
        """What must be as before."""
        with self.lock:
            self.advance()
            return {
                "status": self.status,
                "count": (self.current, self.desired),
                "registered": self.registered,
                "bounds": self.bounds,
                "suspended": dict(self.suspended),
                "policies": json.loads(json.dumps(self.policies)),
            }

    # --- operations

    def answer(self, operation: str, body: dict[str, Any]) -> dict[str, Any]:
        self.advance()
        return getattr(self, f"do_{operation}")(body)  # type: ignore[no-any-return]

    def do_DescribeEndpoint(self, body: dict[str, Any]) -> dict[str, Any]:  # noqa: N802
        if body["EndpointName"] != NAME:
            raise Refusal("ValidationException", f'Could not find endpoint "{ARN}x".')
        status, current, desired = (
            self._stale.pop(0) if self._stale else (self.status, self.current, self.desired)
        )
        variant = {
            "VariantName": VARIANT,
            "CurrentWeight": 1.0,
            "DesiredWeight": 1.0,
            "CurrentInstanceCount": current,
            "DesiredInstanceCount": desired,
        }
        reason = {"FailureReason": self.failure_reason} if self.failure_reason else {}
        return {
            "EndpointName": NAME,
            "EndpointArn": ARN,
            "EndpointConfigName": "config",
            "EndpointStatus": status,
            "ProductionVariants": [variant],
            "CreationTime": 1.7e9,
            "LastModifiedTime": 1.7e9,
            **reason,
            **self.extra_endpoint,
        }

    def do_DescribeEndpointConfig(self, body: dict[str, Any]) -> dict[str, Any]:  # noqa: N802
        variant = {
            "VariantName": VARIANT,
            "ModelName": "model",
            "InstanceType": self.instance_type,
            "InitialInstanceCount": 1,
            **self.extra_variant,
        }
        return {
            "EndpointConfigName": "config",
            "EndpointConfigArn": "arn",
            "CreationTime": 1.7e9,
            "ProductionVariants": [{k: v for k, v in variant.items() if v is not None}],
        }

    def do_ListTags(self, body: dict[str, Any]) -> dict[str, Any]:  # noqa: N802
        return {"Tags": []}

    def do_UpdateEndpointWeightsAndCapacities(  # noqa: N802
        self, body: dict[str, Any]
    ) -> dict[str, Any]:
        if self.status != "InService":
            raise Refusal("ValidationException", "Cannot update in-progress endpoint")
        count = body["DesiredWeightsAndCapacities"][0]["DesiredInstanceCount"]
        if count > 50:
            raise Refusal("ResourceLimitExceeded", "The account-level service limit is 50")
        self.order(count)
        return {"EndpointArn": ARN}

    def do_DescribeScalableTargets(self, body: dict[str, Any]) -> dict[str, Any]:  # noqa: N802
        if not self.registered:
            return {"ScalableTargets": []}
        shown = self.suspended
        if self._hide > 0:
            self._hide -= 1
            shown = self._shown
        target = {
            "ServiceNamespace": "sagemaker",
            "ResourceId": RESOURCE,
            "ScalableDimension": "sagemaker:variant:DesiredInstanceCount",
            "MinCapacity": self.bounds[0],
            "MaxCapacity": self.bounds[1],
            "RoleARN": "arn:aws:iam::1:role/aws-service-role/x/y",
            "CreationTime": 1.7e9,
            "SuspendedState": dict(shown),
        }
        return {"ScalableTargets": [target]}

    def do_RegisterScalableTarget(self, body: dict[str, Any]) -> dict[str, Any]:  # noqa: N802
        self.registered = True
        self.bounds = (
            body.get("MinCapacity", self.bounds[0]),
            body.get("MaxCapacity", self.bounds[1]),
        )
        if "SuspendedState" in body:
            if self._hide == 0:
                self._shown = dict(self.suspended)
            self._hide = self.suspended_shows_after_reads
            self.suspended.update(body["SuspendedState"])
        inside = min(max(self.desired, self.bounds[0]), self.bounds[1])
        if inside != self.desired and self.status == "InService":
            self.order(inside)
        return {"ScalableTargetARN": "arn"}

    def do_DeregisterScalableTarget(self, body: dict[str, Any]) -> dict[str, Any]:  # noqa: N802
        self.registered = False
        self.policies.clear()
        return {}

    def do_DescribeScalingPolicies(self, body: dict[str, Any]) -> dict[str, Any]:  # noqa: N802
        common = {
            "PolicyARN": "arn",
            "ServiceNamespace": "sagemaker",
            "ResourceId": RESOURCE,
            "ScalableDimension": "sagemaker:variant:DesiredInstanceCount",
            "CreationTime": 1.7e9,
        }
        # One a page, so that paging is always exercised.
        names = sorted(self.policies)
        index = int(body.get("NextToken", "0"))
        page = names[index : index + 1]
        more = {"NextToken": str(index + 1)} if index + 1 < len(names) else {}
        return {"ScalingPolicies": [{**common, **self.policies[n]} for n in page], **more}

    def do_PutScalingPolicy(self, body: dict[str, Any]) -> dict[str, Any]:  # noqa: N802
        if not self.registered:
            raise Refusal("ObjectNotFoundException", "No scalable target registered")
        kept = {k: v for k, v in body.items() if k.startswith(("Policy", "TargetT", "Step"))}
        metric = _metric(kept)
        for name, other in self.policies.items():
            if name != body["PolicyName"] and metric and _metric(other) == metric:
                raise Refusal("ValidationException", "Only one TargetTrackingScaling policy")
        self.policies[body["PolicyName"]] = kept
        return {"PolicyARN": "arn", "Alarms": []}

    def do_DeleteScalingPolicy(self, body: dict[str, Any]) -> dict[str, Any]:  # noqa: N802
        if self.policies.pop(body["PolicyName"], None) is None:
            raise Refusal("ObjectNotFoundException", "No such policy")
        return {}

    def do_DescribeScheduledActions(self, body: dict[str, Any]) -> dict[str, Any]:  # noqa: N802
        return {"ScheduledActions": []}

    def do_DescribeScalingActivities(self, body: dict[str, Any]) -> dict[str, Any]:  # noqa: N802
        return {"ScalingActivities": self.activities}

    def do_ListServiceQuotas(self, body: dict[str, Any]) -> dict[str, Any]:  # noqa: N802
        return {"Quotas": [{"QuotaName": k, "Value": v} for k, v in self.quotas.items()]}

    def do_ListAWSDefaultServiceQuotas(self, body: dict[str, Any]) -> dict[str, Any]:  # noqa: N802
        return {"Quotas": [{"QuotaName": k, "Value": v} for k, v in self.default_quotas.items()]}

    def do_GetProducts(self, body: dict[str, Any]) -> dict[str, Any]:  # noqa: N802
        wanted = {f["Field"]: f["Value"] for f in body["Filters"]}
        found = [
            p
            for p in self.products
            if all(p["product"]["attributes"].get(k) == v for k, v in wanted.items())
        ]
        index = int(body.get("NextToken", "0"))
        more = {"NextToken": str(index + 1)} if index + 1 < len(found) else {}
        return {"PriceList": [json.dumps(p) for p in found[index : index + 1]], **more}

    def do_GetMetricData(self, body: dict[str, Any]) -> dict[str, Any]:  # noqa: N802
        index = int(body.get("NextToken", "0"))
        results, more = [], False
        for query in body["MetricDataQueries"]:
            stat = query["MetricStat"]
            data = self.metrics.get((stat["Metric"]["MetricName"], stat["Stat"]), {})
            names = {d["Name"] for d in stat["Metric"]["Dimensions"]}
            points = [
                (t, v)
                for t, v in sorted(data.items())
                if body["StartTime"] <= t < body["EndTime"]
                and names == {"EndpointName", "VariantName"}
            ]
            page = points[index : index + self.metric_page]
            more = more or index + self.metric_page < len(points)
            results.append(
                {
                    "Id": query["Id"],
                    "Label": "x",
                    "Timestamps": [t for t, _ in page],
                    "Values": [v for _, v in page],
                    "StatusCode": "PartialData" if more else "Complete",
                }
            )
        token = {"NextToken": str(index + self.metric_page)} if more else {}
        return {"MetricDataResults": results, "Messages": [], **token}


class Refusal(Exception):  # noqa: N818
    """An error answer: AWS's code and message."""

    def __init__(self, code: str, message: str, status: int = 400) -> None:
        super().__init__(message)
        self.code, self.status = code, status


FAULTS = {
    "throttle": Refusal("ThrottlingException", "Rate exceeded"),
    "internal": Refusal("InternalFailure", "We encountered an internal error", 500),
    "unavailable": Refusal("ServiceUnavailable", "Service is unavailable", 503),
    "concurrent": Refusal("ConcurrentUpdateException", "Another update is in progress"),
    "denied": Refusal("AccessDeniedException", "User is not authorized to perform this"),
}


def _metric(policy: dict[str, Any]) -> object:
    body = policy.get("TargetTrackingScalingPolicyConfiguration", {})
    return body.get("PredefinedMetricSpecification") or body.get("CustomizedMetricSpecification")


@contextmanager
def serve(fake: FakeAws) -> Iterator[str]:
    """The fake behind a socket; its URL."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        wbufsize = 65536  # one packet an answer: two would wait for a delayed ACK

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])) or b"{}")
            operation = self.headers["X-Amz-Target"].split(".")[-1]
            with fake.lock:
                fault = fake.fault(len(fake.calls), operation)
                fake.calls.append(operation)
                try:
                    answer: dict[str, Any] | None = None
                    if fault is None or fault.applied:
                        answer = fake.answer(operation, body)
                    if fault is not None:
                        if fault.kind == "reset":
                            self.close_connection = True
                            return
                        raise FAULTS[fault.kind]
                    self.reply(200, answer or {})
                except Refusal as error:
                    self.reply(error.status, {"__type": error.code, "message": str(error)})

        def reply(self, status: int, body: dict[str, Any]) -> None:
            data = json.dumps(body).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/x-amz-json-1.1")
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
