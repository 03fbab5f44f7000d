"""Open-loop InvokeEndpoint load, signed by the AWS credential chain, by plain Locust.

TUNER_ENDPOINT=my-endpoint locust -f locustfiles/sagemaker.py --headless -u 1 -t 10s

``--host`` replaces AWS's runtime host, for an emulator.
"""

from __future__ import annotations

import os

from tuner.load.users import SageMakerUser


class EndpointUser(SageMakerUser):
    """Offers TUNER_RATE invocations per second, whatever the answers do."""

    endpoint_name = os.environ.get("TUNER_ENDPOINT", "tuner-demo")
    region = os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION") or "us-east-1"
    variant = os.environ.get("TUNER_VARIANT")
    profile = os.environ.get("AWS_PROFILE")
    streaming = os.environ.get("TUNER_STREAMING", "") == "1"
    arrivals = os.environ.get("TUNER_ARRIVALS", "poisson")
    rate_per_s = float(os.environ.get("TUNER_RATE", "10"))
    content_type = os.environ.get("TUNER_CONTENT_TYPE", "application/json")
    body = os.environ.get("TUNER_BODY", "{}")
