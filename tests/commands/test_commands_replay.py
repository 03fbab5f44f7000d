"""A replay ends when the endpoint mostly fails."""

from __future__ import annotations

import math

import pytest

from tuner.campaign.types import StageKind, StageProgress, StageSpec
from tuner.commands.replay import LEAST_COMPLETED, TooManyErrorsError, refuse_errors

STAGE = StageSpec(0, StageKind.VERIFY, 1, 10.0, 60.0, 0.0, "poisson", 1, "replay")


def progress(completed: int, failed: int) -> StageProgress:
    return StageProgress(STAGE, 5.0, completed, completed, failed, 0, math.nan, math.nan)


def test_a_share_above_the_limit_stops_it() -> None:
    with pytest.raises(TooManyErrorsError, match=r"501 of 1,000 requests failed") as caught:
        refuse_errors(progress(1000, 501), 0.5)
    assert caught.value.share == 0.501
    refuse_errors(progress(1000, 500), 0.5)


def test_a_few_requests_prove_nothing() -> None:
    refuse_errors(progress(LEAST_COMPLETED - 1, LEAST_COMPLETED - 1), 0.5)
    with pytest.raises(TooManyErrorsError):
        refuse_errors(progress(LEAST_COMPLETED, LEAST_COMPLETED), 0.99)
