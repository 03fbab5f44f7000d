"""A stand-in for the provider hashicorp/aws: its schema for seven resources, and no cloud.

Terraform talks to this program as to a plugin. Names, nesting, required, computed and replacing
attributes are those documented for release 6.25. What is created, updated and deleted goes,
in order, to the file named by STAND_IN_LOG, one JSON object per line.
"""

# ruff: noqa: N802 - the protocol names its methods
from __future__ import annotations

import json
import os
import sys
import uuid
from pathlib import Path
from typing import Any

import tf.provider
import tf.runner
from tf.gen import tfplugin_pb2 as pb
from tf.gen import tfplugin_pb2_grpc as rpc
from tf.types import Unknown
from tf.utils import read_dynamic_value, to_dynamic_value

S, N, B = "string", "number", "bool"
LIST, SET, MAP = ["list", S], ["set", S], ["map", S]
Spec = dict[str, Any]

# r required, o optional, c computed, f replaces the resource; =x default
COMMON: Spec = {"id": (S, "oc"), "region": (S, "ocf"), "arn": (S, "c")}
TAGS: Spec = {"tags": (MAP, "o"), "tags_all": (MAP, "oc")}
TARGETED: Spec = dict.fromkeys(
    ("resource_id", "scalable_dimension", "service_namespace"), (S, "rf")
)


def block(attrs: Spec, blocks: Spec | None = None, mode: str = "LIST") -> Spec:
    return {"attrs": attrs, "blocks": blocks or {}, "mode": mode}


def strings(flags: str, *names: str) -> Spec:
    return dict.fromkeys(names, (S, flags))


