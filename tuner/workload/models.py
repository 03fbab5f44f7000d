"""Which model a request names: popularity laws, traces, and payloads spread over models."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from tuner.errors import PayloadError
from tuner.workload.payloads import PayloadSet

FloatArray = NDArray[np.float64]

MOST_MODELS = 10_000
MOST_BYTES = 2**30
"""Every body is kept ready once per model."""


@dataclass(frozen=True, slots=True, eq=False)
class ModelMix:
    """Models and their shares of the requests, most popular first.

    Parameters
    ----------
    names
        What requests say in ``TargetModel``.
    shares
        Share of requests of each, shape (n,), summing to 1, descending.

    Raises
    ------
    PayloadError
        If there is no model, too many, a name twice, or a share that is not above 0.
    """

    names: tuple[str, ...]
    shares: FloatArray

    def __post_init__(self) -> None:
        if not 1 <= len(self.names) <= MOST_MODELS:
            raise PayloadError(
                "unusable number of models", value=len(self.names), allowed=f"1 to {MOST_MODELS}"
            )
        if len(set(self.names)) != len(self.names):
            raise PayloadError("a model is named twice", value=len(self.names))
        sound = self.shares.shape == (len(self.names),) and bool(np.all(self.shares > 0.0))
        if not sound or abs(float(self.shares.sum()) - 1.0) > 1e-9:
            raise PayloadError("shares of models must be above 0 and add up to 1")

    def __len__(self) -> int:
        return len(self.names)

    def first(self, count: int) -> ModelMix:
        """The ``count`` most popular models alone, in their proportions."""
        shares = self.shares[:count]
        return ModelMix(self.names[:count], shares / shares.sum())


def law(count: int, name: str, *, popularity: str, exponent: float = 1.0) -> ModelMix:
    """So many models under a popularity law.

    Parameters
    ----------
    name
        Name of each model; ``{n}`` is its number from 1.
    popularity
        ``"zipf"``: the k-th model has a share in proportion to k**-exponent; ``"uniform"``.

    Raises
    ------
    PayloadError
        If the law is unknown, or the name has no ``{n}`` although there are several models.
    """
    if popularity not in ("zipf", "uniform"):
        raise PayloadError("unknown popularity", value=popularity, allowed="zipf, uniform")
    if "{n}" not in name and count > 1:
        raise PayloadError(
            "the name of a model needs {n}, its number", value=name, allowed="model-{n}.tar.gz"
        )
    rank = np.arange(1, count + 1, dtype=np.float64)
    weight = np.ones(count) if popularity == "uniform" else rank**-exponent
    names = tuple(name.replace("{n}", str(n)) for n in range(1, count + 1))
    return ModelMix(names, weight / weight.sum())


def parse_model_trace(text: str, *, source: str = "models") -> ModelMix:
    """Models and shares from a trace: one request per line, its model in the first column.

    A line ``model,...`` at the top is a header. Only how often each model occurs is used:
    requests are drawn independently, which meets the memory with fewer repetitions than
    traffic that comes in bursts per model, so the hit ratio errs to the low side.

    Raises
    ------
    PayloadError
        If no line names a model.
    """
    lines = [line.split(",", 1)[0].strip() for line in text.splitlines()]
    found = [line for line in lines if line]
    if found and found[0].lower() in ("model", "target_model", "targetmodel"):
        found = found[1:]
    if not found:
        raise PayloadError(f"{source} names no model", allowed="one model per line")
    ranked = sorted(Counter(found).items(), key=lambda pair: (-pair[1], pair[0]))
    counts = np.array([n for _, n in ranked], dtype=np.float64)
    return ModelMix(tuple(name for name, _ in ranked), counts / counts.sum())


def spread(payloads: PayloadSet, models: ModelMix, *, class_per_model: bool = False) -> PayloadSet:
    """Every body for every model, weighted by both.

    Parameters
    ----------
    class_per_model
        Make the model the payload's class, so that a request log tells them apart; otherwise
        the classes stay.

    Raises
    ------
    PayloadError
        If the bodies would take too much memory.
    """
    size = len(models) * sum(len(p.body) for p in payloads.payloads)
    if size > MOST_BYTES:
        raise PayloadError(
            "the bodies of all models take too much memory",
            value=f"{len(payloads.payloads)} bodies for {len(models)} models: {size} bytes",
            allowed=f"at most {MOST_BYTES} bytes",
            hint="use fewer or smaller bodies",
        )
    return PayloadSet(
        tuple(
            replace(
                p,
                payload_class=name if class_per_model else p.payload_class,
                weight=float(share) * float(model_share),
                target_model=name,
            )
            for name, model_share in zip(models.names, models.shares, strict=True)
            for p, share in zip(payloads.payloads, payloads.shares, strict=True)
        )
    )
