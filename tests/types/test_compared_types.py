"""Cells of every kind are equal to themselves, wherever their rows stand."""

from __future__ import annotations

import pandas as pd
import pyarrow as pa
import pytest
from kinds import SERIES

from tablevault import TableVault, tv_errors


def test_equal_values_of_every_dtype_are_the_same(tmp_path):
    vault = TableVault(tmp_path / "vault", author="ada", create=True)
    frames = [pd.DataFrame({"key": range(3), name: series}) for name, series in SERIES.items()]
    for number, frame in enumerate(frames):
        vault.write(f"t{number}", frame, primary_key="key")
        vault.write(f"t{number}", frame.iloc[::-1].reset_index(drop=True), primary_key="key", skip_unchanged=False)
        diff = vault.diff_instances(f"t{number}")
        assert (diff.rows.same, diff.differs) == (3, False), frame.columns[1]
        shifted = vault.diff_instances(
            f"t{number}", columns=[frame.columns[1]], on="key", after=diff.before_id, before=diff.after_id
        )
        assert not shifted.differs


def test_times_beyond_those_of_python_are_keys(tmp_path):
    vault = TableVault(tmp_path / "vault", create=True)
    times = pa.array([10**17, 10**17 + 1, 5], pa.timestamp("ms"))
    vault.write("t", pa.table({"x": times}), primary_key="x")
    assert vault.get_dataframe("t", format="arrow")[0].column("x").combine_chunks().equals(times)
    with pytest.raises(
        tv_errors.TVTableError, match="rows 0 and 1 both have '<value out of range: 100000000000000000>'"
    ):
        vault.write("u", pa.table({"x": times.take(pa.array([0, 0]))}), primary_key="x")
