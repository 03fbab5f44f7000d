"""What "good enough" means: latency objectives, an error allowance, and a verdict."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Verdict(StrEnum):
    """The only three answers to "does it hold the SLO?"."""

    MET = "MET"
    VIOLATED = "VIOLATED"
    INCONCLUSIVE = "INCONCLUSIVE"


class Measure(StrEnum):
    """Which time an objective is about.

    ``TTFT`` is the time to the first chunk of a streamed answer, ``CHUNK_GAP`` the longest gap
    between two of its chunks: one stall in an answer is what its reader notices.
    """

    LATENCY = "latency"
    TTFT = "ttft"
    CHUNK_GAP = "chunk_gap"

    @property
    def streamed(self) -> bool:
        """Whether only a streamed answer has such a time."""
        return self is not Measure.LATENCY


@dataclass(frozen=True, slots=True)
class LatencyObjective:
    """A quantile of a time must not exceed a threshold.

    Errors and timeouts count as infinitely slow, so an objective is met when the share of
    requests that failed or took longer than ``threshold_s`` is at most ``allowance``.
    """

    quantile: float
    threshold_s: float
    measure: Measure = Measure.LATENCY

    def __post_init__(self) -> None:
        if not 0.0 < self.quantile < 1.0:
            raise ValueError(f"quantile must be inside (0, 1): {self.quantile}")
        if not self.threshold_s > 0.0:
            raise ValueError(f"threshold must be positive: {self.threshold_s}")

    @property
    def allowance(self) -> float:
        """The share of requests that may be slower (0.01 for p99), free of binary dust."""
        return round(1.0 - self.quantile, 12)

    @property
    def name(self) -> str:
        """``p99``, ``p99.9``, ``ttft_p95``, ``chunk_gap_p95``."""
        label = f"p{self.quantile * 100:.10g}"
        return label if self.measure is Measure.LATENCY else f"{self.measure.value}_{label}"


@dataclass(frozen=True, slots=True)
class Slo:
    """One or more latency objectives and an optional ceiling on the share of errors."""

    objectives: tuple[LatencyObjective, ...]
    max_error_rate: float | None = None

    def __post_init__(self) -> None:
        if not self.objectives:
            raise ValueError("an SLO needs at least one latency objective")
        names = [o.name for o in self.objectives]
        if len(set(names)) != len(names):
            raise ValueError(f"an objective is named twice: {names}")
        if self.max_error_rate is not None and not 0.0 <= self.max_error_rate < 1.0:
            raise ValueError(f"max_error_rate must be inside [0, 1): {self.max_error_rate}")

    @property
    def slowest_threshold_s(self) -> float:
        """The largest threshold: what a client timeout is compared with."""
        return max(o.threshold_s for o in self.objectives)

    def describe(self) -> str:
        """One line for people: ``p99 <= 100 ms, errors <= 0.1 %``."""
        parts = [f"{o.name} <= {o.threshold_s * 1e3:g} ms" for o in self.objectives]
        if self.max_error_rate is not None:
            parts.append(f"errors <= {self.max_error_rate * 100:g} %")
        return ", ".join(parts)
