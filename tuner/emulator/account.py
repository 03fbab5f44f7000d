"""The emulated account: models, endpoint configurations, endpoints and how they change."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import numpy as np

from tuner.autoscaling.activity import AlarmState
from tuner.emulator.backend import Backend
from tuner.emulator.endpoint import Endpoint, Rollback, Rollout, Variant
from tuner.emulator.errors import AwsError, validation
from tuner.emulator.metrics import VariantMetrics
from tuner.emulator.spec import EmulatorSpec, FaultKind, VariantSpec
from tuner.emulator.timing import ControlClock
from tuner.fleet.spec import FleetSpec

BackendFactory = Callable[[FleetSpec, np.random.Generator], Backend]
"""``factory(spec, rng)`` makes the backend of one variant."""


class Account:
    """State of one account in one region."""

    def __init__(
        self, spec: EmulatorSpec, clock: ControlClock, make_backend: BackendFactory
    ) -> None:
        self.spec = spec
        self.clock = clock
        self.models: dict[str, dict[str, Any]] = {}
        self.configs: dict[str, dict[str, Any]] = {}
        self.endpoints: dict[str, Endpoint] = {}
        self.tags: dict[str, dict[str, str]] = {}
        self._launch_faults: set[FaultKind] = set()
        self._rng = np.random.default_rng(spec.seed)
        self._make_backend = make_backend
        self.is_scalable: Callable[[str, str], bool] = lambda endpoint, variant: False
        self.alarm_state: Callable[[str], AlarmState | None] = lambda name: None
        self._closing: set[asyncio.Task[None]] = set()

    def arn(self, kind: str, name: str) -> str:
        """The ARN of a SageMaker resource."""
        return f"arn:aws:sagemaker:{self.spec.region}:{self.spec.account_id}:{kind}/{name}"

    def alarm_arn(self, name: str) -> str:
        """The ARN of a CloudWatch alarm."""
        return f"arn:aws:cloudwatch:{self.spec.region}:{self.spec.account_id}:alarm:{name}"

    # -- making ---------------------------------------------------------------------------

    def install(self) -> None:
        """Put the specification's endpoints there, InService."""
        spec = self.spec
        now = self.clock.now_unix_s()
        registry = f"{spec.account_id}.dkr.ecr.{spec.region}.amazonaws.com"
        model = f"{spec.endpoint_name}-model"
        config = f"{spec.endpoint_name}-config"
        self.models[model] = {
            "ModelName": model,
            "ModelArn": self.arn("model", model),
            "PrimaryContainer": {"Image": f"{registry}/model:1", **self._many_models()},
            "ExecutionRoleArn": f"arn:aws:iam::{spec.account_id}:role/SageMakerRole",
            "CreationTime": now,
        }
        productions = [
            {
                "VariantName": v.name,
                "ModelName": model,
                "InitialInstanceCount": v.fleet.instance_count,
                "InstanceType": v.instance_type,
                "InitialVariantWeight": v.weight,
                "RoutingConfig": {"RoutingStrategy": v.fleet.routing.value},
            }
            for v in spec.variants
        ]
        self._install_endpoint(spec.endpoint_name, config, productions, None)
        for percent in spec.capture.sampling_percents:
            name = f"{spec.endpoint_name}-capture-{percent}"
            capture = {
                "EnableCapture": percent > 0,
                "InitialSamplingPercentage": percent,
                "DestinationS3Uri": "s3://capture/records",
                "CaptureOptions": [{"CaptureMode": "Input"}, {"CaptureMode": "Output"}],
            }
            self._install_endpoint(name, f"{name}-config", productions, capture)

    def _many_models(self) -> dict[str, Any]:
        if self.spec.variants[0].fleet.instance.models is None:
            return {}
        return {
            "Mode": "MultiModel",
            "ModelDataUrl": "s3://models/",
            "MultiModelConfig": {"ModelCacheSetting": "Enabled"},
        }

    def _install_endpoint(
        self,
        name: str,
        config: str,
        productions: list[dict[str, Any]],
        capture: dict[str, Any] | None,
    ) -> None:
        now = self.clock.now_unix_s()
        self.configs[config] = {
            "EndpointConfigName": config,
            "EndpointConfigArn": self.arn("endpoint-config", config),
            "ProductionVariants": productions,
            **({} if capture is None else {"DataCaptureConfig": capture}),
            "CreationTime": now,
        }
        variants = {
            v.name: self._variant(name, production, v.fleet.instance_count, v)
            for v, production in zip(self.spec.variants, productions, strict=True)
        }
        settled = all(v.settled for v in variants.values())
        status = "InService" if settled else "Creating"
        arn = self.arn("endpoint", name)
        self.endpoints[name] = Endpoint(name, arn, config, variants, status, now, now)

    def make_variants(self, endpoint: str, config_name: str) -> dict[str, Variant]:
        """New variants of a configuration, with no instance yet."""
        productions = self.configs[config_name]["ProductionVariants"]
        return {p["VariantName"]: self._variant(endpoint, p, 0, None) for p in productions}

    def _variant(
        self, endpoint: str, production: dict[str, Any], count: int, spec: VariantSpec | None
    ) -> Variant:
        templates = self.spec.variants
        kind = production.get("InstanceType", templates[0].instance_type)
        found = spec or next((v for v in templates if v.instance_type == kind), templates[0])
        fleet = found.fleet
        routing = production.get("RoutingConfig", {}).get("RoutingStrategy", "RANDOM")
        fleet = FleetSpec(
            fleet.instance,
            instance_count=count,
            routing=type(fleet.routing)(routing),
            launch_lag=fleet.launch_lag.scaled(1.0 / self.clock.speed),
            drain_s=fleet.drain_s,
            timeout_s=fleet.timeout_s,
            zones=fleet.zones,
        )
        name = production["VariantName"]
        backend = self._make_backend(fleet, self._rng.spawn(1)[0])
        metrics = VariantMetrics(self.clock.speed)
        weight = float(production.get("InitialVariantWeight", 1.0))
        return Variant(name, production, found, backend, metrics, weight, count)

    # -- finding --------------------------------------------------------------------------

    def endpoint(self, name: str) -> Endpoint:
        """The endpoint, brought up to date.

        Raises
        ------
        AwsError
            If there is none.
        """
        self.refresh()
        found = self.endpoints.get(name)
        if found is None:
            raise validation(f'Could not find endpoint "{self.arn("endpoint", name)}".')
        return found

    def in_use(self, instance_type: str) -> int:
        """Instances of a type that count against the quota."""
        return sum(
            v.desired
            for e in self.endpoints.values()
            for v in e.fleets
            if v.config.get("InstanceType") == instance_type
        )

    def check_quota(self, instance_type: str, delta: int) -> None:
        """Refuse what the quota does not allow.

        Raises
        ------
        AwsError
            ResourceLimitExceeded.
        """
        used, quota = self.in_use(instance_type), self.spec.instance_quota
        if delta > 0 and used + delta > quota:
            raise AwsError(
                "ResourceLimitExceeded",
                f"The account-level service limit '{instance_type} for endpoint usage' is {quota} "
                f"Instances, with current utilization of {used} Instances and a request delta of "
                f"{delta} Instances. Please use AWS Service Quotas to request an increase for "
                "this quota.",
            )

    # -- changing -------------------------------------------------------------------------

    def set_counts(self, endpoint: Endpoint, counts: dict[str, int]) -> None:
        """Order instance counts: Updating until they are there, or until the order fails."""
        now = self.clock.now_unix_s()
        before = {name: endpoint.variants[name].desired for name in counts}
        grows = any(count > before[name] for name, count in counts.items())
        for name, count in counts.items():
            endpoint.variants[name].desired = count
        endpoint.status = "Updating"
        endpoint.modified_unix_s = now
        if grows and self._will_fail(endpoint, before):
            return
        if grows and FaultKind.STUCK_LAUNCH in self._launch_faults:
            return
        for name, count in counts.items():
            endpoint.variants[name].backend.set_instance_count(count)

    def begin_update(self, endpoint: Endpoint, rollout: Rollout, counts: dict[str, int]) -> None:
        """Blue/green: launch a second fleet, which takes over when it is complete."""
        endpoint.rollout = rollout
        for name in rollout.variants.keys() & endpoint.variants.keys():
            rollout.variants[name].metrics = endpoint.variants[name].metrics
        for variant in endpoint.fleets:
            if variant.own is None:
                variant.own = VariantMetrics(self.clock.speed)
        endpoint.status = "Updating"
        endpoint.failure_reason = None
        endpoint.modified_unix_s = self.clock.now_unix_s()
        fails = self._will_fail(endpoint, {n: v.desired for n, v in endpoint.variants.items()})
        for name, count in counts.items():
            rollout.variants[name].desired = count
            if not fails:
                rollout.variants[name].backend.set_instance_count(count)

    def _will_fail(self, endpoint: Endpoint, before: dict[str, int]) -> bool:
        """Whether launches fail now; then the endpoint rolls back to ``before`` after a lag."""
        fault = self._launch_faults & {FaultKind.NO_CAPACITY, FaultKind.ROLLBACK}
        if not fault:
            return False
        lag = next(iter(endpoint.variants.values())).spec.fleet.launch_lag.mean_s
        reason = (
            "Unable to provision requested ML compute capacity due to "
            "InsufficientInstanceCapacity error. Please retry using a different ML instance "
            "type or after some time."
            if FaultKind.NO_CAPACITY in fault
            else "The variant update did not pass the ping health check and was rolled back."
        )
        wait_s = self.clock.wall_duration_s(lag)
        endpoint.rollback = Rollback(self.clock.now_unix_s() + wait_s, before, reason)
        return True

    def refresh(self) -> None:
        """Let statuses follow what has happened since."""
        now = self.clock.now_unix_s()
        for endpoint in list(self.endpoints.values()):
            if now >= endpoint.delete_at_unix_s:
                self.remove(endpoint)
            elif endpoint.rollback is not None and now >= endpoint.rollback.at_unix_s:
                self._roll_back(endpoint, now)
            elif endpoint.arriving:
                self._arrive(endpoint, now)

    def _arrive(self, endpoint: Endpoint, now: float) -> None:
        """InService when every instance is there; back when one could not be launched."""
        rollout = endpoint.rollout
        coming = endpoint.variants if rollout is None else rollout.variants
        failures = [v.backend.take_failure() for v in coming.values()]
        failure = next((f for f in failures if f is not None), None)
        if failure is None and rollout is not None and rollout.baking:
            failure = self._tripped(rollout)
        if failure is not None and rollout is not None:
            before = {name: v.desired for name, v in endpoint.variants.items()}
            endpoint.rollback = Rollback(now, before, failure)
        elif failure is not None:
            counts = {n: max(v.backend.in_service, 1) for n, v in endpoint.variants.items()}
            endpoint.rollback = Rollback(now, counts, failure)
        elif rollout is not None:
            if rollout.advance(now, self.clock):
                self._switch(endpoint, rollout, now)
        elif all(v.settled for v in coming.values()):
            endpoint.status = "InService"
            endpoint.modified_unix_s = now

    def _tripped(self, rollout: Rollout) -> str | None:
        """Why a deployment has to be taken back, if an alarm of it says so."""
        for name in rollout.deployment.alarms:
            if self.alarm_state(name) is AlarmState.ALARM:
                return f"The deployment was rolled back because the alarm {name} tripped."
        return None

    def _roll_back(self, endpoint: Endpoint, now: float) -> None:
        """RollingBack first; InService again when the old counts stand."""
        assert endpoint.rollback is not None
        rollback, endpoint.rollback = endpoint.rollback, None
        endpoint.failure_reason = rollback.reason
        endpoint.modified_unix_s = now
        if endpoint.status == "Creating":
            endpoint.status = "Failed"
            return
        self._drop_rollout(endpoint)
        for name, count in rollback.counts.items():
            endpoint.variants[name].desired = count
            endpoint.variants[name].backend.set_instance_count(count)
        if endpoint.status == "RollingBack":
            endpoint.status = "InService"
            return
        endpoint.status = "RollingBack"
        wait_s = self.clock.wall_duration_s(1.0)
        endpoint.rollback = Rollback(now + wait_s, rollback.counts, rollback.reason)

    def _drop_rollout(self, endpoint: Endpoint) -> None:
        rollout, endpoint.rollout = endpoint.rollout, None
        for variant in rollout.variants.values() if rollout is not None else ():
            self.retire(variant)

    def _switch(self, endpoint: Endpoint, rollout: Rollout, now: float) -> None:
        """The new fleet has the traffic: the old one goes."""
        for variant in endpoint.variants.values():
            self.retire(variant)
        endpoint.variants = rollout.variants
        endpoint.config_name = rollout.config_name
        endpoint.rollout = None
        endpoint.status = "InService"
        endpoint.modified_unix_s = now

    def have_launch_faults(self, kinds: set[FaultKind]) -> None:
        """What befalls launches from now on; those that were stuck go on when they may."""
        freed = FaultKind.STUCK_LAUNCH in self._launch_faults - kinds
        self._launch_faults = kinds
        if freed:
            for endpoint in self.endpoints.values():
                for variant in endpoint.variants.values():
                    variant.backend.set_instance_count(variant.desired)

    def break_down(self, endpoint: Endpoint) -> None:
        """Failed, for good: what AWS shows when a change could not be rolled back."""
        for variant in endpoint.variants.values():
            variant.backend.set_instance_count(0)
        self._drop_rollout(endpoint)
        endpoint.rollback = None
        endpoint.status = "Failed"
        endpoint.failure_reason = "The endpoint failed: its instances could not be replaced."
        endpoint.modified_unix_s = self.clock.now_unix_s()

    def remove(self, endpoint: Endpoint) -> None:
        """It is gone."""
        for variant in endpoint.fleets:
            self.retire(variant)
        self.endpoints.pop(endpoint.name, None)

    def retire(self, variant: Variant) -> None:
        """Drain a variant's instances, then let its backend go."""
        variant.backend.set_instance_count(0)
        self._later(_close_drained(variant))

    def _later(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._closing.add(task)
        task.add_done_callback(self._closing.discard)

    async def close(self) -> None:
        """Let every backend go."""
        for task in self._closing:
            task.cancel()
        await asyncio.gather(*self._closing, return_exceptions=True)
        for endpoint in self.endpoints.values():
            for variant in endpoint.fleets:
                await variant.backend.close()


async def _close_drained(variant: Variant) -> None:
    try:
        await asyncio.sleep(variant.spec.fleet.drain_s + 1.0)
    finally:
        await variant.backend.close()
