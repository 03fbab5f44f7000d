"""Lists of SageMaker resources: filtered, sorted and handed out in pages."""

from __future__ import annotations

import base64
from typing import Any

from tuner.emulator.errors import validation
from tuner.emulator.params import Params

Json = dict[str, Any]

DEFAULT_PAGE = 10
LONGEST_PAGE = 100


def page(key: str, rows: list[Json], name_key: str, params: Params) -> Json:
    """Filter, sort and page a list as SageMaker's List operations do."""
    contains = params.maybe_text("NameContains")
    if contains is not None:
        rows = [r for r in rows if contains in r[name_key]]
    by = params.choice("SortBy", ("Name", "CreationTime", "Status"), "CreationTime")
    sort_key = {"Name": name_key, "CreationTime": "CreationTime", "Status": "EndpointStatus"}[by]
    order = params.choice("SortOrder", ("Ascending", "Descending"), "Descending")
    rows = sorted(rows, key=lambda r: (r.get(sort_key, ""), r[name_key]))
    if order == "Descending":
        rows.reverse()
    start = _offset(params.maybe_text("NextToken"))
    size = params.integer("MaxResults", DEFAULT_PAGE, low=1, high=LONGEST_PAGE)
    answer: Json = {key: rows[start : start + size]}
    if start + size < len(rows):
        answer["NextToken"] = base64.b64encode(str(start + size).encode()).decode()
    return answer


def _offset(token: str | None) -> int:
    if token is None:
        return 0
    try:
        return max(int(base64.b64decode(token, validate=True)), 0)
    except ValueError:
        raise validation("Invalid NextToken.") from None
