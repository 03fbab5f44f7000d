"""A run has one writer at a time."""

from __future__ import annotations

from pathlib import Path

import pytest

from tuner.errors import RunDirectoryError
from tuner.store.lock import has_writer, only_writer


def test_a_second_writer_is_kept_out_and_told_what_to_do(tmp_path: Path) -> None:
    assert not has_writer(tmp_path)
    with only_writer(tmp_path):
        assert has_writer(tmp_path)
        with pytest.raises(RunDirectoryError) as refused, only_writer(tmp_path):
            pass
    assert "Ctrl-C" in str(refused.value.hint)
    assert not has_writer(tmp_path)
    with only_writer(tmp_path):
        assert has_writer(tmp_path)
