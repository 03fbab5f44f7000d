"""CloudWatch's view of the models behind a multi-model endpoint."""

from __future__ import annotations

import math
from dataclasses import dataclass

from tuner.autoscaling.policy import INSTANCE_NAMESPACE
from tuner.endpoints.aws import Aws
from tuner.endpoints.metrics import (
    INVOCATION_NAMESPACE,
    PERIOD_S,
    metric_data,
    metric_query,
)
from tuner.units import us_to_s

QUERIES = (
    ("hits", "ModelCacheHit", "Sum"),
    ("requests", "ModelCacheHit", "SampleCount"),
    ("wait_us", "ModelLoadingWaitTime", "Sum"),
    ("download_us", "ModelDownloadingTime", "Sum"),
    ("downloads", "ModelDownloadingTime", "SampleCount"),
    ("load_us", "ModelLoadingTime", "Sum"),
    ("loads", "ModelLoadingTime", "SampleCount"),
    ("unloads", "ModelUnloadingTime", "SampleCount"),
)


@dataclass(frozen=True, slots=True)
class ModelActivity:
    """What happened to models in some whole minutes; None where AWS published nothing.

    ``wait_s`` is the mean wait of a request whose model was not loaded, ``loaded_models`` the
    mean number of models on an instance.
    """

    requests: int
    hit_ratio: float | None
    wait_s: float | None
    downloads: int
    download_s: float | None
    loads: int
    load_s: float | None
    unloads: int
    loaded_models: float | None


def read_models(
    aws: Aws, endpoint: str, variant: str, start_unix_s: float, end_unix_s: float
) -> ModelActivity | None:
    """The whole minutes between two times; None when there is none.

    Raises
    ------
    EndpointError
        If AWS refuses.
    """
    start = math.ceil(start_unix_s / PERIOD_S) * PERIOD_S
    end = math.floor(end_unix_s / PERIOD_S) * PERIOD_S
    if end <= start:
        return None
    queries = {
        key: metric_query(INVOCATION_NAMESPACE, metric, statistic, endpoint, variant)
        for key, metric, statistic in QUERIES
    }
    queries["held"] = metric_query(
        INSTANCE_NAMESPACE, "LoadedModelCount", "Average", endpoint, variant
    )
    data = metric_data(aws, queries, float(start), float(end))
    total = {key: math.fsum(values) for key, (_, values) in data.items()}
    held = data["held"][1]
    cold = total["requests"] - total["hits"]

    def mean_s(amount: str, count: float) -> float | None:
        return us_to_s(total[amount] / count) if count > 0.0 else None

    return ModelActivity(
        requests=round(total["requests"]),
        hit_ratio=total["hits"] / total["requests"] if total["requests"] else None,
        # AWS may or may not publish zeros for requests that did not wait: the sum does not care.
        wait_s=mean_s("wait_us", cold),
        downloads=round(total["downloads"]),
        download_s=mean_s("download_us", total["downloads"]),
        loads=round(total["loads"]),
        load_s=mean_s("load_us", total["loads"]),
        unloads=round(total["unloads"]),
        loaded_models=math.fsum(held) / len(held) if held else None,
    )
