"""All owners keep the promises of the interface."""

import pytest

from tablevault.catalog.owners import OwnerFiles
from tablevault.testing import OWNERS_CHECKS, MemoryOwners

each_check = pytest.mark.parametrize("check", OWNERS_CHECKS, ids=lambda check: check.__name__)


@each_check
def test_lock_files_conform(check, tmp_path):
    check(lambda: OwnerFiles(tmp_path / "owners"))


@each_check
def test_owners_in_memory_conform(check):
    owners = MemoryOwners()
    check(lambda: owners)
