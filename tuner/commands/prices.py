"""``tuner prices``: a dated file of prices read from the AWS Price List."""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from pathlib import Path

from tuner.commands.ui import Ui
from tuner.endpoints.aws import Aws
from tuner.endpoints.prices import HostingPrice, read_prices
from tuner.endpoints.protocol import AwsError
from tuner.errors import EndpointError, InputError
from tuner.plan.price_file import FilePrice, price_file_text, read_price_file, with_file
from tuner.recommend.prices import PRICES, REGION, Price
from tuner.store.files import write_whole


def main(args: argparse.Namespace, ui: Ui) -> int:
    """Update the file, or show what an answer would use."""
    path = Path(args.file)
    if args.action == "show":
        return _show(path, args.types, args.region, ui)
    return _update(path, args, ui)


def _update(path: Path, args: argparse.Namespace, ui: Ui) -> int:
    before = read_price_file(path)
    aws = Aws(region=args.region, profile=args.profile, endpoint_url=args.endpoint_url)
    region = aws.region
    today = time.strftime("%Y-%m-%d", time.gmtime())
    found = [
        FilePrice(p.instance_type, p.usd_per_hour, region, p.source, today, p.effective_date, p.sku)
        for p in _read(aws, args.types, before, region, ui)
    ]
    if not found:
        raise EndpointError("the AWS Price List has none of these types", value=region)
    write_whole(path, price_file_text([*before, *found]))
    ui.result(f"{path}: {len(found)} prices of {region}, read on {today}")
    return 0


def _read(
    aws: Aws, types: Sequence[str], before: Sequence[FilePrice], region: str, ui: Ui
) -> list[HostingPrice]:
    """What was asked for must be there; of the types known anyway, what there is."""
    if types:
        return list(read_prices(aws, types, region))
    known = [e.instance_type for e in before if e.region == region] or sorted(PRICES.prices)
    found: list[HostingPrice] = []
    missing: list[str] = []
    for name in known:
        try:
            found += read_prices(aws, (name,), region)
        except AwsError:
            raise
        except EndpointError:
            missing.append(name)
    if missing:
        ui.warn(f"not in the AWS Price List of {region}: {', '.join(missing)}")
    return found


def _show(path: Path, types: Sequence[str], region: str | None, ui: Ui) -> int:
    entries = read_price_file(path)
    table = with_file(PRICES, entries, region)
    names = types or sorted(table.prices)
    rows = []
    for name in names:
        price = table.lookup(name)
        if price is None:
            raise InputError(
                "this instance type has no price",
                value=name,
                hint=f"tuner prices update {name}, or price_per_hour_usd in the plan",
            )
        rows.append(_line(price))
    ui.result("\n".join(rows))
    if region not in (None, REGION) and not any(e.region == region for e in entries):
        ui.warn(f"no price of {region} is known: these are of {REGION}; tuner prices update")
    return 0


def _line(price: Price) -> str:
    return (
        f"{price.instance_type:<18} {price.usd_per_hour:>10.4f} USD/h  {price.region:<14} "
        f"grade {price.grade}  {price.date:<10}  {price.source}"
    )
