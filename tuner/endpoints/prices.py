"""On-demand hosting prices from the AWS Price List, for ``tuner prices update``."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tuner.endpoints.aws import Aws, pages
from tuner.errors import EndpointError

PRICING_REGION = "us-east-1"
"""The Price List answers in three regions only, whatever region is asked about."""

SOURCE = "AWS Price List API (AmazonSageMaker, component Hosting, on demand)"


@dataclass(frozen=True, slots=True)
class HostingPrice:
    """The price of one instance-hour of real-time hosting."""

    instance_type: str
    region: str
    usd_per_hour: float
    sku: str
    effective_date: str
    source: str = SOURCE


def read_prices(aws: Aws, instance_types: Sequence[str], region: str) -> tuple[HostingPrice, ...]:
    """The price of each type in a region, in the order asked.

    Raises
    ------
    EndpointError
        If AWS refuses, or lists no price or several for a type.
    """
    return tuple(_price(aws, name, region) for name in instance_types)


def _price(aws: Aws, instance_type: str, region: str) -> HostingPrice:
    filters = {"instanceName": instance_type, "regionCode": region, "component": "Hosting"}
    products = pages(
        aws.client("pricing", PRICING_REGION),
        "get_products",
        "PriceList",
        ServiceCode="AmazonSageMaker",
        FormatVersion="aws_v1",
        Filters=[
            {"Type": "TERM_MATCH", "Field": field, "Value": value}
            for field, value in filters.items()
        ],
    )
    found = {
        (price.usd_per_hour, price.sku): price
        for text in products
        for price in on_demand(json.loads(text), instance_type, region)
    }
    amounts = sorted({price.usd_per_hour for price in found.values()})
    if not amounts:
        raise EndpointError(
            f"the AWS Price List has no hosting price for this type in {region}",
            value=instance_type,
            allowed="a type that SageMaker hosts in that region, such as ml.m5.xlarge",
            hint="give [capacity] price_per_hour_usd in the plan",
        )
    if len(amounts) > 1:
        raise EndpointError(
            f"the AWS Price List has several hosting prices for {instance_type} in {region}",
            value=", ".join(f"{a:g}" for a in amounts),
            allowed="one price",
            hint="give [capacity] price_per_hour_usd in the plan",
        )
    return min(found.values(), key=lambda p: p.sku)


def on_demand(
    product: Mapping[str, Any], instance_type: str, region: str
) -> Iterator[HostingPrice]:
    """The hourly on-demand prices of one product of the price list."""
    attributes = product.get("product", {}).get("attributes", {})
    if attributes.get("component") != "Hosting" or attributes.get("regionCode") != region:
        return
    if attributes.get("instanceName") != instance_type:
        return
    for term in product.get("terms", {}).get("OnDemand", {}).values():
        for dimension in term.get("priceDimensions", {}).values():
            amount = float(dimension.get("pricePerUnit", {}).get("USD", "0"))
            # Free-tier and reserved rows carry a price of zero; a real one never does.
            if amount > 0.0 and str(dimension.get("unit", "")).lower() in ("hrs", "hours", "hour"):
                yield HostingPrice(
                    instance_type=instance_type,
                    region=region,
                    usd_per_hour=amount,
                    sku=str(product["product"].get("sku", "")),
                    effective_date=str(term.get("effectiveDate", ""))[:10],
                )
