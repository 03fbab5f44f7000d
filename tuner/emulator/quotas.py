"""Service Quotas: how many instances of a type the account may run for endpoints."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tuner.emulator.account import Account
from tuner.emulator.errors import AwsError
from tuner.emulator.params import Params

Json = dict[str, Any]


class ServiceQuotas:
    """``ml.TYPE for endpoint usage`` for every instance type a configuration names."""

    def __init__(self, account: Account) -> None:
        self._account = account
        self.operations: dict[str, Callable[[Params], Json | None]] = {
            "ListServiceQuotas": self._list,
            "ListAWSDefaultServiceQuotas": self._list,
            "GetServiceQuota": self._get,
        }

    def _quotas(self) -> list[Json]:
        kinds = {
            production["InstanceType"]
            for config in self._account.configs.values()
            for production in config["ProductionVariants"]
        }
        spec = self._account.spec
        arn = f"arn:aws:servicequotas:{spec.region}:{spec.account_id}:sagemaker"
        rows = []
        for kind in sorted(kinds):
            code = "L-" + f"{sum(ord(c) * 31**i for i, c in enumerate(kind)) % 16**8:08X}"
            rows.append(
                {
                    "ServiceCode": "sagemaker",
                    "ServiceName": "Amazon SageMaker",
                    "QuotaArn": f"{arn}/{code}",
                    "QuotaCode": code,
                    "QuotaName": f"{kind} for endpoint usage",
                    "Value": float(spec.instance_quota),
                    "Unit": "None",
                    "Adjustable": True,
                    "GlobalQuota": False,
                }
            )
        return rows

    def _list(self, params: Params) -> Json:
        if params.text("ServiceCode") != "sagemaker":
            raise AwsError("NoSuchResourceException", "The request failed because the specified "
                           "service does not exist.")  # fmt: skip
        return {"Quotas": self._quotas()}

    def _get(self, params: Params) -> Json:
        code = params.text("QuotaCode")
        found = next((q for q in self._quotas() if q["QuotaCode"] == code), None)
        if params.text("ServiceCode") != "sagemaker" or found is None:
            raise AwsError("NoSuchResourceException", "The request failed because the specified "
                           "quota does not exist.")  # fmt: skip
        return {"Quota": found}
