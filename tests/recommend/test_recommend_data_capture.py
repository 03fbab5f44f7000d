"""Data capture: costs by hand arithmetic from public price lists, and the decision."""

from __future__ import annotations

import base64
import json

import pytest

from tuner.interval import Interval
from tuner.recommend.data_capture import (
    ENVELOPE_BYTES,
    CaptureEffect,
    CaptureLoad,
    CapturePrices,
    CaptureRules,
    CaptureStanding,
    affordable,
    capture_cost,
    decide_capture,
    storage_usd,
)

LOAD = CaptureLoad(
    request_bytes=3000.0, response_bytes=300.0, requests_per_month=30_000_000.0, instances=4.0
)


def rules(budget: float | None = None, allowance: float = 0.05) -> CaptureRules:
    return CaptureRules((5, 20, 100), budget, allowance, 30.0, "s3://bucket/captured")


def effect(percent: int, low: float, high: float) -> CaptureEffect:
    mid = (low + high) / 2.0
    return CaptureEffect(
        percent, Interval(low, mid, high), Interval(low, mid, high), 0.1, 10**4, 50
    )


def test_a_record_is_as_long_as_one_in_the_documented_format() -> None:
    request, answer = b"x" * 3000, b"y" * 300
    record = {
        "captureData": {
            "endpointInput": {
                "observedContentType": "application/json",
                "mode": "INPUT",
                "data": base64.b64encode(request).decode(),
                "encoding": "BASE64",
            },
            "endpointOutput": {
                "observedContentType": "application/json",
                "mode": "OUTPUT",
                "data": base64.b64encode(answer).decode(),
                "encoding": "BASE64",
            },
        },
        "eventMetadata": {
            "eventId": "f3b9a8c0-1111-4222-8333-0123456789ab",
            "inferenceId": "",
            "inferenceTime": "2026-08-19T20:31:46Z",
        },
        "eventVersion": "0",
    }
    line = json.dumps(record, separators=(",", ":")) + "\n"
    assert LOAD.record_bytes == len(line)
    assert len(line) - 4400 == ENVELOPE_BYTES


def test_small_payloads_fully_sampled_cost_what_the_price_list_says() -> None:
    # 30 million records of 4770 bytes stay 30 days: 30e6 x 4770 / 2**30 = 133.27 GB x 0.023 =
    # 3.0652 USD. Four instances x one file a minute x 43 200 minutes = 172 800 PUTs x 0.005 /
    # 1000 = 0.864 USD.
    cost = capture_cost(LOAD, 100.0, retention_days=30.0)
    assert cost.storage_usd_per_month == pytest.approx(3.0652, rel=0.001)
    assert cost.put_usd_per_month == pytest.approx(0.864, rel=1e-9)
    assert cost.usd_per_month == pytest.approx(3.929, rel=0.001)


def test_images_for_ninety_days_cost_what_the_price_list_says() -> None:
    # A million 1 500 000-byte images a month, 20 %: 200 000 records of 2 000 370 bytes + 40 of an
    # answer of 30 = 2 000 410; three months of them lie there: 600 000 x 2 000 410 / 2**30 =
    # 1117.81 GB x 0.023 = 25.71 USD. Two instances: 86 400 PUTs = 0.432 USD.
    load = CaptureLoad(1_500_000.0, 30.0, 1_000_000.0, 2.0)
    cost = capture_cost(load, 20.0, retention_days=90.0)
    assert cost.stored_gb == pytest.approx(1117.81, rel=0.001)
    assert cost.usd_per_month == pytest.approx(25.71 + 0.432, rel=0.001)


def test_a_quiet_endpoint_pays_a_put_for_each_request_at_most() -> None:
    # 1 000 requests a month, all captured: 1 000 PUTs at most = 0.005 USD; a day of them, 1/30:
    # 33.3 records of 370 + 100 + 20 bytes as text = 1.52e-5 GB, nothing.
    load = CaptureLoad(100.0, 20.0, 1000.0, 1.0, base64=False)
    cost = capture_cost(load, 100.0, retention_days=1.0)
    assert cost.put_requests_per_month == 1000.0
    assert cost.usd_per_month == pytest.approx(0.005, rel=0.001)


def test_storage_is_priced_tier_by_tier() -> None:
    # 600 TB: 50 TB at 0.023, 450 TB at 0.022, 100 TB at 0.021 (S3 Standard, us-east-1).
    tb = 1024.0
    by_hand = tb * (50 * 0.023 + 450 * 0.022 + 100 * 0.021)
    assert storage_usd(600 * tb, CapturePrices()) == pytest.approx(by_hand, rel=1e-9)


def test_the_budget_buys_the_highest_percentage_that_fits() -> None:
    # Storage is 3.0652 USD at 100 %, linear; PUTs are 0.864 USD at any percentage here.
    assert affordable(LOAD, rules(3.0)) == int((3.0 - 0.864) / 3.0652 * 100)
    assert affordable(LOAD, rules(0.5)) == 0
    assert affordable(LOAD, rules()) == 100


def test_the_highest_percentage_inside_budget_and_allowance_is_taken() -> None:
    seen = (effect(20, 0.99, 1.03), effect(100, 1.02, 1.04))
    assert decide_capture(rules(), LOAD, seen).sampling_percent == 100
    assert decide_capture(rules(3.0), LOAD, seen).sampling_percent == 69
    slow = (effect(20, 0.99, 1.03), effect(100, 1.06, 1.12))
    decision = decide_capture(rules(3.0), LOAD, slow)
    assert decision.sampling_percent == 20
    standings = {o.sampling_percent: o.standing for o in decision.options}
    assert standings == {
        5: CaptureStanding.FITS,
        20: CaptureStanding.FITS,
        100: CaptureStanding.OVER_BUDGET,
    }
    assert decision.cost is not None
    assert decision.cost.usd_per_month <= 3.0


def test_nothing_is_decided_without_evidence() -> None:
    assert decide_capture(rules(), LOAD).sampling_percent is None
    assert "tuner capture" in decide_capture(rules(), LOAD).sentence
    unclear = decide_capture(rules(), LOAD, (effect(5, 0.9, 1.2),))
    assert unclear.sampling_percent is None
    assert unclear.options[0].standing is CaptureStanding.UNCLEAR
    unknown = decide_capture(rules(), None, (effect(100, 1.0, 1.01),))
    assert unknown.sampling_percent is None
    assert unknown.cost is None


def test_capture_stays_off_where_it_cannot_be_paid_or_borne() -> None:
    assert decide_capture(rules(0.5), LOAD, (effect(5, 1.0, 1.01),)).sampling_percent == 0
    too_slow = tuple(effect(p, 1.1, 1.2) for p in (5, 20, 100))
    decision = decide_capture(rules(), LOAD, too_slow)
    assert decision.sampling_percent == 0
    assert "off" in decision.sentence
