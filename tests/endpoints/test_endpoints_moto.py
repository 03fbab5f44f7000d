"""The driver against moto's server, whose state stock boto3 reads before and after."""

from __future__ import annotations

import pytest
from moto_account import FLAGS, KEY, NAME, REGION, VARIANT, Account

from tuner.campaign.types import Routing
from tuner.endpoints.describe import production_reason
from tuner.endpoints.protocol import CampaignEstimate, Endpoint, GoneError, TaintedError
from tuner.endpoints.records import (
    CHANGE_COUNT,
    CHANGE_SUSPENDED,
    RestoreRecord,
    SuspendedState,
)
from tuner.endpoints.sagemaker import SageMakerEndpoint
from tuner.errors import EndpointError, RunDirectoryError


class Journal:
    """Records in the order they were written, as the text a journal would keep."""

    def __init__(self) -> None:
        self.texts: list[str] = []

    def __call__(self, record: RestoreRecord) -> None:
        self.texts.append(record.to_json())

    @property
    def last(self) -> RestoreRecord:
        return RestoreRecord.from_json(self.texts[-1])


def driver(account: Account, name: str = NAME, variant: str | None = None) -> SageMakerEndpoint:
    return SageMakerEndpoint(
        name, variant, account.region, endpoint_url=account.url, poll_interval_s=0.001
    )


def test_describes_the_variant_as_boto3_made_it(account: Account) -> None:
    account.create(
        count=3,
        tags={"team": "churn"},
        RoutingConfig={"RoutingStrategy": "LEAST_OUTSTANDING_REQUESTS"},
    )
    state = driver(account).describe()
    assert (state.name, state.variant, state.status) == (NAME, VARIANT, "InService")
    assert (state.current_instance_count, state.desired_instance_count) == (3, 3)
    assert state.instance_type == "ml.m5.xlarge"
    assert state.routing is Routing.LEAST_OUTSTANDING_REQUESTS
    assert state.config_name == f"{NAME}-config"
    assert state.tags == (("team", "churn"),)
    assert state.settled
    assert not state.production
    assert not state.serverless
    assert not state.inference_components


def test_the_driver_keeps_the_protocol(account: Account) -> None:
    account.create()
    endpoint: Endpoint = driver(account)
    assert endpoint.describe().variant == VARIANT


def test_reads_all_that_is_registered(account: Account) -> None:
    account.create()
    assert not driver(account).scaling().registered
    account.scale(low=2, high=8)
    scaling = driver(account).scaling()
    assert (scaling.registered, scaling.min_capacity, scaling.max_capacity) == (True, 2, 8)
    assert [(p.name, p.kind) for p in scaling.policies] == [
        ("by-invocations", "TargetTrackingScaling"),
        ("steps", "StepScaling"),
    ]
    body = scaling.policies[0].arguments["TargetTrackingScalingPolicyConfiguration"]
    assert body["TargetValue"] == 750.0
    assert [a.name for a in scaling.scheduled_actions] == ["morning"]
    assert not scaling.suspended.any_suspended


def test_a_stored_policy_definition_can_be_put_again(account: Account) -> None:
    account.create()
    account.scale()
    before = account.snapshot()
    for definition in driver(account).scaling().policies:
        account.autoscaling.delete_scaling_policy(PolicyName=definition.name, **KEY)
        account.autoscaling.put_scaling_policy(**KEY, **definition.arguments)
    assert account.snapshot() == before


def test_freeze_set_restore_leaves_everything_as_it_was(account: Account) -> None:
    account.create(count=3)
    account.scale()
    before = account.snapshot()
    journal = Journal()
    endpoint = driver(account)
    endpoint.freeze(journal)
    frozen = account.snapshot()
    assert all(frozen["flags"][0][k] for k in FLAGS)
    assert frozen["bounds"] == before["bounds"]
    for count in (1, 2, 4, 10):
        event = endpoint.set_instance_count(count)
        assert event.to_count == count
        assert account.snapshot()["counts"] == [(count, count)]
    report = endpoint.restore(journal.last)
    assert report.complete
    assert report.differences == ()
    assert account.snapshot() == before