SIZE = block({"type": (S, "r"), "value": (N, "r")})
VARIANT = block(
    {
        **strings("of", "model_name", "instance_type", "accelerator_type", "inference_ami_version"),
        "variant_name": (S, "ocf"),
        "initial_instance_count": (N, "of"),
        "initial_variant_weight": (N, "of"),
        "container_startup_health_check_timeout_in_seconds": (N, "of"),
        "model_data_download_timeout_in_seconds": (N, "of"),
        "volume_size_in_gb": (N, "of"),
        "enable_ssm_access": (B, "of"),
    },
    {
        "routing_config": block({"routing_strategy": (S, "rf")}),
        "managed_instance_scaling": block(
            {"status": (S, "of"), "min_instance_count": (N, "of"), "max_instance_count": (N, "of")}
        ),
    },
)
CONTAINER = block(
    {
        **strings("of", "image", "mode", "model_data_url", "model_package_name"),
        **strings("of", "container_hostname", "inference_specification_name"),
        "environment": (MAP, "of"),
    }
)
CAPTURE = block(
    {
        "enable_capture": (B, "of"),
        "initial_sampling_percentage": (N, "rf"),
        "destination_s3_uri": (S, "rf"),
        "kms_key_id": (S, "of"),
    },
    {
        "capture_options": block({"capture_mode": (S, "rf")}),
        "capture_content_type_header": block(
            {"csv_content_types": (SET, "of"), "json_content_types": (SET, "of")}
        ),
    },
)
ROUTING = block(
    {"type": (S, "r"), "wait_interval_in_seconds": (N, "r")},
    {"canary_size": SIZE, "linear_step_size": SIZE},
)
DEPLOYMENT = block(
    {},
    {
        "auto_rollback_configuration": block(
            {}, {"alarms": block({"alarm_name": (S, "r")}, mode="SET")}
        ),
        "blue_green_update_policy": block(
            {
                "maximum_execution_timeout_in_seconds": (N, "o"),
                "termination_wait_in_seconds": (N, "o"),
            },
            {"traffic_routing_configuration": ROUTING},
        ),
    },
)
TRACKING = block(
    {
        "target_value": (N, "r"),
        "scale_in_cooldown": (N, "o"),
        "scale_out_cooldown": (N, "o"),
        "disable_scale_in": (B, "o"),
    },
    {
        "predefined_metric_specification": block(
            {"predefined_metric_type": (S, "r"), "resource_label": (S, "o")}
        ),
        "customized_metric_specification": block(
            strings("o", "metric_name", "namespace", "statistic", "unit"),
            {"dimensions": block(strings("r", "name", "value"), mode="SET")},
        ),
    },
)
RESOURCES: dict[str, Spec] = {
    "aws_sagemaker_model": block(
        {
            **COMMON,
            **TAGS,
            "name": (S, "ocf"),
            "execution_role_arn": (S, "rf"),
            "enable_network_isolation": (B, "of"),
        },
        {"primary_container": CONTAINER, "container": CONTAINER},
    ),
    "aws_sagemaker_endpoint_configuration": block(
        {
            **COMMON,
            **TAGS,
            **strings("ocf", "name", "name_prefix"),
            **strings("of", "execution_role_arn", "kms_key_arn"),
        },
        {"production_variants": VARIANT, "data_capture_config": CAPTURE},
    ),
    "aws_sagemaker_endpoint": block(
        {**COMMON, **TAGS, "name": (S, "ocf"), "endpoint_config_name": (S, "r")},
        {"deployment_config": DEPLOYMENT},
    ),
    "aws_appautoscaling_target": block(
        {
            **COMMON,
            **TAGS,
            **TARGETED,
            "min_capacity": (N, "r"),
            "max_capacity": (N, "r"),
            "role_arn": (S, "oc"),
        }
    ),
    "aws_appautoscaling_policy": block(
        {
            **COMMON,
            **TARGETED,
            "name": (S, "rf"),
            "policy_type": (S, "o=StepScaling"),
            "alarm_arns": (LIST, "c"),
        },
        {"target_tracking_scaling_policy_configuration": TRACKING},
    ),
    "aws_cloudwatch_metric_alarm": block(
        {
            **COMMON,
            **TAGS,
            "alarm_name": (S, "rf"),
            **strings("o", "alarm_description", "namespace", "metric_name", "statistic"),
            **strings("o", "extended_statistic", "unit"),
            "comparison_operator": (S, "r"),
            "threshold": (N, "o"),
            "period": (N, "o"),
            "evaluation_periods": (N, "r"),
            "datapoints_to_alarm": (N, "oc"),
            "treat_missing_data": (S, "o=missing"),
            "dimensions": (MAP, "o"),
        }
    ),
    "aws_appautoscaling_scheduled_action": block(
        {
            **COMMON,
            **TARGETED,
            "name": (S, "rf"),
            "schedule": (S, "r"),
            **strings("o", "start_time", "end_time"),
            "timezone": (S, "o=UTC"),
        },
        {"scalable_target_action": block(strings("o", "min_capacity", "max_capacity"))},
    ),
}


def schema_of(spec: Spec) -> Any:
    attributes = [
        pb.Schema.Attribute(
            name=name,
            type=json.dumps(kind).encode(),
            required="r" in flags.split("=")[0],
            optional="o" in flags.split("=")[0],
            computed="c" in flags.split("=")[0] or "=" in flags,
        )
        for name, (kind, flags) in spec["attrs"].items()
    ]
    nested = [
        pb.Schema.NestedBlock(
            type_name=name,
            nesting=getattr(pb.Schema.NestedBlock.NestingMode, inner["mode"]),
            block=schema_of(inner),
        )
        for name, inner in spec["blocks"].items()
    ]
    return pb.Schema.Block(attributes=attributes, block_types=nested)


def replacing(spec: Spec, old: Spec, new: Spec, path: list[Any]) -> list[list[Any]]:
    """Paths of changed attributes that need a new resource."""
    found = [
        [*path, name]
        for name, (_, flags) in spec["attrs"].items()
        if "f" in flags.split("=")[0] and old.get(name) != new.get(name)
    ]
    for name, inner in spec["blocks"].items():
        before, after = old.get(name) or [], new.get(name) or []
        forces = any("f" in flags.split("=")[0] for _, flags in inner["attrs"].values())
        if len(before) != len(after):
            found += [[*path, name]] if forces else []
            continue
        for i, (x, y) in enumerate(zip(before, after, strict=True)):
            found += replacing(inner, x, y, [*path, name, i])
    return found


