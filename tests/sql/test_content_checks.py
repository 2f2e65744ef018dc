"""Statements on damaged files.

Reading a damaged column is refused; other columns give the right rows.
"""

from __future__ import annotations

import os
from pathlib import Path

import pandas as pd
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tablevault import TableVault, tv_errors
from tablevault.sql_engine.read_columns import positions_read

ROWS = 400
COLUMNS = ["a", "C1", 'b "c" 2', "c0", "js", "vec"]
QUOTED = ['"a"', '"C1"', '"b ""c"" 2"', '"c0"', '"js"', '"vec"']

STATEMENTS = [
    "SELECT sum(a) FROM t",
    "SELECT count(*) FROM t",
    "SELECT count(c0) FROM t",
    "FROM t ORDER BY a LIMIT 3",
    "SELECT * EXCLUDE (vec) FROM t WHERE c0 > 0.5 ORDER BY a",
    'SELECT a FROM t ORDER BY "b ""c"" 2", a LIMIT 5',
    "SELECT hash(t) AS h FROM t ORDER BY h LIMIT 5",
    "SELECT t FROM t ORDER BY a LIMIT 2",
    "SELECT COLUMNS('c.*') FROM t ORDER BY 1 LIMIT 4",
    'SELECT "C1", count(*) FROM t GROUP BY ALL ORDER BY ALL',
    "SELECT x.a FROM t x JOIN t y ON x.a = y.a + 1 WHERE y.c0 > 0.9 ORDER BY 1",
    "SELECT a FROM t WHERE c0 = (SELECT max(c0) FROM t)",
    "SELECT (SELECT max(c0) FROM t y WHERE y.a < x.a) AS m FROM t x ORDER BY a LIMIT 9",
    "WITH q AS MATERIALIZED (SELECT a, c0 FROM t) SELECT p.a FROM q p, q r WHERE p.c0 = r.c0 ORDER BY 1 LIMIT 7",
    "SELECT js->>'$.k' AS k FROM t ORDER BY a LIMIT 3",
    "SELECT vec[1] AS v FROM t ORDER BY a LIMIT 3",
    "SELECT 1 FROM t LIMIT 1",
    "SELECT a FROM t WHERE false",
    "SELECT a FROM t WHERE \"C1\" LIKE 'text 1%' ORDER BY a",
    "SELECT min(a), max(a) FROM t",
    'SELECT a, row_number() OVER (PARTITION BY "C1" ORDER BY c0) AS r FROM t ORDER BY a LIMIT 9',
    'SELECT a FROM t UNION SELECT length("C1") FROM t ORDER BY 1 LIMIT 9',
    "SELECT count(DISTINCT u.a) FROM t NATURAL JOIN t AS u",
    "SUMMARIZE t",
    "SELECT x.a FROM t x SEMI JOIN (SELECT c0 FROM t ORDER BY c0 LIMIT 5) y USING (c0) ORDER BY 1",
]

expression = st.sampled_from(
    [*QUOTED, 'hash("vec")', 'length("C1")', '"a" + 1', '"c0" * 2', "1", "'c3'", "coalesce(\"js\"::VARCHAR, '')"]
)
condition = st.sampled_from(
    ["true", '"a" % 3 = 0', '"c0" > 0.5', "\"C1\" LIKE '%2%'", '"vec"[1] > 10', "\"js\"->>'$.k' > 'k3'", "'c4' <> 'c5'"]
)
statements = st.builds(
    lambda shown, kept, ordered, limit: (
        f"SELECT {', '.join(f'{item} AS e{place}' for place, item in enumerate(shown))} FROM t WHERE {kept} "
        f"ORDER BY {ordered}, {', '.join(QUOTED)} LIMIT {limit}"
    ),
    st.lists(expression, min_size=1, max_size=3),
    condition,
    expression.filter(lambda item: item.startswith('"')),
    st.integers(1, 500),
)


