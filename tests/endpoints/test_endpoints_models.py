"""What CloudWatch says of models, read through boto3 from a server that is not the emulator."""

from __future__ import annotations

import pytest
from fake_aws import Clock, FakeAws, serve

from tuner.endpoints.aws import Aws
from tuner.endpoints.models import ModelActivity, read_models

NOON = 1_795_348_800
MINUTE = 60


def read(fake: FakeAws, start: float, end: float) -> ModelActivity | None:
    with serve(fake) as url:
        return read_models(
            Aws(endpoint_url=url, attempts=1), "my-endpoint", "AllTraffic", start, end
        )


def per_minute(*values: float) -> dict[int, float]:
    return {NOON + i * MINUTE: v for i, v in enumerate(values)}


def test_sums_and_counts_of_whole_minutes_become_ratios_and_seconds() -> None:
    fake = FakeAws(Clock().time)
    fake.metrics = {
        ("ModelCacheHit", "Sum"): per_minute(50, 90, 80, 9),
        ("ModelCacheHit", "SampleCount"): per_minute(100, 100, 100, 10),
        ("ModelLoadingWaitTime", "Sum"): per_minute(9e9, 2e6, 4e6, 9e9),
        ("ModelDownloadingTime", "Sum"): per_minute(0, 600_000),
        ("ModelDownloadingTime", "SampleCount"): per_minute(0, 2),
        ("ModelLoadingTime", "Sum"): per_minute(0, 800_000, 800_000),
        ("ModelLoadingTime", "SampleCount"): per_minute(0, 2, 2),
        ("ModelUnloadingTime", "SampleCount"): per_minute(0, 1, 2),
        ("LoadedModelCount", "Average"): per_minute(1, 18, 20),
    }
    # The first and the last minute are covered in part only, and left out.
    found = read(fake, NOON + 10, NOON + 3 * MINUTE + 50)
    assert found is not None
    assert found.requests == 200
    assert found.hit_ratio == pytest.approx(0.85)
    assert found.wait_s == pytest.approx(6.0 / 30)
    assert (found.downloads, found.loads, found.unloads) == (2, 4, 3)
    assert found.download_s == pytest.approx(0.3)
    assert found.load_s == pytest.approx(0.4)
    assert found.loaded_models == pytest.approx(19.0)


def test_no_data_is_none_and_not_zero() -> None:
    found = read(FakeAws(Clock().time), NOON, NOON + 2 * MINUTE)
    assert found is not None
    assert (found.hit_ratio, found.wait_s, found.load_s, found.loaded_models) == (None,) * 4


def test_less_than_a_minute_is_not_asked_for() -> None:
    fake = FakeAws(Clock().time)
    assert read(fake, NOON + 5, NOON + MINUTE + 5) is None
    assert not fake.calls
