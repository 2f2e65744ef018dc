"""Connecting to a Ray cluster, in an interpreter that is not connected."""

from __future__ import annotations

import pytest
from cluster_work import Work

pytestmark = pytest.mark.ray


def test_an_address_where_no_cluster_is_pauses(tmp_path):
    work = Work(tmp_path, "127.0.0.1:9")
    work.build("square")
    with pytest.raises(ConnectionError, match="found no Ray cluster at '127.0.0.1:9'"):
        work.run("nightly")
    assert work.vault.get_process("nightly").status == "paused"