def test_the_record_is_written_before_anything_changes(account: Account) -> None:
    account.create(count=3)
    account.scale()
    before = account.snapshot()
    seen: list[tuple[tuple[str, ...], object]] = []
    endpoint = driver(account)
    endpoint.freeze(lambda r: seen.append((r.changed, account.snapshot())))
    assert seen == [((CHANGE_SUSPENDED,), before)]
    frozen = account.snapshot()
    endpoint.set_instance_count(5)
    assert seen[1:] == [((CHANGE_SUSPENDED, CHANGE_COUNT), frozen)]
    endpoint.set_instance_count(6)
    assert len(seen) == 2


def test_a_record_that_cannot_be_written_changes_nothing(account: Account) -> None:
    account.create()
    account.scale()
    before = account.snapshot()

    def full_disk(record: RestoreRecord) -> None:
        raise OSError(28, "No space left on device")

    with pytest.raises(OSError, match="No space"):
        driver(account).freeze(full_disk)
    assert account.snapshot() == before


def test_restore_from_a_fresh_process_and_again(account: Account) -> None:
    account.create(count=3)
    account.scale()
    before = account.snapshot()
    journal = Journal()
    first = driver(account)
    first.freeze(journal)
    first.set_instance_count(7)
    fresh = SageMakerEndpoint.from_record(journal.last, poll_interval_s=0.001)
    report = fresh.restore(journal.last)
    assert report.actions == (
        "set the instance count from 7 back to 3",
        "resumed scaling as it was",
    )
    assert account.snapshot() == before
    again = fresh.restore(journal.last)
    assert (again.complete, again.actions, again.differences) == (True, (), ())


def test_what_is_put_back_is_forgotten_so_that_policies_may_scale_again(
    account: Account,
) -> None:
    account.create(count=3)
    account.scale()
    journal = Journal()
    endpoint = driver(account)
    endpoint.freeze(journal)
    endpoint.set_instance_count(7)
    endpoint.restore(journal.last)
    assert [RestoreRecord.from_json(t).changed for t in journal.texts[-3:]] == [
        (CHANGE_SUSPENDED, CHANGE_COUNT),
        (CHANGE_SUSPENDED,),
        (),
    ]
    account.sagemaker.update_endpoint_weights_and_capacities(
        EndpointName=NAME,
        DesiredWeightsAndCapacities=[{"VariantName": VARIANT, "DesiredInstanceCount": 5}],
    )
    report = driver(account).restore(journal.last)
    assert (report.actions, report.differences) == ((), ())
    assert account.snapshot()["counts"] == [(5, 5)]


def test_an_endpoint_without_scaling_gets_its_count_back(account: Account) -> None:
    account.create(count=2)
    before = account.snapshot()
    journal = Journal()
    endpoint = driver(account)
    endpoint.freeze(journal)
    endpoint.set_instance_count(4)
    assert journal.last.changed == (CHANGE_COUNT,)
    assert endpoint.restore(journal.last).complete
    assert account.snapshot() == before


def test_suspensions_of_others_stay(account: Account) -> None:
    account.create(count=3)
    account.scale()
    account.autoscaling.register_scalable_target(
        **KEY, SuspendedState={"DynamicScalingInSuspended": True}
    )
    before = account.snapshot()
    journal = Journal()
    endpoint = driver(account)
    endpoint.freeze(journal)
    assert all(account.snapshot()["flags"][0].values())
    endpoint.set_instance_count(2)
    endpoint.restore(journal.last)
    assert account.snapshot() == before


def test_a_resumed_run_keeps_the_first_record(account: Account) -> None:
    account.create(count=3)
    account.scale()
    before = account.snapshot()
    journal = Journal()
    killed = driver(account)
    killed.freeze(journal)
    killed.set_instance_count(1)
    resumed = driver(account)
    resumed.freeze(journal, earlier=journal.last)
    resumed.set_instance_count(6)
    assert journal.last.instance_count == 3
    resumed.restore(journal.last)
    assert account.snapshot() == before


