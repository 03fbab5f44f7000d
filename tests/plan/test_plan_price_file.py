"""The price file: read back whole, refused when wrong, and put before the packaged table."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tuner.errors import InputError
from tuner.plan.price_file import FilePrice, price_file_text, read_price_file, with_file
from tuner.recommend.prices import PRICES

EAST = FilePrice(
    "ml.m5.xlarge", 0.231, "us-east-1", "AWS Price List API", "2026-11-22", "2026-11-01"
)
WEST = FilePrice("ml.m5.xlarge", 0.25, "eu-west-1", "AWS Price List API", "2026-11-22")


def write(path: Path, value: object) -> Path:
    path.write_text(value if isinstance(value, str) else json.dumps(value))
    return path


def test_what_is_written_is_read_back(tmp_path: Path) -> None:
    path = write(tmp_path / "prices.json", price_file_text([WEST, EAST]))
    assert read_price_file(path) == (WEST, EAST)
    assert json.loads(path.read_text())["schema_version"] == 1


def test_a_newer_price_replaces_the_older_of_its_type_and_region() -> None:
    newer = FilePrice("ml.m5.xlarge", 0.22, "us-east-1", "x", "2026-12-01")
    entries = json.loads(price_file_text([EAST, WEST, newer]))["prices"]
    assert [(e["region"], e["usd_per_hour"]) for e in entries] == [
        ("eu-west-1", 0.25),
        ("us-east-1", 0.22),
    ]


def test_no_file_is_no_prices(tmp_path: Path) -> None:
    assert read_price_file(tmp_path / "none.json") == ()


def test_the_file_goes_before_the_table_and_keeps_its_date() -> None:
    price = with_file(PRICES, [EAST, WEST], None).lookup("ml.m5.xlarge")
    assert price is not None
    assert (price.usd_per_hour, price.date, price.grade) == (0.231, "2026-11-22", "A")
    abroad = with_file(PRICES, [EAST, WEST], "eu-west-1").lookup("ml.m5.xlarge")
    assert abroad is not None
    assert (abroad.usd_per_hour, abroad.region) == (0.25, "eu-west-1")


def test_a_file_of_one_region_is_meant_where_none_is_named() -> None:
    price = with_file(PRICES, [WEST], None).lookup("ml.m5.xlarge")
    assert price is not None
    assert price.region == "eu-west-1"


ENTRY = {
    "instance_type": "ml.m5.xlarge",
    "usd_per_hour": 0.2,
    "region": "us-east-1",
    "source": "",
    "date": "",
}


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("{", "not JSON"),
        ({"schema_version": 2, "prices": []}, "schema_version 1"),
        ([], "schema_version 1"),
        ({"schema_version": 1}, "no list"),
        ({"schema_version": 1, "prices": [{"instance_type": "ml.m5.xlarge"}]}, "incomplete"),
        ({"schema_version": 1, "prices": [{**ENTRY, "usd_per_hour": 0}]}, "not a positive"),
        ({"schema_version": 1, "prices": [{**ENTRY, "usd_per_hour": "0.2"}]}, "wrong kind"),
        ({"schema_version": 1, "prices": [{**ENTRY, "region": None}]}, "wrong kind"),
        ({"schema_version": 1, "prices": [{**ENTRY, "euros": 1}]}, "unknown parts"),
        ({"schema_version": 1, "prices": [7]}, "unknown parts"),
    ],
)
def test_a_wrong_file_is_refused_with_its_name(tmp_path: Path, content: object, words: str) -> None:
    path = write(tmp_path / "prices.json", content)
    with pytest.raises(InputError, match=words) as caught:
        read_price_file(path)
    assert "prices.json" in str(caught.value)
