"""Open-loop load on any HTTP endpoint, by plain Locust.

locust -f locustfiles/http_endpoint.py --headless -u 1 -t 10s --host http://127.0.0.1:8080
"""

from __future__ import annotations

import os

from tuner.load.users import HttpArrivalUser


class HttpUser(HttpArrivalUser):
    """Offers TUNER_RATE requests per second, whatever the answers do."""

    path = os.environ.get("TUNER_PATH", "/invocations")
    arrivals = os.environ.get("TUNER_ARRIVALS", "poisson")
    rate_per_s = float(os.environ.get("TUNER_RATE", "10"))
    content_type = os.environ.get("TUNER_CONTENT_TYPE", "application/json")
    body = os.environ.get("TUNER_BODY", "{}")
    timeout_s = float(os.environ.get("TUNER_TIMEOUT_S", "60"))