def test_changes_by_others_are_reported_and_left_alone(account: Account) -> None:
    account.create(count=3)
    account.scale()
    journal = Journal()
    endpoint = driver(account)
    endpoint.freeze(journal)
    endpoint.set_instance_count(4)
    account.autoscaling.register_scalable_target(**KEY, MinCapacity=2, MaxCapacity=12)
    account.autoscaling.delete_scaling_policy(PolicyName="steps", **KEY)
    report = endpoint.restore(journal.last)
    assert report.complete
    assert [(d.field, d.by_tuner) for d in report.differences] == [
        ("capacity bounds", False),
        ("policy steps", False),
    ]
    assert account.snapshot()["bounds"] == [(2, 12)]
    assert not any(account.snapshot()["flags"][0].values())


def test_restoring_a_deleted_endpoint_ends(account: Account) -> None:
    account.create()
    journal = Journal()
    endpoint = driver(account)
    endpoint.freeze(journal)
    account.sagemaker.delete_endpoint(EndpointName=NAME)
    report = endpoint.restore(journal.last)
    assert report.complete
    assert [d.field for d in report.differences] == ["endpoint"]


def test_a_deregistered_target_is_not_made_again(account: Account) -> None:
    account.create(count=3)
    account.scale()
    journal = Journal()
    endpoint = driver(account)
    endpoint.freeze(journal)
    account.autoscaling.deregister_scalable_target(**KEY)
    report = endpoint.restore(journal.last)
    assert [d.field for d in report.differences] == ["scalable target"]
    assert account.snapshot()["bounds"] == []


def test_no_count_is_set_without_a_record(account: Account) -> None:
    account.create()
    before = account.snapshot()
    with pytest.raises(EndpointError, match="not recorded"):
        driver(account).set_instance_count(4)
    assert account.snapshot() == before


def test_no_count_is_set_while_scaling_is_live(account: Account) -> None:
    account.create()
    account.scale()
    endpoint = driver(account)
    endpoint.freeze(Journal())
    account.autoscaling.register_scalable_target(
        **KEY,
        SuspendedState=dict.fromkeys(FLAGS, False),
    )
    with pytest.raises(TaintedError, match="not suspended"):
        endpoint.set_instance_count(4)
    assert account.snapshot()["counts"] == [(2, 2)]


@pytest.mark.parametrize("count", [0, -1])
def test_a_count_below_one_is_refused(account: Account, count: int) -> None:
    with pytest.raises(EndpointError, match="at least one instance"):
        driver(account).set_instance_count(count)


def test_a_missing_endpoint_is_named(account: Account) -> None:
    with pytest.raises(GoneError) as caught:
        driver(account, "nobody").describe()
    assert caught.value.value == "nobody"
    assert REGION in str(caught.value)
    assert caught.value.exit_code == 2


def test_a_missing_variant_is_named_with_those_there_are(account: Account) -> None:
    account.create()
    with pytest.raises(EndpointError) as caught:
        driver(account, variant="Blue").describe()
    assert caught.value.allowed == VARIANT


@pytest.mark.parametrize("name", ["", "a_b", "-a", "a-", "x" * 64, "a/b", "ä"])
def test_a_name_aws_would_refuse_is_refused_here(account: Account, name: str) -> None:
    with pytest.raises(EndpointError, match="not a name"):
        driver(account, name)


def test_serverless_is_refused_before_anything_changes(account: Account) -> None:
    account.create(
        InstanceType=None,
        InitialInstanceCount=None,
        ServerlessConfig={"MemorySizeInMB": 2048, "MaxConcurrency": 5},
    )
    journal = Journal()
    with pytest.raises(EndpointError, match="serverless"):
        driver(account).freeze(journal)
    assert journal.texts == []


