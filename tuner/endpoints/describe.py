"""A variant's state, put together from DescribeEndpoint, its configuration and its tags."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from tuner.campaign.types import Routing
from tuner.endpoints.aws import Aws, call, pages
from tuner.endpoints.protocol import AwsError, DataCapture, EndpointState, GoneError
from tuner.errors import EndpointError

NAME = re.compile(r"[a-zA-Z0-9](-*[a-zA-Z0-9]){0,62}")
"""Names of endpoints and variants (botocore's ``EndpointName`` and ``VariantName``)."""

PRODUCTION_WORDS = frozenset({"prod", "production", "prd", "live"})
NOT_PRODUCTION_WORDS = frozenset({"non", "not", "no", "pre", "nonprod", "preprod"})
ENVIRONMENT_TAGS = frozenset({"env", "environment", "stage", "tier", "lifecycle"})


class VariantReader:
    """Reads one variant; what cannot change under a campaign is read once per config."""

    def __init__(self, aws: Aws, endpoint: str, variant: str | None) -> None:
        check_name("endpoint", endpoint)
        if variant is not None:
            check_name("variant", variant)
        self._client = aws.sagemaker
        self._region = aws.region
        self.endpoint = endpoint
        self.variant = variant
        self._configs: dict[str, Mapping[str, Any]] = {}
        self._tags: tuple[tuple[str, str], ...] | None = None
        self._tags_read = False

    def read(self) -> EndpointState:
        """The state now."""
        try:
            answer: Mapping[str, Any] = call(
                self._client.describe_endpoint, EndpointName=self.endpoint
            )
        except AwsError as error:
            if error.code.startswith("Validation") and "not find" in error.message:
                raise gone(self.endpoint, self._region) from error
            raise
        summaries: Sequence[Mapping[str, Any]] = answer.get("ProductionVariants") or []
        config = self._config(answer.get("EndpointConfigName"))
        configured: Sequence[Mapping[str, Any]] = config.get("ProductionVariants") or []
        names = tuple(v["VariantName"] for v in summaries or configured)
        name = self._choose(names)
        summary = next((v for v in summaries if v["VariantName"] == name), {})
        variant = next((v for v in configured if v["VariantName"] == name), {})
        tags = self._read_tags(answer["EndpointArn"])
        capture = answer.get("DataCaptureConfig") or config.get("DataCaptureConfig")
        routing = (summary.get("RoutingConfig") or variant.get("RoutingConfig") or {}).get(
            "RoutingStrategy", Routing.RANDOM.value
        )
        return EndpointState(
            name=self.endpoint,
            variant=name,
            status=answer["EndpointStatus"],
            current_instance_count=summary.get("CurrentInstanceCount", 0),
            desired_instance_count=summary.get("DesiredInstanceCount", 0),
            instance_type=variant.get("InstanceType"),
            routing=Routing(routing) if routing in list(Routing) else None,
            routing_name=routing,
            config_name=answer.get("EndpointConfigName"),
            arn=answer["EndpointArn"],
            variant_count=len(names),
            variant_names=names,
            serverless="ServerlessConfig" in variant or "CurrentServerlessConfig" in summary,
            asynchronous=bool(answer.get("AsyncInferenceConfig")),
            # A variant without a model is one that hosts inference components.
            inference_components=bool(variant) and not variant.get("ModelName"),
            instance_pools=bool(variant.get("InstancePools")),
            data_capture=_capture(capture),
            tags=tags,
            production_reason=production_reason(self.endpoint, tags),
            failure_reason=answer.get("FailureReason"),
        )

    def _choose(self, names: tuple[str, ...]) -> str:
        if self.variant is not None:
            if names and self.variant not in names:
                raise EndpointError(
                    f"the endpoint {self.endpoint} has no such variant",
                    value=self.variant,
                    allowed=", ".join(names),
                    hint="name one of them in [endpoint] variant",
                )
            return self.variant
        if len(names) == 1:
            self.variant = names[0]
            return names[0]
        if not names:
            raise EndpointError(
                f"the endpoint {self.endpoint} has no production variant yet",
                hint="wait until it is InService",
            )
        raise EndpointError(
            f"the endpoint {self.endpoint} has {len(names)} variants and none is named",
            allowed=", ".join(names),
            hint="name one of them in [endpoint] variant",
        )

    def _config(self, name: str | None) -> Mapping[str, Any]:
        if name is None:
            return {}
        if name not in self._configs:
            try:
                self._configs[name] = call(
                    self._client.describe_endpoint_config, EndpointConfigName=name
                )
            except AwsError as error:
                # A config may be deleted while its endpoint lives on.
                if not error.code.startswith("Validation"):
                    raise
                self._configs[name] = {}
        return self._configs[name]

    def _read_tags(self, arn: str) -> tuple[tuple[str, str], ...] | None:
        if self._tags_read:
            return self._tags
        try:
            tags = pages(self._client, "list_tags", "Tags", ResourceArn=arn)
            self._tags = tuple(sorted((t["Key"], t["Value"]) for t in tags))
        except AwsError as error:
            if error.transient:
                raise
            self._tags = None
        self._tags_read = True
        return self._tags


def check_name(what: str, name: str) -> None:
    """Refuse a name AWS would refuse.

    Raises
    ------
    EndpointError
    """
    if not NAME.fullmatch(name):
        raise EndpointError(
            f"not a name of a SageMaker {what}",
            value=name,
            allowed="1 to 63 letters, digits and hyphens, beginning and ending with no hyphen",
        )


def gone(endpoint: str, region: str) -> GoneError:
    """The message for an endpoint that is not there."""
    return GoneError(
        f"there is no SageMaker endpoint of this name in {region}",
        value=endpoint,
        allowed=f"an endpoint listed by `aws sagemaker list-endpoints --region {region}`",
        hint="check name, region and account; deploy the endpoint first",
    )


def refuse_undrivable(state: EndpointState) -> None:
    """Raise for variants that have no instance count of their own.

    Raises
    ------
    EndpointError
    """
    kind = undrivable(state)
    if kind is not None:
        raise EndpointError(
            f"tuner cannot set an instance count here: {kind}",
            value=f"{state.name}/{state.variant}",
            allowed="a real-time variant on instances of one type, without inference components",
        )


def undrivable(state: EndpointState) -> str | None:
    """Why a variant has no instance count that tuner may set, or None."""
    if state.serverless:
        return "the variant is serverless"
    if state.inference_components:
        return "the endpoint hosts inference components, whose copies are scaled instead"
    if state.instance_pools:
        return "the variant mixes instance types in pools"
    return None


def production_reason(name: str, tags: tuple[tuple[str, str], ...] | None) -> str | None:
    """Why this endpoint is taken for production, or None."""
    for key, value in tags or ():
        if key.lower().rsplit(":", 1)[-1] in ENVIRONMENT_TAGS and _says_production(value):
            return f"its tag {key} is {value!r}"
        if key.lower() in PRODUCTION_WORDS and value.lower() not in {"false", "no", "0"}:
            return f"it has the tag {key}"
    if _says_production(name):
        return f"its name is {name!r}"
    return None


def _says_production(text: str) -> bool:
    words = [w for w in re.split(r"[^a-z]+", text.lower()) if w]
    return any(
        word in PRODUCTION_WORDS and (i == 0 or words[i - 1] not in NOT_PRODUCTION_WORDS)
        for i, word in enumerate(words)
    )


def _capture(config: Mapping[str, Any] | None) -> DataCapture | None:
    if not config:
        return None
    # DescribeEndpoint and DescribeEndpointConfig spell the same two fields differently.
    status = config.get("CaptureStatus")
    enabled = status == "Started" if status else bool(config.get("EnableCapture"))
    sampling = config.get("CurrentSamplingPercentage", config.get("InitialSamplingPercentage", 0))
    return DataCapture(enabled, int(sampling), config.get("DestinationS3Uri"))
