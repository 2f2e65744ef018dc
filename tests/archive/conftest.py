"""A small vault to pack, unpack and delete."""

from __future__ import annotations

import pandas as pd
import pytest

from tablevault import TableVault


@pytest.fixture
def db_dir(tmp_path):
    """A vault with a written instance with an artifact, a code module and a temporary instance."""
    folder = tmp_path / "vault"
    vault = TableVault(folder, author="ada", create=True)
    vault.create_code_module("sums", text="def one():\n    return 1\n")
    vault.create_table("pictures")
    vault.create_instance("pictures", external_edit=True)
    (folder / "pictures" / "TEMP_base" / "artifacts" / "a.txt").write_text("a picture")
    frame = pd.DataFrame({"n": [1], "picture": ["a.txt"]})
    vault.write_instance(frame, "pictures", dtypes={"picture": "artifact_string"})
    vault.create_instance("pictures", "next")
    return folder
