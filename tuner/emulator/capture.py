"""Data capture: which requests are recorded, what that takes, and the newest records."""

from __future__ import annotations

import base64
import json
from collections import deque
from datetime import UTC, datetime
from typing import Any

import numpy as np

from tuner.emulator.account import Account
from tuner.emulator.endpoint import Endpoint
from tuner.emulator.http import Request
from tuner.fleet.service import endless_uniform

KEPT = 256
"""Records kept for the admin route; S3 is not emulated."""
_MODES = {"Input": "input", "Output": "output", "InputAndOutput": "both"}


class Recorder:
    """Samples requests of endpoints whose configuration captures data.

    Parameters
    ----------
    rng
        Draws which requests are captured.
    """

    def __init__(self, account: Account, rng: np.random.Generator) -> None:
        self._account = account
        self._uniform = endless_uniform(rng)
        self._kept: deque[dict[str, Any]] = deque(maxlen=KEPT)
        self._events = 0
        self.slowdown = 1.0 + account.spec.capture.service_share

    def samples(self, endpoint: Endpoint) -> bool:
        """Whether the next request of this endpoint is captured."""
        config = self._config(endpoint)
        if not config or not config.get("EnableCapture"):
            return False
        return next(self._uniform) * 100.0 < float(config.get("InitialSamplingPercentage", 0))

    def _config(self, endpoint: Endpoint) -> dict[str, Any] | None:
        config = self._account.configs.get(endpoint.config_name, {})
        found: dict[str, Any] | None = config.get("DataCaptureConfig")
        return found

    def keep(self, name: str, request: Request, answer: bytes, content_type: str) -> None:
        """Record a request and its answer as SageMaker writes them."""
        endpoint = self._account.endpoints.get(name)
        config = self._config(endpoint) if endpoint is not None else None
        if not config:
            return
        modes = {_MODES.get(o.get("CaptureMode")) for o in config.get("CaptureOptions", [])}
        data = {}
        if modes & {"input", "both"}:
            data["endpointInput"] = _part(request.body, request.header(b"content-type"), "INPUT")
        if modes & {"output", "both"}:
            data["endpointOutput"] = _part(answer, content_type, "OUTPUT")
        self._events += 1
        meta = {"eventId": f"00000000-0000-4000-8000-{self._events:012x}"}
        inference_id = request.header(b"x-amzn-sagemaker-inference-id")
        if inference_id:
            meta["inferenceId"] = inference_id
        now = datetime.fromtimestamp(self._account.clock.now_unix_s(), UTC)
        meta["inferenceTime"] = now.strftime("%Y-%m-%dT%H:%M:%SZ")
        record = {"captureData": data, "eventMetadata": meta, "eventVersion": "0"}
        self._kept.append({"endpoint": name, "record": record})

    def newest(self) -> dict[str, Any]:
        """How many were recorded, and the newest of them, each a line of a capture file."""
        lines = [
            {"endpoint": k["endpoint"], "line": json.dumps(k["record"], separators=(",", ":"))}
            for k in self._kept
        ]
        return {"captured": self._events, "newest": lines}


def _part(body: bytes, content_type: str, mode: str) -> dict[str, str]:
    return {
        "observedContentType": content_type,
        "mode": mode,
        "data": base64.b64encode(body).decode("ascii"),
        "encoding": "BASE64",
    }
