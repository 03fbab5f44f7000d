"""Numbers and untrusted texts as people read them."""

from __future__ import annotations

import math
import re
import unicodedata

from tuner.autoscaling.policy import ScalingMetric
from tuner.interval import Interval
from tuner.units import s_to_ms

NONE = "–"

_ESCAPE_SEQUENCE = re.compile(
    r"\x1b\[[0-?]*[ -/]*[@-~]|\x9b[0-?]*[ -/]*[@-~]"  # CSI: colours, cursor
    r"|\x1b\][^\x07\x1b]*(?:\x07|\x1b\\)?"  # OSC: titles, links
    r"|\x1b[PX^_][^\x1b]*(?:\x1b\\)?|\x1b[@-Z\\-_]"  # other strings and pairs
)
_HIDDEN = {"Cc", "Cf", "Cs", "Co", "Cn"}

METRIC_UNITS = {
    ScalingMetric.INVOCATIONS: "requests per minute per instance",
    ScalingMetric.CONCURRENCY: "concurrent requests per instance",
    ScalingMetric.CPU: "% CPU (100 per vCPU)",
    ScalingMetric.GPU: "% GPU (100 per GPU)",
    ScalingMetric.GPU_MEMORY: "% GPU memory (100 per GPU)",
    ScalingMetric.MEMORY: "% memory",
}


def plain(text: str) -> str:
    """One line without terminal sequences, control or direction characters."""
    bare = _ESCAPE_SEQUENCE.sub("", text)
    kept = (" " if c.isspace() else "" if unicodedata.category(c) in _HIDDEN else c for c in bare)
    return " ".join("".join(kept).split())


def visible(text: str) -> str:
    """Text for a page: as it is, with control characters other than line ends taken out."""
    bare = _ESCAPE_SEQUENCE.sub("", text)
    return "".join(c for c in bare if c in "\n\t" or unicodedata.category(c) not in _HIDDEN)


def number(value: float | None, digits: int = 3) -> str:
    """A number with so many significant digits, thousands set apart, no exponent."""
    if value is None or math.isnan(value):
        return NONE
    if math.isinf(value):
        return "∞" if value > 0 else "-∞"
    if value == 0.0:
        return "0"
    places = digits - 1 - math.floor(math.log10(abs(value)))
    rounded = round(value, places)
    text = f"{rounded:,.{max(places, 0)}f}"
    return text.rstrip("0").rstrip(".") if "." in text and float(value).is_integer() else text


def interval(value: Interval | None, digits: int = 3) -> str:
    """``38.2 (36.9 to 39.5)``; an unknown end is said."""
    if value is None:
        return NONE
    high = f"to {number(value.high, digits)}" if math.isfinite(value.high) else "or more"
    return f"{number(value.mid, digits)} ({number(value.low, digits)} {high})"


def milliseconds(seconds: float | None) -> str:
    """Seconds as milliseconds, without the unit."""
    return number(None if seconds is None else s_to_ms(seconds))


def percent(share: float | None, digits: int = 2) -> str:
    """A share in percent; small shares keep significant digits, near-one shares their nines."""
    if share is None or math.isnan(share):
        return NONE
    value = share * 100.0
    if (round(value, 9).is_integer() and value <= 99.0) or value == 100.0:
        return f"{value:.0f} %"
    if value > 99.9999:
        return "> 99.9999 %"
    if value > 90.0:
        places = max(1, digits - 1 - math.floor(math.log10(100.0 - value)))
        return f"{math.floor(value * 10**places) / 10**places:.{min(places, 4)}f} %"
    if value < 0.0001:
        return "< 0.0001 %"
    return f"{number(value, digits)} %"


def money(usd: float | None) -> str:
    """US dollars: cents below 100, whole dollars from there; less than a cent is said so."""
    if usd is None or not math.isfinite(usd):
        return NONE
    if 0.0 < abs(usd) < 0.01:
        return "< $0.01"
    return f"${usd:,.2f}" if abs(usd) < 100 else f"${usd:,.0f}"


def money_interval(value: Interval | None) -> str:
    """Dollars with the interval."""
    if value is None:
        return NONE
    if value.low == value.high:
        return money(value.mid)
    high = f"to {money(value.high)}" if math.isfinite(value.high) else "or more"
    return f"{money(value.mid)} ({money(value.low)} {high})"


def span(seconds: float | None) -> str:
    """A length of time: ``45 s``, ``12 min``, ``1 h 05 min``."""
    if seconds is None or not math.isfinite(seconds):
        return NONE
    if seconds < 90:
        return f"{number(seconds, 2 if seconds < 10 else 3)} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 60 else f"{minutes // 60} h {minutes % 60:02d} min"


def cooldown(seconds: int) -> str:
    """A cooldown; 0 is said to be none."""
    return f"{seconds} s" if seconds else "0 s (none)"
