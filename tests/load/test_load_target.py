"""One load aimed at several places."""

from __future__ import annotations

import pytest

from tuner.errors import InputError
from tuner.load.target import TARGET_VARIANT, InvokeTarget, aimed_at, sagemaker_target


def test_the_same_load_is_aimed_at_another_variant_or_endpoint() -> None:
    first = sagemaker_target("one", "eu-west-1", variant="A", headers=(("Accept", "text/csv"),))
    other = aimed_at(first, "one", "B")
    assert other.url == first.url
    assert dict(other.headers) == {"Accept": "text/csv", TARGET_VARIANT: "B"}
    assert (other.endpoint_name, other.variant, other.signing) == ("one", "B", first.signing)
    away = aimed_at(first, "two", None)
    assert away.url == sagemaker_target("two", "eu-west-1").url
    assert dict(away.headers) == {"Accept": "text/csv"}
    streamed = sagemaker_target("one", "eu-west-1", streaming=True)
    assert aimed_at(streamed, "two", None).url.endswith("/two/invocations-response-stream")


def test_a_plain_url_has_no_variants() -> None:
    with pytest.raises(InputError, match="only a SageMaker endpoint"):
        aimed_at(InvokeTarget("http://127.0.0.1:1/invocations"), "one", "B")
