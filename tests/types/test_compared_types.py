"""Cells of every kind are equal to themselves, wherever their rows stand."""

from __future__ import annotations

import pandas as pd
from kinds import SERIES

from tablevault import TableVault


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
