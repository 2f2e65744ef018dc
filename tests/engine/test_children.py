"""Memory left by operations.

A process and the runner of its children refer to one another.
"""

from __future__ import annotations

import gc

import pytest

from tablevault import TableVault
from tablevault.processes import process


@pytest.mark.usefixtures("no_collections")
def test_process_is_freed_without_a_collection(tmp_path):
    gc.collect()
    before = len(process._open_here)
    vault = TableVault(tmp_path / "vault", create=True)
    vault.create_table("stories")
    assert len(process._open_here) == before
