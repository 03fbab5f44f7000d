"""Everything a campaign depends on, looked at before anything is changed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tuner.campaign.types import Routing
from tuner.endpoints.aws import Aws, pages
from tuner.endpoints.describe import undrivable
from tuner.endpoints.protocol import AwsError, CampaignEstimate, EndpointState, Finding
from tuner.endpoints.records import ScalingState
from tuner.endpoints.waiting import BUSY, DEAD
from tuner.errors import EndpointError
from tuner.units import s_to_min


def look(
    aws: Aws,
    describe: Callable[[], EndpointState],
    read_scaling: Callable[[], ScalingState],
    estimate: CampaignEstimate,
    *,
    production_agreed: bool,
) -> tuple[Finding, ...]:
    """One finding for each thing, in the order a person would ask."""
    findings: list[Finding] = []
    try:
        findings.append(_credentials(aws))
        findings.append(Finding("ok", "region", "the region is known", aws.region))
        state = describe()
    except EndpointError as error:
        failed = "endpoint" if findings else "credentials"
        return (*findings, as_finding(failed, error))
    findings += state_findings(state, production_agreed=production_agreed)
    try:
        findings += scaling_findings(state, read_scaling(), estimate)
    except EndpointError as error:
        findings.append(as_finding("scaling", error))
    findings.append(quota_finding(aws, state, estimate))
    findings += estimate_findings(state, estimate)
    return tuple(findings)


def _credentials(aws: Aws) -> Finding:
    if aws.local:
        return Finding("ok", "credentials", "an emulator on this machine needs none")
    method = aws.credentials_method()
    return Finding("ok", "credentials", "AWS credentials were found", method)


def as_finding(code: str, error: EndpointError) -> Finding:
    """A finding that stops, out of an error."""
    value = None if error.value is None else str(error.value)
    return Finding("stop", code, error.message, value, error.allowed, error.hint)


def state_findings(state: EndpointState, *, production_agreed: bool) -> list[Finding]:
    """What DescribeEndpoint and the configuration say."""
    return [
        _status(state),
        _variant(state),
        _kind(state),
        _routing(state),
        _capture(state),
        _production(state, agreed=production_agreed),
    ]


def _status(state: EndpointState) -> Finding:
    if state.status in DEAD:
        sentence = f"the endpoint is {state.status}"
        if state.failure_reason:
            sentence += f": {state.failure_reason}"
        return Finding("stop", "status", sentence, state.status, "InService", DEAD[state.status])
    if state.status in BUSY or not state.settled:
        counts = f"{state.current_instance_count} of {state.desired_instance_count} instances"
        return Finding(
            "warn",
            "status",
            "the endpoint is changing; a campaign waits until it is done",
            f"{state.status}, {counts}",
            "InService",
        )
    return Finding(
        "ok",
        "status",
        f"the endpoint is InService with {state.current_instance_count} instances",
        state.status,
    )


def _variant(state: EndpointState) -> Finding:
    if state.variant_count > 1:
        return Finding(
            "warn",
            "variant",
            f"the endpoint has {state.variant_count} variants; requests are aimed at this one by "
            "TargetVariant, others may share its callers",
            state.variant,
            ", ".join(state.variant_names),
        )
    return Finding("ok", "variant", "the endpoint has one variant", state.variant)


def _kind(state: EndpointState) -> Finding:
    reason = undrivable(state)
    if reason is not None:
        return Finding(
            "stop",
            "kind",
            f"tuner cannot set an instance count here: {reason}",
            state.instance_type,
            "a real-time variant on instances of one type, without inference components",
        )
    if state.asynchronous:
        return Finding(
            "stop",
            "kind",
            "the endpoint is asynchronous: requests wait in a queue, so latency has no SLO here",
            allowed="a real-time endpoint",
        )
    if state.instance_type is None:
        return Finding(
            "warn",
            "kind",
            "the instance type is unknown, as the endpoint's configuration was deleted",
            hint="give [capacity] instance_type in the plan",
        )
    return Finding("ok", "kind", "a real-time variant on instances", state.instance_type)


def _routing(state: EndpointState) -> Finding:
    if state.routing is None:
        return Finding(
            "stop",
            "routing",
            "tuner does not know this routing strategy",
            state.routing_name,
            ", ".join(Routing),
        )
    if state.routing is Routing.RANDOM:
        return Finding(
            "ok",
            "routing",
            "requests go to instances at random; LEAST_OUTSTANDING_REQUESTS has a shorter tail",
            state.routing.value,
        )
    return Finding("ok", "routing", "requests go to the least busy instance", state.routing.value)


def _capture(state: EndpointState) -> Finding:
    capture = state.data_capture
    if capture is None or not capture.enabled:
        return Finding("ok", "data_capture", "data capture is off")
    return Finding(
        "warn",
        "data_capture",
        f"data capture is on: {capture.sampling_percent} % of the test's payloads will be stored "
        "and paid for, and it may slow requests",
        capture.destination,
        hint="switch it off for the test, or filter the records: those of the test carry the "
        "inference id tuner-load",
    )


def _production(state: EndpointState, *, agreed: bool) -> Finding:
    if state.production_reason is None:
        if state.tags is None:
            return Finding(
                "warn",
                "production",
                "the tags could not be read, so only the name says that this is not production",
                state.name,
                hint="grant sagemaker:ListTags",
            )
        return Finding("ok", "production", "nothing says that this is production", state.name)
    sentence = f"this is taken for production, because {state.production_reason}"
    if agreed:
        return Finding("warn", "production", f"{sentence}; you agreed", state.name)
    return Finding(
        "stop",
        "production",
        sentence,
        state.name,
        "an endpoint made for tests",
        "if you are sure, say --yes-this-is-production",
    )


def scaling_findings(
    state: EndpointState, scaling: ScalingState, estimate: CampaignEstimate
) -> list[Finding]:
    """What Application Auto Scaling has registered."""
    if not scaling.registered:
        return [Finding("ok", "scaling", "no scalable target is registered", allowed=None)]
    bounds = f"{scaling.min_capacity} to {scaling.max_capacity}"
    names = ", ".join(p.name for p in scaling.policies) or "none"
    found = [
        Finding(
            "ok",
            "scaling",
            f"{len(scaling.policies)} policies and {len(scaling.scheduled_actions)} scheduled "
            f"actions within {bounds} instances; they are suspended during a campaign and put "
            "back after it",
            names,
        )
    ]
    return [*found, *_scaling_warnings(state, scaling, estimate)]


def _scaling_warnings(
    state: EndpointState, scaling: ScalingState, estimate: CampaignEstimate
) -> list[Finding]:
    bounds = f"{scaling.min_capacity} to {scaling.max_capacity}"
    found: list[Finding] = []
    if scaling.suspended.any_suspended:
        found.append(
            Finding(
                "warn",
                "suspended",
                "scaling is suspended already; it will be left so",
                str(scaling.suspended),
                hint="if an earlier run was killed, run `tuner restore` on it first",
            )
        )
    if not scaling.inside(state.desired_instance_count):
        found.append(
            Finding(
                "warn",
                "bounds",
                "the count is outside the bounds: AWS will pull it inside as soon as the target "
                "is touched, and it is set again afterwards",
                str(state.desired_instance_count),
                bounds,
            )
        )
    if scaling.max_capacity is not None and estimate.max_instance_count > scaling.max_capacity:
        found.append(
            Finding(
                "warn",
                "planned_count",
                "the campaign goes above the maximum capacity; possible while scaling is "
                "suspended, as long as nobody writes the scalable target",
                str(estimate.max_instance_count),
                f"up to {scaling.max_capacity}",
            )
        )
    return found


def quota_finding(aws: Aws, state: EndpointState, estimate: CampaignEstimate) -> Finding:
    """The account's instance quota against the planned maximum."""
    if state.instance_type is None:
        return Finding("warn", "quota", "the quota is unknown without an instance type")
    name = f"{state.instance_type} for endpoint usage"
    try:
        quota = _find_quota(aws, name)
    except EndpointError as error:
        return Finding(
            "warn",
            "quota",
            f"the quota could not be read: {error.message}",
            name,
            hint="grant servicequotas:ListServiceQuotas, or look in the Service Quotas console",
        )
    if quota is None:
        return Finding("warn", "quota", "Service Quotas does not list this type", name)
    needed = estimate.max_instance_count
    if needed > quota:
        return Finding(
            "stop",
            "quota",
            f"the plan goes to {needed} instances, more than the account may have",
            str(needed),
            f"at most {quota:g} ({name})",
            "ask for a higher quota in Service Quotas, or plan fewer instances",
        )
    sentence = f"the plan needs {needed} of {quota:g} instances, shared with other endpoints"
    if 2 * needed > quota:
        return Finding(
            "warn",
            "quota",
            f"{sentence}; a blue/green update at that size would need twice as many",
            name,
        )
    return Finding("ok", "quota", sentence, name)


