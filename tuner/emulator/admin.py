"""The emulator's own HTTP routes under ``/_tuner/``: state and faults on demand."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Any

from tuner.emulator.account import Account
from tuner.emulator.capture import Recorder
from tuner.emulator.errors import AwsError, validation
from tuner.emulator.faults import FaultPlan
from tuner.emulator.spec import Fault
from tuner.emulator.specfile import parse_faults
from tuner.emulator.spectable import Table
from tuner.errors import Problem


class Admin:
    """``GET /_tuner/state``, ``GET /_tuner/captured``, ``GET|POST|DELETE /_tuner/faults``.

    A POST body is one fault as JSON with the keys of ``[[faults]]``; ``from_s`` and
    ``until_s`` count from now.
    """

    def __init__(self, account: Account, faults: FaultPlan, recorder: Recorder) -> None:
        self._account = account
        self._faults = faults
        self._recorder = recorder

    def handle(self, method: str, path: str, body: bytes) -> dict[str, Any]:
        """Answer one admin request.

        Raises
        ------
        AwsError
            If there is no such route, or the fault is not valid.
        """
        if (method, path) == ("GET", "/_tuner/state"):
            return self._state()
        if (method, path) == ("GET", "/_tuner/captured"):
            return self._recorder.newest()
        if path == "/_tuner/faults":
            if method == "POST":
                self._add(body)
            elif method == "DELETE":
                self._faults.clear()
            elif method != "GET":
                raise AwsError("UnknownOperationException", None, 405)
            return {"faults": [_describe(f) for f in self._faults.faults]}
        raise AwsError("UnknownOperationException", None, 404)

    def _add(self, body: bytes) -> None:
        try:
            data = json.loads(body)
        except (ValueError, RecursionError):
            raise AwsError("SerializationException", "The body is not valid JSON.") from None
        if not isinstance(data, dict):
            raise validation("A fault is a JSON object.")
        now = self._faults.elapsed_s
        for key in ("from_s", "until_s"):
            if isinstance(data.get(key), int | float):
                data[key] += now
        data.setdefault("from_s", now)
        problems: list[Problem] = []
        (fault,) = parse_faults([Table(data, "fault", problems)])
        if problems:
            raise validation("; ".join(str(p) for p in problems))
        self._faults.add(fault)

    def _state(self) -> dict[str, Any]:
        self._account.refresh()
        return {
            "minute_seconds": self._account.clock.minute_seconds,
            "endpoints": [
                {
                    "name": e.name,
                    "status": e.status,
                    "variants": [
                        {
                            "name": v.name,
                            "desired": v.desired,
                            "in_service": v.backend.in_service,
                            "starting": v.backend.starting,
                            "outstanding": v.backend.outstanding(),
                        }
                        for v in e.variants.values()
                    ],
                }
                for e in self._account.endpoints.values()
            ],
        }


def _describe(fault: Fault) -> dict[str, Any]:
    described = {k: v for k, v in asdict(fault).items() if v != float("inf")}
    return {**described, "kind": fault.kind.value}
