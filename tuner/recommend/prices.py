"""On-demand prices of real-time instances, dated and graded.

The table is a fallback for working without a connection: a price list read from the account,
or a price in the plan, goes before it. An instance type that is not in the table has no price
here; it is never zero.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType

from tuner.errors import InputError

REGION = "us-east-1"


@dataclass(frozen=True, slots=True)
class Price:
    """What one instance costs for an hour, and how far to trust it.

    ``grade``: ``"A"`` the AWS Price List of this component and region; ``"B"`` the Price List
    of a component or region that is normally priced the same; ``"C"`` an AWS document or
    repository, older; ``"D"`` a third party, undated; ``"given"`` by the user.
    """

    instance_type: str
    usd_per_hour: float
    grade: str
    source: str
    date: str
    region: str = REGION


_PRICE_LIST = "AWS Price List, hosting, us-east-1"
_STUDIO = "AWS Price List, Studio, us-west-2"
_FMBENCH = "aws-samples/foundation-model-benchmarking-tool pricing.yml"
_DOCS = "sample output in the AWS Inference Recommender documentation"
_TABLES = "public price tables"

_ROWS: tuple[tuple[str, float, str, str, str], ...] = (
    ("ml.t2.medium", 0.056, "D", _TABLES, "undated"),
    ("ml.t2.large", 0.111, "D", _TABLES, "undated"),
    ("ml.m5.large", 0.115, "B", _STUDIO, "2026-09-01"),
    ("ml.m5.xlarge", 0.23, "A", _PRICE_LIST, "2026-09-28"),
    ("ml.m5.2xlarge", 0.461, "A", _PRICE_LIST, "2026-09-28"),
    ("ml.m5.4xlarge", 0.922, "B", _STUDIO, "2026-09-01"),
    ("ml.m5.12xlarge", 2.765, "D", _TABLES, "undated"),
    ("ml.m5.24xlarge", 5.53, "D", _TABLES, "undated"),
    ("ml.c5.large", 0.102, "B", _STUDIO, "2026-09-01"),
    ("ml.c5.xlarge", 0.204, "B", _STUDIO, "2026-09-01"),
    ("ml.c5.2xlarge", 0.408, "B", _STUDIO, "2026-09-01"),
    ("ml.c5.4xlarge", 0.816, "C", _FMBENCH, "2025-01-26"),
    ("ml.c5.9xlarge", 1.836, "D", _TABLES, "undated"),
    ("ml.c5d.large", 0.115, "C", _DOCS, "2021-10"),
    ("ml.c6i.large", 0.102, "D", _TABLES, "undated"),
    ("ml.c6i.xlarge", 0.204, "D", _TABLES, "undated"),
    ("ml.c7i.xlarge", 0.214, "C", _FMBENCH, "2025-01-26"),
    ("ml.g4dn.xlarge", 0.7364, "B", _STUDIO, "2026-09-01"),
    ("ml.g4dn.2xlarge", 0.94, "B", _STUDIO, "2026-09-01"),
    ("ml.g4dn.4xlarge", 1.505, "C", _FMBENCH, "2025-01-26"),
    ("ml.g4dn.8xlarge", 2.72, "C", _FMBENCH, "2025-01-26"),
    ("ml.g4dn.12xlarge", 4.89, "C", _FMBENCH, "2025-01-26"),
    ("ml.g4dn.16xlarge", 5.44, "C", _FMBENCH, "2025-01-26"),
    ("ml.g5.xlarge", 1.4084, "B", _STUDIO, "2026-09-01"),
    ("ml.g5.2xlarge", 1.515, "A", _PRICE_LIST, "2026-08"),
    ("ml.g5.4xlarge", 2.03, "B", _STUDIO, "2026-09-01"),
    ("ml.g5.8xlarge", 3.06, "B", _STUDIO, "2026-09-01"),
    ("ml.g5.12xlarge", 7.09, "A", _PRICE_LIST, "2026-08"),
    ("ml.g5.24xlarge", 10.18, "B", _STUDIO, "2026-09-01"),
    ("ml.g5.48xlarge", 20.36, "B", _STUDIO, "2026-09-01"),
    ("ml.g6.xlarge", 1.127, "B", _STUDIO, "2026-09-01"),
    ("ml.g6.2xlarge", 1.222, "A", _PRICE_LIST, "2026-08"),
    ("ml.g6.4xlarge", 1.654, "A", _PRICE_LIST, "2026-08"),
    ("ml.g6.12xlarge", 5.752, "A", _PRICE_LIST, "2026-08"),
    ("ml.g6.16xlarge", 4.246, "C", _FMBENCH, "2025-01-26"),
    ("ml.g6.24xlarge", 8.344, "B", _STUDIO, "2026-09-01"),
    ("ml.g6.48xlarge", 16.688, "B", _STUDIO, "2026-09-01"),
    ("ml.g6e.2xlarge", 2.80, "A", _PRICE_LIST, "2026-08"),
    ("ml.g6e.12xlarge", 13.12, "A", _PRICE_LIST, "2026-08"),
    ("ml.g7e.2xlarge", 4.2039, "B", _STUDIO, "2026-09-01"),
    ("ml.inf1.xlarge", 0.297, "D", _TABLES, "undated"),
    ("ml.inf1.2xlarge", 0.471, "D", _TABLES, "undated"),
    ("ml.inf1.6xlarge", 1.21, "D", _TABLES, "undated"),
    ("ml.inf1.24xlarge", 4.841, "D", _TABLES, "undated"),
    ("ml.inf2.xlarge", 0.99, "C", _FMBENCH, "2025-01-26"),
    ("ml.inf2.8xlarge", 2.36, "C", _FMBENCH, "2025-01-26"),
    ("ml.inf2.24xlarge", 7.79, "C", _FMBENCH, "2025-01-26"),
    ("ml.inf2.48xlarge", 15.58, "C", _FMBENCH, "2025-01-26"),
    ("ml.p3.2xlarge", 3.825, "C", _FMBENCH, "2025-01-26"),
    ("ml.p4d.24xlarge", 25.251286, "B", _STUDIO, "2026-09-01"),
    ("ml.p5.48xlarge", 63.296, "B", _STUDIO, "2026-09-01"),
    ("ml.trn1.32xlarge", 28.497, "C", _FMBENCH, "2025-01-26"),
)


@dataclass(frozen=True, slots=True)
class PriceTable:
    """Prices by instance type."""

    prices: Mapping[str, Price]

    def lookup(self, instance_type: str) -> Price | None:
        """The price, or None for a type that is not in the table."""
        return self.prices.get(instance_type)

    def with_prices(self, prices: Iterable[Price]) -> PriceTable:
        """The table with these prices before its own."""
        newer = {p.instance_type: p for p in prices}
        return replace(self, prices=MappingProxyType({**self.prices, **newer}))

    def with_price(
        self, instance_type: str, usd_per_hour: float, *, source: str = "the plan", date: str = ""
    ) -> PriceTable:
        """The table with one price given by the user.

        Raises
        ------
        InputError
            When the price is not a positive number.
        """
        if not (math.isfinite(usd_per_hour) and usd_per_hour > 0.0):
            raise InputError(
                "a price must be a positive number of USD per instance-hour",
                value=usd_per_hour,
                allowed="> 0",
            )
        given = Price(instance_type, usd_per_hour, "given", source, date)
        return replace(self, prices=MappingProxyType({**self.prices, instance_type: given}))


PRICES = PriceTable(MappingProxyType({row[0]: Price(*row) for row in _ROWS}))
"""The table that comes with tuner: on demand, us-east-1."""