def attribute_path(parts: list[Any]) -> Any:
    step = pb.AttributePath.Step
    return pb.AttributePath(
        steps=[
            step(element_key_int=p) if isinstance(p, int) else step(attribute_name=p) for p in parts
        ]
    )


def note(do: str, kind: str, value: Spec) -> None:
    with Path(os.environ["STAND_IN_LOG"]).open("a") as log:
        log.write(json.dumps({"do": do, "kind": kind, "value": value}, default=str) + "\n")


def computed(kind: str, name: str, value: Spec, ident: str) -> Any:
    fixed = {"alarm_arns": ["high", "low"], "tags_all": value.get("tags") or {}, "name_prefix": ""}
    if name in fixed:
        return fixed[name]
    if name == "name" and isinstance(value.get("name_prefix"), str):
        return value["name_prefix"] + ident
    return f"{kind}-{name}-{ident}"


class StandIn(rpc.ProviderServicer):
    def __init__(self, app: object) -> None:
        del app

    def GetMetadata(self, request: Any, context: Any) -> Any:
        kind = pb.GetMetadata.ResourceMetadata
        return pb.GetMetadata.Response(resources=[kind(type_name=n) for n in RESOURCES])

    def GetProviderSchema(self, request: Any, context: Any) -> Any:
        own = pb.Schema(block=schema_of(block({"region": (S, "o")})))
        return pb.GetProviderSchema.Response(
            provider=own,
            resource_schemas={n: pb.Schema(block=schema_of(s)) for n, s in RESOURCES.items()},
        )

    def ValidateProviderConfig(self, request: Any, context: Any) -> Any:
        return pb.ValidateProviderConfig.Response()

    def ValidateResourceConfig(self, request: Any, context: Any) -> Any:
        return pb.ValidateResourceConfig.Response()

    def ConfigureProvider(self, request: Any, context: Any) -> Any:
        return pb.ConfigureProvider.Response()

    def UpgradeResourceState(self, request: Any, context: Any) -> Any:
        state = to_dynamic_value(json.loads(request.raw_state.json))
        return pb.UpgradeResourceState.Response(upgraded_state=state)

    def ReadResource(self, request: Any, context: Any) -> Any:
        return pb.ReadResource.Response(new_state=request.current_state, private=request.private)

    def PlanResourceChange(self, request: Any, context: Any) -> Any:
        spec = RESOURCES[request.type_name]
        new = read_dynamic_value(request.proposed_new_state)
        old = read_dynamic_value(request.prior_state)
        if new is None:
            return pb.PlanResourceChange.Response(planned_state=request.proposed_new_state)
        for name, (_, flags) in spec["attrs"].items():
            kinds, _, default = flags.partition("=")
            if new.get(name) is None and (default or "c" in kinds):
                new[name] = default or Unknown
        paths = replacing(spec, old, new, []) if old is not None else []
        return pb.PlanResourceChange.Response(
            planned_state=to_dynamic_value(new),
            requires_replace=[attribute_path(p) for p in paths],
        )

    def ApplyResourceChange(self, request: Any, context: Any) -> Any:
        kind = request.type_name
        new = read_dynamic_value(request.planned_state)
        old = read_dynamic_value(request.prior_state)
        if new is None:
            note("delete", kind, old)
            return pb.ApplyResourceChange.Response(new_state=request.planned_state)
        ident = uuid.uuid4().hex[:8]
        for name in [n for n, v in new.items() if v is Unknown]:
            new[name] = computed(kind, name, new, ident)
        note("create" if old is None else "update", kind, new)
        return pb.ApplyResourceChange.Response(new_state=to_dynamic_value(new))

    def StopProvider(self, request: Any, context: Any) -> Any:
        return pb.StopProvider.Response()


class App:
    def full_name(self) -> str:
        return "registry.terraform.io/hashicorp/aws"


if __name__ == "__main__":
    tf.provider.ProviderServicer = StandIn
    tf.runner.run_provider(App(), sys.argv)
