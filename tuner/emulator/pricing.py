"""AWS Price List: what an hour of the emulated instance types costs."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from tuner.emulator.errors import AwsError
from tuner.emulator.params import Params
from tuner.emulator.spec import EmulatorSpec

Json = dict[str, Any]

EFFECTIVE = "2026-01-01T00:00:00Z"
ON_DEMAND = "JRTCKXETXF"
HOURLY = "6YS6EN2CT7"


class PriceList:
    """Hosting products of the specification's instance types; the prices are the user's."""

    def __init__(self, spec: EmulatorSpec) -> None:
        self._spec = spec
        self.operations: dict[str, Callable[[Params], Json | None]] = {
            "GetProducts": self._get_products
        }

    def _get_products(self, params: Params) -> Json:
        if params.text("ServiceCode") != "AmazonSageMaker":
            raise AwsError("InvalidParameterException", "The emulator prices AmazonSageMaker.")
        wanted = []
        for item in params.structures("Filters"):
            item.choice("Type", ("TERM_MATCH", "EQUALS"))
            wanted.append((item.text("Field"), item.text("Value")))
        prices = {v.instance_type: v.price_per_hour_usd for v in self._spec.variants}
        products = [self._product(kind, price) for kind, price in sorted(prices.items())]
        found = [
            p
            for p in products
            if all(p["product"]["attributes"].get(f) == value for f, value in wanted)
        ]
        return {"FormatVersion": "aws_v1", "PriceList": [json.dumps(p) for p in found]}

    def _product(self, kind: str, price: float) -> Json:
        sku = "EMULATED" + "".join(c for c in kind.upper() if c.isalnum())
        region = self._spec.region
        dimension = {
            "unit": "Hrs",
            "description": f"${price:g} per Hosting {kind} hour (emulated)",
            "pricePerUnit": {"USD": f"{price:.10f}"},
            "rateCode": f"{sku}.{ON_DEMAND}.{HOURLY}",
            "beginRange": "0",
            "endRange": "Inf",
            "appliesTo": [],
        }
        term = {
            "sku": sku,
            "effectiveDate": EFFECTIVE,
            "offerTermCode": ON_DEMAND,
            "termAttributes": {},
            "priceDimensions": {f"{sku}.{ON_DEMAND}.{HOURLY}": dimension},
        }
        attributes = {
            "servicecode": "AmazonSageMaker",
            "regionCode": region,
            "locationType": "AWS Region",
            "component": "Hosting",
            "platoinstancetype": "Hosting",
            "instanceName": kind,
            "instanceType": f"{kind}-Hosting",
            "usagetype": f"Host:{kind}",
        }
        return {
            "product": {"productFamily": "ML Instance", "sku": sku, "attributes": attributes},
            "serviceCode": "AmazonSageMaker",
            "terms": {"OnDemand": {f"{sku}.{ON_DEMAND}": term}},
        }