def test_a_record_of_another_endpoint_is_refused(account: Account) -> None:
    account.create()
    account.create("other", count=4)
    journal = Journal()
    driver(account).freeze(journal)
    with pytest.raises(EndpointError, match="another endpoint"):
        driver(account, "other").restore(journal.last)


def test_the_record_survives_json_byte_for_byte(account: Account) -> None:
    account.create(count=3)
    account.scale()
    journal = Journal()
    record = driver(account).freeze(journal)
    assert RestoreRecord.from_json(record.to_json()) == record
    assert RestoreRecord.from_json(record.to_json()).to_json() == record.to_json()
    assert record.scaling.suspended == SuspendedState()


@pytest.mark.parametrize(
    "text", ["", "{", "[]", "{}", '{"schema_version": 1}', '{"schema_version": 99}']
)
def test_a_damaged_record_is_a_clear_error(text: str) -> None:
    with pytest.raises(RunDirectoryError):
        RestoreRecord.from_json(text)


def test_preflight_is_all_ok_for_a_sound_endpoint(account: Account) -> None:
    account.create(tags={"env": "staging"})
    account.scale()
    before = account.snapshot()
    findings = driver(account).preflight(CampaignEstimate(max_instance_count=4))
    levels = {f.code: f.level for f in findings}
    assert "stop" not in levels.values()
    assert {"credentials", "region", "status", "variant", "kind", "routing"} <= levels.keys()
    assert {"data_capture", "production", "scaling", "quota"} <= levels.keys()
    # moto has no SageMaker quotas: not known is a warning, never a pass.
    assert levels["quota"] == "warn"
    assert account.snapshot() == before


@pytest.mark.parametrize(
    ("name", "tags", "production"),
    [
        ("churn-prod", {}, True),
        ("Production-churn", {}, True),
        ("churn-live", {}, True),
        ("product-search", {}, False),
        ("churn-nonprod", {}, False),
        ("churn-non-prod", {}, False),
        ("churn", {"Environment": "Production"}, True),
        ("churn", {"acme:env": "prd"}, True),
        ("churn", {"environment": "pre-production"}, False),
        ("churn", {"team": "prod"}, False),
        ("churn", {"production": "true"}, True),
        ("churn", {"production": "false"}, False),
    ],
)
def test_production_by_name_or_tag(name: str, tags: dict[str, str], production: bool) -> None:
    assert (production_reason(name, tuple(tags.items())) is not None) is production


@pytest.mark.parametrize("production", [False, True])
def test_production_needs_a_yes(account: Account, production: bool) -> None:
    account.create(tags={"Environment": "production" if production else "staging"})
    endpoint = driver(account)
    assert endpoint.describe().production is production
    estimate = CampaignEstimate(max_instance_count=2)
    level = {f.code: f.level for f in endpoint.preflight(estimate)}["production"]
    assert level == ("stop" if production else "ok")
    agreed = endpoint.preflight(estimate, production_agreed=True)
    assert {f.code: f.level for f in agreed}["production"] == ("warn" if production else "ok")


def test_preflight_of_a_missing_endpoint_stops(account: Account) -> None:
    findings = driver(account, "nobody").preflight(CampaignEstimate(max_instance_count=2))
    assert [(f.code, f.level) for f in findings] == [
        ("credentials", "ok"),
        ("region", "ok"),
        ("endpoint", "stop"),
    ]


def test_preflight_counts_the_cost(account: Account) -> None:
    account.create()
    estimate = CampaignEstimate(
        max_instance_count=4,
        duration_s=1800.0,
        requests=90_000,
        instance_hours=3.5,
        price_per_hour_usd=0.23,
        cost_limit_usd=0.5,
    )
    findings = {f.code: f for f in driver(account).preflight(estimate)}
    assert findings["cost"].level == "stop"
    assert findings["cost"].value == "0.81"
    assert "30 minutes" in findings["duration"].sentence
    assert "90000" in findings["requests"].sentence
