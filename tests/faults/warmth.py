"""Warm interpreters, which have done everything once.

Measurements and repetitions in them do not begin cold.
"""

from __future__ import annotations

import importlib
import pkgutil
import shutil
from pathlib import Path

import pandas  # noqa: F401
import pyarrow.compute
import pyarrow.parquet  # noqa: F401
from faulted_operations import base

import tablevault
from tablevault import TableVault
from tablevault.catalog import SqlCatalog, sqlite_catalog
from tablevault.storage import file_systems


def warm_up(place: Path) -> SqlCatalog:
    """Import everything, and let SQLAlchemy put its statements together for the vaults of this place.

    They stay with what is returned, as long as it is held. No file is open afterwards.
    """
    # The vaults are in memory, which stands for a disk whose errors `syncfs` reports.
    file_systems._TRUSTED |= {"tmpfs"}
    for module in pkgutil.walk_packages(tablevault.__path__, "tablevault."):
        if not module.name.endswith("__main__") and module.name != "tablevault.processes.worker":
            importlib.import_module(module.name)
    shutil.rmtree(place, ignore_errors=True)
    place.mkdir()
    folder = place / "vault"
    catalog = sqlite_catalog(folder / "metadata" / "catalog.db")
    base(folder).execute_instance("made")
    vault = TableVault(folder)
    vault.verify()
    vault.get_dataframe("made")
    del vault
    catalog.close()
    shutil.rmtree(place)
    return catalog
