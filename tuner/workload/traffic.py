"""Traffic from outside and from shapes: the one place to import it from."""

from __future__ import annotations

from tuner.workload.days import DaySet, split_days
from tuner.workload.profile import TrafficProfile
from tuner.workload.shapes import SHAPES, Shape, make_traffic, sample_day
from tuner.workload.traffic_csv import format_traffic_csv, parse_traffic_csv
from tuner.workload.traffic_series import traffic_from_series

__all__ = [
    "SHAPES",
    "DaySet",
    "Shape",
    "TrafficProfile",
    "format_traffic_csv",
    "make_traffic",
    "parse_traffic_csv",
    "sample_day",
    "split_days",
    "traffic_from_series",
]
