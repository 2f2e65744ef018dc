"""Columns that a statement reads from frame files, according to DuckDB's plan."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

_FILES = "READ_PARQUET"
"""Name of the operator that reads frame files."""
_OTHER_LEAVES = frozenset({"COLUMN_DATA_SCAN", "CTE_SCAN", "DELIM_SCAN", "DUMMY_SCAN", "EMPTY_RESULT", "ARROW_SCAN"})
"""Leaf operators that read no files."""
_COLUMN = re.compile(r"c(\d+)")
"""Positional column names in the queries of `frame_views`."""


def positions_read(plan: str) -> frozenset[int] | None:
    """Return a superset of the column positions that a statement reads from any file.

    `None` means all columns; it is returned if the plan names no columns, or has unknown operators.

    Parameters
    ----------
    plan
        The physical plan, from `EXPLAIN (FORMAT JSON)`.
    """
    found: set[int] = set()
    for operator in _operators(json.loads(plan)):
        facts = operator.get("extra_info") or {}
        if operator.get("name") == _FILES:
            if not facts.get("Projections"):
                return None
            # Filters may read columns outside the projections. Literals that look like column names are harmless.
            read = json.dumps([facts["Projections"], facts.get("Filters", "")])
            found.update(map(int, _COLUMN.findall(read)))
        elif not operator.get("children") and operator.get("name") not in _OTHER_LEAVES:
            return None
    return frozenset(found) or None


def _operators(plan: Any) -> Iterator[dict[str, Any]]:
    """Yield the operators of a plan."""
    waiting = list(plan)
    while waiting:
        operator = waiting.pop()
        yield operator
        waiting += operator.get("children") or ()
