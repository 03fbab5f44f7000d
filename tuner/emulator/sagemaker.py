"""The SageMaker control plane: models, endpoint configurations and endpoints."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

from tuner.emulator.account import Account
from tuner.emulator.deployment import Deployment, deployment_of
from tuner.emulator.endpoint import Endpoint, Rollout, Variant
from tuner.emulator.errors import validation
from tuner.emulator.paging import page
from tuner.emulator.params import NAME, Params

Json = dict[str, Any]

ROUTING = ("LEAST_OUTSTANDING_REQUESTS", "RANDOM")


class SageMaker:
    """Operations by name; each takes the request's members and returns the answer's."""

    def __init__(self, account: Account) -> None:
        self._account = account
        self.operations: dict[str, Callable[[Params], Json | None]] = {
            "CreateModel": self._create_model,
            "DescribeModel": self._describe_model,
            "ListModels": self._list_models,
            "DeleteModel": self._delete_model,
            "CreateEndpointConfig": self._create_config,
            "DescribeEndpointConfig": self._describe_config,
            "ListEndpointConfigs": self._list_configs,
            "DeleteEndpointConfig": self._delete_config,
            "CreateEndpoint": self._create_endpoint,
            "DescribeEndpoint": self._describe_endpoint,
            "ListEndpoints": self._list_endpoints,
            "UpdateEndpoint": self._update_endpoint,
            "UpdateEndpointWeightsAndCapacities": self._update_weights_and_capacities,
            "DeleteEndpoint": self._delete_endpoint,
            "AddTags": self._add_tags,
            "ListTags": self._list_tags,
            "DeleteTags": self._delete_tags,
        }

    # -- models ---------------------------------------------------------------------------

    def _create_model(self, params: Params) -> Json:
        name = params.text("ModelName", pattern=NAME)
        arn = self._account.arn("model", name)
        if name in self._account.models:
            raise validation(f'Cannot create already existing model "{arn}".')
        if not params.has("PrimaryContainer") and not params.items("Containers"):
            raise validation("Exactly one of PrimaryContainer or Containers must be specified.")
        params.structure("PrimaryContainer")
        kept = {k: v for k, v in params.data.items() if k != "Tags"}
        self._account.models[name] = {
            **kept,
            "ModelArn": arn,
            "CreationTime": self._account.clock.now_unix_s(),
        }
        self._tag(arn, params)
        return {"ModelArn": arn}

    def _model(self, params: Params) -> Json:
        name = params.text("ModelName", pattern=NAME)
        if name not in self._account.models:
            raise validation(f'Could not find model "{self._account.arn("model", name)}".')
        return self._account.models[name]

    def _describe_model(self, params: Params) -> Json:
        return dict(self._model(params))

    def _delete_model(self, params: Params) -> None:
        del self._account.models[self._model(params)["ModelName"]]

    def _list_models(self, params: Params) -> Json:
        keys = ("ModelName", "ModelArn", "CreationTime")
        rows = [{k: m[k] for k in keys} for m in self._account.models.values()]
        return page("Models", rows, "ModelName", params)

    # -- endpoint configurations ----------------------------------------------------------

    def _create_config(self, params: Params) -> Json:
        name = params.text("EndpointConfigName", pattern=NAME)
        arn = self._account.arn("endpoint-config", name)
        if name in self._account.configs:
            raise validation(f'Cannot create already existing endpoint configuration "{arn}".')
        productions = params.structures("ProductionVariants", required=True)
        if not 1 <= len(productions) <= 10:
            raise validation("ProductionVariants must have between 1 and 10 members.")
        names = [self._check_production(p) for p in productions]
        if len(set(names)) != len(names):
            raise validation("Variant names must be unique within an endpoint configuration.")
        kept = {k: copy.deepcopy(v) for k, v in params.data.items() if k != "Tags"}
        for production in kept["ProductionVariants"]:
            production.setdefault("InitialVariantWeight", 1.0)
        self._account.configs[name] = {
            **kept,
            "EndpointConfigArn": arn,
            "CreationTime": self._account.clock.now_unix_s(),
        }
        self._tag(arn, params)
        return {"EndpointConfigArn": arn}

    def _check_production(self, params: Params) -> str:
        name = params.text("VariantName", pattern=NAME)
        model = params.text("ModelName", pattern=NAME)
        if model not in self._account.models:
            raise validation(f'Could not find model "{self._account.arn("model", model)}".')
        if params.has("ServerlessConfig"):
            raise validation("Serverless variants are not emulated.")
        if params.has("ManagedInstanceScaling"):
            raise validation(
                "ManagedInstanceScaling is only supported for inference component endpoints."
            )
        kind = params.text("InstanceType")
        if not kind.startswith("ml."):
            raise validation(f"Instance type {kind} is not supported.")
        params.integer("InitialInstanceCount", low=1)
        if params.number("InitialVariantWeight", 1.0) < 0.0:
            raise validation("InitialVariantWeight must not be negative.")
        routing = params.structure("RoutingConfig")
        if routing is not None:
            routing.choice("RoutingStrategy", ROUTING)
        return name

    def _config(self, params: Params) -> Json:
        name = params.text("EndpointConfigName", pattern=NAME)
        if name not in self._account.configs:
            arn = self._account.arn("endpoint-config", name)
            raise validation(f'Could not find endpoint configuration "{arn}".')
        return self._account.configs[name]

    def _describe_config(self, params: Params) -> Json:
        return dict(self._config(params))

    def _delete_config(self, params: Params) -> None:
        del self._account.configs[self._config(params)["EndpointConfigName"]]

    def _list_configs(self, params: Params) -> Json:
        keys = ("EndpointConfigName", "EndpointConfigArn", "CreationTime")
        rows = [{k: c[k] for k in keys} for c in self._account.configs.values()]
        return page("EndpointConfigs", rows, "EndpointConfigName", params)

    # -- endpoints ------------------------------------------------------------------------

    def _create_endpoint(self, params: Params) -> Json:
        account = self._account
        account.refresh()
        name = params.text("EndpointName", pattern=NAME)
        arn = account.arn("endpoint", name)
        if name in account.endpoints:
            raise validation(f'Cannot create already existing endpoint "{arn}".')
        config = self._config(params)
        self._check_config_quota(config)
        variants = account.make_variants(name, config["EndpointConfigName"])
        now = account.clock.now_unix_s()
        endpoint = Endpoint(name, arn, config["EndpointConfigName"], variants, "Creating", now, now)
        account.endpoints[name] = endpoint
        account.set_counts(endpoint, _initial_counts(variants))
        endpoint.status = "Creating"
        self._tag(arn, params)
        return {"EndpointArn": arn}

    def _check_config_quota(self, config: Json) -> None:
        wanted: dict[str, int] = {}
        for production in config["ProductionVariants"]:
            kind = production["InstanceType"]
            wanted[kind] = wanted.get(kind, 0) + production["InitialInstanceCount"]
        for kind, count in wanted.items():
            self._account.check_quota(kind, count)

    def _endpoint(self, params: Params) -> Endpoint:
        return self._account.endpoint(params.text("EndpointName", pattern=NAME))

    def _describe_endpoint(self, params: Params) -> Json:
        endpoint = self._endpoint(params)
        answer: Json = {
            "EndpointName": endpoint.name,
            "EndpointArn": endpoint.arn,
            "EndpointConfigName": endpoint.config_name,
            "ProductionVariants": [_summary(v, endpoint) for v in endpoint.variants.values()],
            "EndpointStatus": endpoint.status,
            "CreationTime": endpoint.created_unix_s,
            "LastModifiedTime": endpoint.modified_unix_s,
        }
        config = self._account.configs.get(endpoint.config_name, {})
        capture = config.get("DataCaptureConfig")
        if isinstance(capture, dict):
            answer["DataCaptureConfig"] = {
                "EnableCapture": bool(capture.get("EnableCapture", False)),
                "CaptureStatus": "Started" if capture.get("EnableCapture") else "Stopped",
                "CurrentSamplingPercentage": capture.get("InitialSamplingPercentage", 0),
                "DestinationS3Uri": capture.get("DestinationS3Uri", ""),
                "KmsKeyId": capture.get("KmsKeyId", ""),
            }
        if endpoint.failure_reason is not None:
            answer["FailureReason"] = endpoint.failure_reason
        if endpoint.deployment_config is not None:
            answer["LastDeploymentConfig"] = endpoint.deployment_config
        if endpoint.rollout is not None:
            answer["PendingDeploymentSummary"] = endpoint.rollout.summary(
                endpoint.modified_unix_s,
                [
                    {**_summary(v, endpoint), "InstanceType": v.config["InstanceType"]}
                    for v in endpoint.rollout.variants.values()
                ],
            )
        return answer

    def _list_endpoints(self, params: Params) -> Json:
        self._account.refresh()
        rows = [
            {
                "EndpointName": e.name,
                "EndpointArn": e.arn,
                "CreationTime": e.created_unix_s,
                "LastModifiedTime": e.modified_unix_s,
                "EndpointStatus": e.status,
            }
            for e in self._account.endpoints.values()
        ]
        status = params.maybe_text("StatusEquals")
        rows = [r for r in rows if status is None or r["EndpointStatus"] == status]
        return page("Endpoints", rows, "EndpointName", params)

    def _not_in_progress(self, endpoint: Endpoint) -> None:
        if endpoint.status not in ("InService", "UpdateRollbackFailed"):
            raise validation(f'Cannot update in-progress endpoint "{endpoint.arn}".')

    def _update_endpoint(self, params: Params) -> Json:
        endpoint = self._endpoint(params)
        self._not_in_progress(endpoint)
        config = self._config(params)
        account = self._account
        excluded = {
            p.text("VariantPropertyType")
            for p in params.structures("ExcludeRetainedVariantProperties")
        }
        retain = params.flag("RetainAllVariantProperties")
        self._check_config_quota(config)
        self._refuse_other_types(endpoint, config)
        old = endpoint.variants
        counts = {p["VariantName"]: p["InitialInstanceCount"] for p in config["ProductionVariants"]}
        if retain and "DesiredInstanceCount" not in excluded:
            counts |= {name: old[name].desired for name in counts.keys() & old.keys()}
        deployment = self._deployment(endpoint, params, sum(counts.values()))
        config_name = config["EndpointConfigName"]
        new = account.make_variants(endpoint.name, config_name)
        if retain and "DesiredWeight" not in excluded:
            for name in new.keys() & old.keys():
                new[name].weight = old[name].weight
        account.begin_update(
            endpoint, Rollout(new, config["EndpointConfigName"], deployment), counts
        )
        return {"EndpointArn": endpoint.arn}

    def _refuse_other_types(self, endpoint: Endpoint, config: Json) -> None:
        for production in config["ProductionVariants"]:
            current = endpoint.variants.get(production["VariantName"])
            changed = current and current.config["InstanceType"] != production["InstanceType"]
            if changed and self._account.is_scalable(endpoint.name, production["VariantName"]):
                raise validation(
                    f"The instance type of variant {production['VariantName']} cannot be changed "
                    "while it is registered as a scalable target. Deregister it first."
                )

    def _deployment(self, endpoint: Endpoint, params: Params, instance_count: int) -> Deployment:
        """How the traffic is to be moved; what it was last time, when that is asked for."""
        config = params.structure("DeploymentConfig")
        if config is None and params.flag("RetainDeploymentConfig"):
            config = Params(endpoint.deployment_config or {}, "deploymentConfig")
        deployment = deployment_of(config, instance_count)
        for name in deployment.alarms:
            if self._account.alarm_state(name) is None:
                raise validation(f"Could not find the CloudWatch alarm {name}.")
        endpoint.deployment_config = None if config is None else config.data or None
        return deployment

    def _update_weights_and_capacities(self, params: Params) -> Json:
        endpoint = self._endpoint(params)
        wishes = params.structures("DesiredWeightsAndCapacities", required=True)
        if not wishes:
            raise validation("DesiredWeightsAndCapacities must have at least one member.")
        weights: dict[str, float] = {}
        counts: dict[str, int] = {}
        for wish in wishes:
            name = wish.text("VariantName", pattern=NAME)
            if name not in endpoint.variants:
                raise validation(f'Variant "{name}" does not exist in endpoint "{endpoint.arn}".')
            if wish.has("DesiredWeight"):
                weights[name] = wish.number("DesiredWeight")
                if weights[name] < 0.0:
                    raise validation("DesiredWeight must not be negative.")
            if wish.has("DesiredInstanceCount"):
                counts[name] = wish.integer("DesiredInstanceCount")
        if not weights and not counts:
            raise validation("Either DesiredWeight or DesiredInstanceCount must be specified.")
        if len(counts) > 1:
            raise validation("Only one variant's capacity can be updated per request.")
        self._not_in_progress(endpoint)
        for name, count in counts.items():
            self._change_count(endpoint, name, count)
        for name, weight in weights.items():
            endpoint.variants[name].weight = weight
        return {"EndpointArn": endpoint.arn}

    def _change_count(self, endpoint: Endpoint, name: str, count: int) -> None:
        variant = endpoint.variants[name]
        if count == 0:
            raise validation(
                f"DesiredInstanceCount for variant {name} must be at least 1 for endpoints "
                "without inference components."
            )
        self._account.check_quota(variant.config["InstanceType"], count - variant.desired)
        endpoint.failure_reason = None
        self._account.set_counts(endpoint, {name: count})

    def _delete_endpoint(self, params: Params) -> None:
        endpoint = self._endpoint(params)
        if endpoint.status in ("Creating", "Updating", "RollingBack", "SystemUpdating"):
            raise validation(f'Cannot update in-progress endpoint "{endpoint.arn}".')
        now = self._account.clock.now_unix_s()
        endpoint.status = "Deleting"
        endpoint.modified_unix_s = now
        endpoint.delete_at_unix_s = now + self._account.clock.wall_duration_s(1.0)

    # -- tags -----------------------------------------------------------------------------

    def _tag(self, arn: str, params: Params) -> None:
        kept = self._account.tags.setdefault(arn, {})
        kept.update({t.text("Key"): t.text("Value") for t in params.structures("Tags")})

    def _tags(self, arn: str) -> list[Json]:
        return [{"Key": k, "Value": v} for k, v in self._account.tags.get(arn, {}).items()]

    def _add_tags(self, params: Params) -> Json:
        arn = params.text("ResourceArn")
        self._tag(arn, params)
        return {"Tags": self._tags(arn)}

    def _list_tags(self, params: Params) -> Json:
        return {"Tags": self._tags(params.text("ResourceArn"))}

    def _delete_tags(self, params: Params) -> Json:
        kept = self._account.tags.get(params.text("ResourceArn"), {})
        for key in params.texts("TagKeys"):
            kept.pop(key, None)
        return {}


def _initial_counts(variants: dict[str, Variant]) -> dict[str, int]:
    return {name: int(v.config["InitialInstanceCount"]) for name, v in variants.items()}


def _summary(variant: Variant, endpoint: Endpoint) -> Json:
    """ProductionVariantSummary: desired moves at once, current when instances are there."""
    summary: Json = {
        "VariantName": variant.name,
        "DeployedImages": [],
        "CurrentWeight": variant.weight,
        "DesiredWeight": variant.weight,
        "CurrentInstanceCount": variant.backend.in_service,
        "DesiredInstanceCount": variant.desired,
    }
    if "RoutingConfig" in variant.config:
        summary["RoutingConfig"] = variant.config["RoutingConfig"]
    if endpoint.status in ("Creating", "Updating"):
        summary["VariantStatus"] = [
            {"Status": endpoint.status, "StartTime": endpoint.modified_unix_s}
        ]
    return summary
