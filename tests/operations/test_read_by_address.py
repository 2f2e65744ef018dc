"""Reads by address.

One text names the instance, and the frame shows its id.
"""

import json
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pytest

from tablevault import TableVault, tv_errors


@pytest.fixture
def vault(tmp_path):
    vault = TableVault(tmp_path / "vault", author="a", create=True)
    vault.create_table("stories")
    for version, words in (("base", ["old"]), ("base", ["a", "b"]), ("v2", ["c"])):
        vault.create_instance("stories", version, external_edit=True)
        vault.write_instance(pd.DataFrame({"word": words, "n": range(len(words))}), "stories", version)
    return vault


def test_read_returns_the_newest_instance_of_a_version(vault):
    assert vault.read("stories")["word"].tolist() == ["a", "b"]
    assert vault.read("stories(base)")["word"].tolist() == ["a", "b"]
    assert vault.read("stories(v2)")["word"].tolist() == ["c"]


def test_read_returns_an_instance_by_its_id(vault):
    first, _ = vault.get_table_instances("stories")
    assert vault.read(f"stories({first})")["word"].tolist() == ["old"]


def test_read_takes_columns_and_rows(vault):
    frame = vault.read("stories", columns=["n"], rows=1)
    assert frame.to_dict("list") == {"n": [0]}


def test_frames_that_are_read_name_their_instance(vault):
    marker = json.loads(Path(vault.db_dir, ".tablevault").read_text())
    expected = {
        "table": "stories",
        "instance_id": vault.get_table_instances("stories")[-1],
        "vault_id": marker["vault_id"],
    }
    assert vault.read("stories").attrs["tablevault"] == expected
    table = vault.read("stories", format="arrow")
    assert isinstance(table, pa.Table)
    assert json.loads(table.schema.metadata[b"tablevault"]) == expected
    assert vault.read("stories", format="polars")["word"].to_list() == ["a", "b"]


@pytest.mark.parametrize(
    ("address", "said"),
    [
        ("", "is not an address"),
        ("stories()", "is not an address"),
        ("stories(v2", "is not an address"),
        ("stories (v2)", "is not an address"),
        ("stories@", "is not an address"),
        ("stories(v2)@paper", "is not an address"),
        ("stories@paper", "has no tag 'paper'"),
        ("storys", "stories"),
        ("stories(v3)", "v2"),
        ("stories(base_1_0)", "base_1_0"),
        ("stories(TEMP_base)", "TEMP_base"),
        (7, "must be text, not int"),
        (None, "must be text, not None"),
    ],
)
def test_read_refuses_an_address_of_nothing(vault, address, said):
    with pytest.raises(tv_errors.TVArgumentError, match=said):
        vault.read(address)