class Damaged:
    """A table of which one column is damaged, or has other values."""

    def __init__(self, folder: Path) -> None:
        self.vault = TableVault(folder / "vault", author="a", create=True)
        self._write(self.vault, None)
        self.others = []
        for column in COLUMNS:
            other = TableVault(folder / f"other {len(self.others)}", author="a", create=True)
            self._write(other, column)
            self.others.append(other)
        self.path = Path(self.vault.get_frame_path("t", check_content=False))
        self.content = self.path.read_bytes()
        self.path.chmod(0o644)

    def _write(self, vault: TableVault, changed: str | None) -> None:
        def of(column: str, number: int) -> int:
            return ROWS - number if column == changed else number

        frame = pd.DataFrame(
            {
                "a": [of("a", number) for number in range(ROWS)],
                "C1": [f"text {of('C1', number) % 17}" for number in range(ROWS)],
                'b "c" 2': [of('b "c" 2', number) * 7 % 101 for number in range(ROWS)],
                "c0": [of("c0", number) * 13 % 97 / 97 for number in range(ROWS)],
                "js": [{"k": f"k{of('js', number) % 9}"} for number in range(ROWS)],
                "vec": [[float(of("vec", number)), 0.5] for number in range(ROWS)],
            }
        )
        vault.write("t", frame, dtypes={"js": "json", "vec": "vector<float32, 2>"})

    def damage(self, column: str) -> None:
        """Flip a bit in the middle of a column, in place of the damage before."""
        content = bytearray(self.content)
        metadata = pq.read_metadata(self.path)
        places = [
            place for place in range(metadata.num_columns) if metadata.schema.column(place).path.split(".")[0] == column
        ]
        chunk = metadata.row_group(0).column(places[0])
        start = chunk.dictionary_page_offset if chunk.has_dictionary_page else chunk.data_page_offset
        content[start + chunk.total_compressed_size // 2] ^= 1
        self._put(bytes(content))

    def repair(self) -> None:
        self._put(self.content)

    def _put(self, content: bytes) -> None:
        # A new file each time, which nothing remembers as checked.
        new = self.path.with_name("new")
        new.write_bytes(content)
        os.replace(new, self.path)

    def check(self, statement: str) -> None:
        expected = _shown(self.vault, statement)
        for column, other in zip(COLUMNS, self.others, strict=True):
            self.damage(column)
            try:
                found = _shown(self.vault, statement)
            except tv_errors.TVFileError:
                continue
            finally:
                self.repair()
            assert found == expected
            assert _shown(other, statement) == expected, f"it depends on {column}, which was not checked"


def _shown(vault: TableVault, statement: str) -> str:
    return vault.query(statement, format="arrow")[0].to_pylist().__repr__()


@pytest.fixture(scope="module")
def damaged(tmp_path_factory):
    return Damaged(tmp_path_factory.mktemp("damaged"))


@pytest.mark.parametrize("statement", STATEMENTS)
def test_statement_that_reads_a_damaged_column_is_refused(damaged, statement):
    damaged.check(statement)


@pytest.mark.slow
@settings(max_examples=300, deadline=None)
@given(statements)
def test_random_statement_that_reads_a_damaged_column_is_refused(damaged, statement):
    damaged.check(statement)


def test_statement_over_other_columns_is_answered(damaged):
    expected = _shown(damaged.vault, "SELECT sum(a) FROM t WHERE c0 > 0.5")
    damaged.damage("vec")
    try:
        assert _shown(damaged.vault, "SELECT sum(a) FROM t WHERE c0 > 0.5") == expected
        with pytest.raises(tv_errors.TVFileError, match="column"):
            damaged.vault.query("FROM t")
        with pytest.raises(tv_errors.TVFileError, match="column"):
            damaged.vault.connect()
    finally:
        damaged.repair()


def test_plans_of_unknown_kinds_stand_for_all_columns():
    known = (
        '[{"name": "READ_PARQUET", "children": [], "extra_info": {"Projections": ["c3", "c11.u"], "Filters": "c7>1"}}]'
    )
    assert positions_read(known) == {3, 7, 11}
    assert positions_read('[{"name": "READ_PARQUET", "children": [], "extra_info": {}}]') is None
    assert positions_read(f'[{{"name": "NEW_SCAN", "children": []}}, {known[1:]}') is None
    assert positions_read('[{"name": "COLUMN_DATA_SCAN", "children": []}]') is None
