"""Requests as Parquet, when the ``parquet`` extra is installed."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from tuner.campaign.types import StageResult
from tuner.errors import InputError
from tuner.stats.requests import Outcome


def parquet_bytes(stages: Sequence[StageResult]) -> bytes:
    """One table of all requests with their stage; stages without raw requests are left out.

    Raises
    ------
    InputError
        If pyarrow is not installed.
    """
    try:
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ImportError:
        raise InputError(
            "Parquet needs pyarrow", hint="pip install 'tuner[parquet]', or use --format csv"
        ) from None
    logs = [(s.spec.index, s.log) for s in stages if s.log is not None]
    columns = {"stage": np.repeat([i for i, _ in logs], [len(log) for _, log in logs])}
    for name in logs[0][1].columns() if logs else ():
        columns[name] = np.concatenate([log.columns()[name] for _, log in logs])
    arrays = {name: pa.array(values) for name, values in columns.items()}
    if logs:
        labels = pa.array([o.name.lower() for o in Outcome])
        codes = pa.array(columns["outcome"].astype(np.int8))
        arrays["outcome"] = pa.DictionaryArray.from_arrays(codes, labels)
    sink = pa.BufferOutputStream()
    pq.write_table(pa.table(arrays), sink, compression="zstd")
    return bytes(sink.getvalue().to_pybytes())
