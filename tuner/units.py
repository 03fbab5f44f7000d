"""The only conversions between units of time and rate in the project.

Everywhere else quantities are in seconds and per second, except where the name says
otherwise (``_ms``, ``_us``, ``_per_min``): AWS's target values are per minute, its latency
metrics are in microseconds.
"""

from __future__ import annotations

SECONDS_PER_MINUTE = 60.0
SECONDS_PER_HOUR = 3600.0
MINUTES_PER_DAY = 1440
HOURS_PER_MONTH = 720.0
"""A month of 30 days, the convention of AWS's own endpoint cost examples (24 x 30)."""


def ms_to_s(value_ms: float) -> float:
    """Milliseconds to seconds."""
    return value_ms / 1e3


def s_to_ms(value_s: float) -> float:
    """Seconds to milliseconds."""
    return value_s * 1e3


def us_to_s(value_us: float) -> float:
    """Microseconds (CloudWatch ``ModelLatency``) to seconds."""
    return value_us / 1e6


def s_to_us(value_s: float) -> float:
    """Seconds to microseconds."""
    return value_s * 1e6


def per_s_to_per_min(rate_per_s: float) -> float:
    """Requests per second to requests per minute (``InvocationsPerInstance``)."""
    return rate_per_s * SECONDS_PER_MINUTE


def per_min_to_per_s(rate_per_min: float) -> float:
    """Requests per minute to requests per second."""
    return rate_per_min / SECONDS_PER_MINUTE


def s_to_min(value_s: float) -> float:
    """Seconds to minutes."""
    return value_s / SECONDS_PER_MINUTE


def s_to_h(value_s: float) -> float:
    """Seconds to hours."""
    return value_s / SECONDS_PER_HOUR