def _find_quota(aws: Aws, name: str) -> float | None:
    client = aws.client("service-quotas")
    applied: list[Any] = []
    try:
        applied = pages(client, "list_service_quotas", "Quotas", ServiceCode="sagemaker")
    except AwsError as error:
        if error.code != "NoSuchResourceException":
            raise
    for quotas in (applied, None):
        if quotas is None:
            # A quota nobody ever raised may be listed only among AWS's defaults.
            quotas = pages(
                client, "list_aws_default_service_quotas", "Quotas", ServiceCode="sagemaker"
            )
        for quota in quotas:
            if quota["QuotaName"] == name:
                return float(quota["Value"])
    return None


def estimate_findings(state: EndpointState, estimate: CampaignEstimate) -> list[Finding]:
    """Duration, requests and dollars of the plan."""
    found: list[Finding] = []
    if estimate.duration_s is not None:
        minutes = s_to_min(estimate.duration_s)
        found.append(Finding("ok", "duration", f"the campaign takes about {minutes:.0f} minutes"))
    if estimate.requests is not None:
        found.append(
            Finding("ok", "requests", f"the campaign sends about {estimate.requests} requests")
        )
    found += _cost(state, estimate)
    return found


def _cost(state: EndpointState, estimate: CampaignEstimate) -> list[Finding]:
    if estimate.instance_hours is None:
        return []
    if estimate.price_per_hour_usd is None:
        return [
            Finding(
                "warn",
                "cost",
                f"about {estimate.instance_hours:.1f} instance-hours, at a price that is not known",
                state.instance_type,
                hint="give [capacity] price_per_hour_usd, or run `tuner prices update`",
            )
        ]
    cost_usd = estimate.instance_hours * estimate.price_per_hour_usd
    sentence = f"the campaign's instances cost about {cost_usd:.2f} USD"
    limit = estimate.cost_limit_usd
    if limit is not None and cost_usd > limit:
        return [
            Finding(
                "stop",
                "cost",
                sentence,
                f"{cost_usd:.2f}",
                f"at most {limit:.2f} USD",
                "raise the limit in [load], or plan fewer or shorter stages",
            )
        ]
    return [Finding("ok", "cost", sentence, f"{cost_usd:.2f}")]
