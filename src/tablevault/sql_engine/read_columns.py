"""The columns of frame files that a statement reads, according to DuckDB's plan."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

_FILES = "READ_PARQUET"
"""The operator that reads frame files."""
_OTHER_LEAVES = frozenset({"COLUMN_DATA_SCAN", "CTE_SCAN", "DELIM_SCAN", "DUMMY_SCAN", "EMPTY_RESULT", "ARROW_SCAN"})
"""Operators without inputs that read no file."""
_COLUMN = re.compile(r"c(\d+)")
"""The name of a column in the views of `frame_views`, by its position."""


def positions_read(plan: str) -> frozenset[int] | None:
    """Return the positions of the columns that a statement may read, in any of its files.

    `None` stands for all columns: the plan has an unknown operator, or reads no column at all.

    Parameters
    ----------
    plan
        The physical plan, as `EXPLAIN (FORMAT JSON)` returns it.
    """
    found: set[int] = set()
    for operator in _operators(json.loads(plan)):
        facts = operator.get("extra_info") or {}
        if operator.get("name") == _FILES:
            if not facts.get("Projections"):
                return None
            # Filters may read further columns. A constant that looks like a column only adds to the result.
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
