"""Inputs and results of SQL statements."""

from __future__ import annotations

import datetime
import decimal
import math
import os
import signal
import threading
import time
from pathlib import Path

import duckdb
import numpy as np
import pandas as pd
import polars
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tablevault import TableVault, TableVaultWarning, tv_errors

GENERATIONS = int(os.environ.get("GENERATIONS", "30"))
"""How often two tables are replaced while a join of both is read; more with `make test-slow GENERATIONS=1000`."""

FAILING = """
import pandas as pd
def rows():
    return pd.DataFrame({"x": [0, 1, 2, 3]})
def half(x):
    if x == 1:
        raise ValueError("one is odd")
    return x / 2
def next(half):
    return half + 1
def inverse(x):
    return 1 / (x % 2)
"""


def index(name, function, **more):
    return "\n".join(
        [
            f"builder_type: {'IndexBuilder' if function == 'rows' else 'ColumnBuilder'}",
            f"changed_columns: [{name}]",
            f"python_function: {function}",
            "code_module: made",
            "is_custom: true",
            *(f"{key}: {value}" for key, value in more.items()),
        ]
    )


def rows(answer):
    return [tuple(row) for row in answer[0].itertuples(index=False)]


def test_names_are_tables_addresses_and_expressions(vault):
    newest = vault.get_table_instances("stories")[-1]
    joined = vault.query(
        'SELECT s.title, old.author, sum(stars) AS n FROM STORIES s JOIN "stories@paper" old USING (title) '
        'JOIN reviews USING (title) LEFT JOIN "stories(v2)" USING (title) GROUP BY ALL'
    )
    assert rows(joined) == [("Fox", "ann", 9)]
    assert set(joined[1]) == {"STORIES", "stories@paper", "reviews", "stories(v2)"}
    assert joined[1]["STORIES"] == newest
    assert rows(vault.query(f'SELECT count(*) FROM "stories({newest})"')) == [(3,)]
    assert rows(vault.query("WITH stories AS (SELECT title FROM stories LIMIT 1) FROM stories")) == [("Fox",)]
    shadowed = vault.query("WITH reviews AS (SELECT 7 AS seven) FROM reviews")
    assert (rows(shadowed), shadowed[1]) == ([(7,)], {})
    recursive = "WITH RECURSIVE t AS (SELECT 1 AS n UNION ALL SELECT n + 1 FROM t WHERE n < 3) FROM t"
    assert rows(vault.query(recursive)) == [(1,), (2,), (3,)]


@pytest.mark.parametrize(
    "statement",
    [
        "VALUES (1)",
        "TABLE stories",
        "DESCRIBE stories",
        "SUMMARIZE stories",
        "UNPIVOT reviews ON stars",
        "FROM stories PIVOT (count(*) FOR author IN ('ann', 'bob'))",
        "FROM range(3)",
        "FROM json_each('[1]')",
        "SELECT unnest([1, 2])",
        "SELECT 1 UNION SELECT 2 ORDER BY 1 LIMIT 1",
        "SELECT title.lower() FROM stories",
        "SELECT * EXCLUDE (author) FROM stories TABLESAMPLE 100%",
        "SELECT count(*) OVER (ORDER BY title) FROM stories QUALIFY true",
        "SELECT COLUMNS('t.*') FROM stories",
        "SELECT list_transform([1], lambda x: x + 1)",
        "SELECT CAST([{'a': 1}] AS STRUCT(a INTEGER)[]), x'00', DATE '2026-01-01', 1.5, 'a'::ENUM ('a')",
    ],
)
def test_statements_that_read_pass(vault, statement):
    assert len(vault.query(statement)[0])


def test_formats_rows_and_parameters(vault):
    statement = "SELECT title FROM stories WHERE author = $author ORDER BY title"
    assert rows(vault.query(statement, {"author": "ann"})) == [("Fox",), ("Sea",)]
    assert rows(vault.query("SELECT title FROM stories WHERE author = ?", ["bob"])) == [("Owl",)]
    assert rows(vault.query(statement, {"author": "ann"}, rows=1)) == [("Fox",)]
    assert len(vault.query("FROM range(100000000000)", rows=5)[0]) == 5
    assert isinstance(vault.query("FROM stories", format="arrow")[0], pa.Table)
    assert isinstance(vault.query("FROM stories", format="polars")[0], polars.DataFrame)
    assert list(vault.query("SELECT title, title, title AS Title FROM stories")[0].columns) == [
        "title",
        "title_1",
        "Title",
    ]


def test_only_given_frames_are_joined_with(vault):
    local = pd.DataFrame({"title": ["Fox"], "note": [{"a": 1}]})
    with pytest.raises(tv_errors.TVArgumentError, match="no table 'local'"):
        vault.query("FROM local")
    joined, instances = vault.query("SELECT note, author FROM Mine JOIN stories USING (title)", frames={"mine": local})
    assert joined.to_dict("list") == {"note": [{"a": 1}], "author": ["ann"]}
    assert list(instances) == ["stories"]
    assert vault.query("FROM t", frames={"t": polars.DataFrame({"x": [1]})})[0]["x"].tolist() == [1]
    with pytest.raises(tv_errors.TVArgumentError, match="frames contains 'stories', which is a table"):
        vault.query("SELECT 1", frames={"Stories": local})


@pytest.mark.parametrize(
    ("statement", "kind", "said"),
    [
        ("FROM storys", tv_errors.TVArgumentError, "did you mean 'stories'"),
        ('FROM "stories@papr"', tv_errors.TVArgumentError, "did you mean 'paper'"),
        ('FROM "stories(v3)"', tv_errors.TVArgumentError, "v2"),
        ('FROM "stories(TEMP_base)"', tv_errors.TVArgumentError, "no instance 'TEMP_base'"),
        ("FROM vault.table", tv_errors.TVArgumentError, "did you mean 'tables'"),
        ("SELECT nothing FROM stories", tv_errors.TVTableError, "nothing"),
        ("SELECT error('no')", tv_errors.TVTableError, "no"),
        ("SELECT CAST(title AS INTEGER) FROM stories", tv_errors.TVTableError, "Could not convert"),
        ("SELECT ?", tv_errors.TVTableError, "parameter"),
        ("SELECT INTERVAL 1 MONTH AS m", tv_errors.TVTableError, "'m' of the result has an interval of months"),
        (
            "SELECT INTERVAL 200000000 DAY AS d",
            tv_errors.TVTableError,
            "'d' of the result has an interval that is too long",
        ),
        ("SELECT [INTERVAL 200000000 DAY] AS d", tv_errors.TVTableError, "has an interval that is too long"),
        ("SELECT union_value(a := 1) AS u", tv_errors.TVTableError, "'u' of the result has values of type UNION"),
    ],
)
def test_errors_of_statements_name_the_fault(vault, statement, kind, said):
    with pytest.raises(kind, match=said):
        vault.query(statement)


def test_results_have_the_types_of_frames(vault):
    frame, _ = vault.query(
        "SELECT '{\"a\": [1]}'::JSON AS j, INTERVAL 90 SECOND AS i, sum(stars) AS s, now() AS t, [INTERVAL 1 DAY] AS l, "
        "INTERVAL 2 DAY AS d, array[1.5, 2]::FLOAT[2] AS v FROM reviews",
        format="arrow",
    )
    assert [str(kind) for kind in frame.schema.types] == [
        "string",
        "duration[us]",
        "decimal128(38, 0)",
        "timestamp[us, tz=UTC]",
        "list<item: duration[us]>",
        "duration[us]",
        "fixed_size_list<item: float>[2]",
    ]
    assert frame["i"].to_pylist() == [datetime.timedelta(seconds=90)]
    assert frame["l"].to_pylist() == [[datetime.timedelta(days=1)]]
    assert frame["d"].to_pylist() == [datetime.timedelta(days=2)]
    assert vault.query("SELECT '{\"a\": [1]}'::JSON AS j")[0]["j"].tolist() == [{"a": [1]}]
    assert vault.query("SELECT CASE WHEN i > 0 THEN to_microseconds(i) END AS d FROM range(3) r(i)")[0]["d"].tolist()[
        1:
    ] == [
        pd.Timedelta(1, "us"),
        pd.Timedelta(2, "us"),
    ]


def test_as_of_reads_all_tables_of_one_moment(vault):
    first = vault.get_history("stories", operation="write")[-1].process_id
    assert rows(vault.query("SELECT count(*) FROM stories", as_of=first)) == [(1,)]
    assert rows(vault.query('SELECT count(*) FROM "stories@paper"', as_of=first)) == [(1,)]
    with pytest.raises(tv_errors.TVArgumentError, match="'reviews' had no instance"):
        vault.query("FROM reviews", as_of=first)


def test_limits_of_time_and_memory(vault):
    endless = "SELECT count(*) FROM range(100000000) a, range(100000) b"
    with pytest.raises(TimeoutError, match=r"not ended after 0\.2 s"):
        vault.query(endless, timeout=0.2)
    with pytest.raises(tv_errors.TVArgumentError, match="memory_limit is a size such as '1GiB', not 'lots'"):
        vault.query("SELECT 1", memory_limit="lots")
    assert rows(vault.query("SELECT current_setting('memory_limit')", memory_limit="100MiB")) == [("100.0 MiB",)]


def test_interrupt_ends_a_statement_and_propagates(vault):
    def interrupt():
        time.sleep(0.3)
        os.kill(os.getpid(), signal.SIGINT)

    thread = threading.Thread(target=interrupt)
    thread.start()
    with pytest.raises(KeyboardInterrupt):
        vault.query("SELECT count(*) FROM range(100000000) a, range(100000) b")
    thread.join()


def test_engines_are_kept_and_calls_do_not_see_one_another(vault):
    assert rows(vault.query("SELECT count(*) FROM x", frames={"x": pd.DataFrame({"a": [1]})})) == [(1,)]
    with pytest.raises(tv_errors.TVArgumentError, match="no table 'x'"):
        vault.query("FROM x")
    for _ in range(2):
        assert rows(vault.query("SELECT count(*) FROM stories")) == [(3,)]
        assert rows(vault.query("SELECT count(*) FROM vault.tags")) == [(1,)]
    answers = []
    threads = [
        threading.Thread(target=lambda: answers.append(rows(vault.query("SELECT sum(stars) FROM reviews"))))
        for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert answers == [[(10,)]] * 8


def test_views_describe_the_vault(vault):
    assert rows(vault.query("SELECT name, author FROM vault.tables ORDER BY name")) == [
        ("reviews", "ada"),
        ("stories", "ada"),
    ]
    tag = vault.get_tags()[0]
    assert rows(vault.query("SELECT tag, instance_id, process_id FROM vault.tags")) == [
        ("paper", tag.instance_id, tag.process_id)
    ]
    instances = rows(vault.query("SELECT version, active, \"rows\" FROM vault.instances WHERE table_name = 'stories'"))
    assert instances == [("base", True, 1), ("base", True, 3), ("v2", True, 1)]
    columns = "SELECT name, dtype, \"position\" FROM vault.columns WHERE table_name = 'reviews'"
    assert rows(vault.query(columns)) == [("title", "large_string", 0), ("stars", "Int64", 1)]
    listed = rows(vault.query("SELECT process_id, status FROM vault.processes"))
    assert listed == [(info.process_id, info.status) for info in vault.get_history()]
    with pytest.raises(tv_errors.TVArgumentError, match="use one of artifacts, errors, provenance, vault"):
        vault.query("FROM history.tables")


def test_failed_cells_are_null_and_described(tmp_path):
    vault = TableVault(tmp_path / "vault", author="a", create=True)
    vault.create_code_module("made", text=FAILING)
    vault.create_table("t")
    row_wise = {"return_type": "row-wise", "on_error": "collect"}
    builders = {
        "t_index": index("x", "rows", primary_key="[x]"),
        "half": index("half", "half", arguments='{x: "<<self.x[index]>>"}', **row_wise),
        "next": index("next", "next", arguments='{half: "<<self.half[index]>>"}', **row_wise),
    }
    vault.create_instance("t", builders=builders)
    with pytest.warns(TableVaultWarning, match="failed"):
        vault.execute_instance("t")
    assert rows(vault.query("SELECT x FROM t WHERE half IS NULL AND next IS NULL")) == [(1,)]
    assert vault.scan("t")[0].filter(polars.col("next").is_null()).collect()["x"].to_list() == [1]
    states = vault.query(
        "SELECT builder, \"index\", state FROM provenance.t WHERE state <> 'computed' ORDER BY builder"
    )
    assert rows(states) == [("half", 1, "failed"), ("next", 1, "skipped")]
    computed = "SELECT count(*), count(fingerprint), count(version) FROM provenance.t WHERE builder = 'half' AND state = 'computed'"
    assert rows(vault.query(computed)) == [(3, 3, 3)]
    assert rows(vault.query("SELECT count(*) FROM provenance.t WHERE builder = 't_index' AND \"index\" IS NULL")) == [
        (1,)
    ]
    errors = vault.query("SELECT builder, kind, message, key->>'x' FROM errors.t ORDER BY builder")
    assert [tuple(None if pd.isna(cell) else cell for cell in row) for row in rows(errors)] == [
        ("half", "failed", "one is odd", "1"),
        ("next", "skipped", None, "1"),
    ]
    assert rows(vault.query("SELECT failed_cells, skipped_cells FROM vault.instances")) == [(1, 1)]
    read = rows(vault.query('SELECT name, builder FROM vault.columns ORDER BY "position"'))
    assert read == [("x", "t_index"), ("half", "half"), ("next", "next")]


def test_failed_and_skipped_cells_are_exactly_those_that_a_retry_changes(tmp_path):
    vault = TableVault(tmp_path / "vault", author="a", create=True)
    vault.create_code_module("made", text=FAILING)
    vault.create_table("t")
    row_wise = {"return_type": "row-wise", "on_error": "collect", "max_failures": "100%"}
    builders = {
        "t_index": index("x", "rows", primary_key="[x]"),
        "inverse": index("inverse", "inverse", arguments='{x: "<<self.x[index]>>"}', **row_wise),
        "next": index("next", "next", arguments='{half: "<<self.inverse[index]>>"}', **row_wise),
        "half": index("half", "half", arguments='{x: "<<self.x[index]>>"}', **row_wise),
    }
    vault.create_instance("t", builders=builders)
    with pytest.warns(TableVaultWarning, match="failed"):
        vault.execute_instance("t")
    states = vault.query("SELECT builder, \"index\", state FROM provenance.t WHERE state IN ('failed', 'skipped')")
    failed = {("inverse", 0), ("inverse", 2), ("half", 1)}
    skipped = {("next", 0), ("next", 2)}
    assert {(builder, x) for builder, x, state in rows(states) if state == "failed"} == failed
    assert {(builder, x) for builder, x, state in rows(states) if state == "skipped"} == skipped
    assert rows(vault.query("SELECT count(*) FROM errors.t")) == [(5,)]
    frame = vault.scan("t")[0].collect()
    null = {(name, x) for name in ("inverse", "next", "half") for x in range(4) if frame[name][x] is None}
    assert null == failed | skipped
    vault.create_code_module(
        "made", text=FAILING.replace('raise ValueError("one is odd")', "pass").replace("(x % 2)", "2")
    )
    vault.retry_failed("t")
    cells = vault.diff_instances("t").frame("cells")
    changed = cells[["column", "x", "cause"]].itertuples(index=False, name=None)
    assert {(name, int(x), cause) for name, x, cause in changed} == {
        (*cell, "failed: before") for cell in failed | skipped
    }


def test_cells_computed_so_far_are_read_from_a_temporary_instance(tmp_path):
    vault = TableVault(tmp_path / "vault", author="a", create=True)
    vault.create_code_module("made", text=FAILING)
    vault.create_table("t")
    half = index("half", "half", arguments='{x: "<<self.x[index]>>"}', return_type="row-wise")
    vault.create_instance("t", builders={"t_index": index("x", "rows"), "half": half})
    with pytest.raises(ValueError, match="odd"):
        vault.execute_instance("t", process_id="mine")
    answer = vault.query('SELECT x, half FROM "t(TEMP_base)" WHERE half IS NOT NULL')
    assert rows(answer) == [(0, 0.0)]
    assert answer[1] == {"t(TEMP_base)": "TEMP_base"}
    connection = vault.connect(["t(TEMP_base)"])
    assert connection.sql('SELECT count(half), count(*) FROM "t(TEMP_base)"').fetchall() == [(1, 4)]
    assert connection.sql('SELECT count(*) FROM errors."t(TEMP_base)"').fetchall() == [(0,)]
    with pytest.raises(
        tv_errors.TVArgumentError, match=r'temporary and has no artifacts yet; errors\."t\(TEMP_base\)"'
    ):
        vault.query('FROM artifacts."t(TEMP_base)"')
    with pytest.raises(tv_errors.TVArgumentError, match="temporary"):
        vault.query('FROM "t(TEMP_base)"', as_of=datetime.datetime.now(datetime.UTC))


def test_artifacts_are_names_or_paths(tmp_path):
    vault = TableVault(tmp_path / "vault", author="a", create=True)
    vault.create_table("t", allow_multiple_artifacts=True)
    vault.create_instance("t", external_edit=True)
    Path(vault.get_artifact_folder("t"), "a.txt").write_text("text")
    vault.write_instance(pd.DataFrame({"file": ["a.txt"]}), "t", dtypes={"file": "artifact_string"})
    assert rows(vault.query("FROM t")) == [("a.txt",)]
    assert Path(rows(vault.query("FROM t", full_artifact_path=True))[0][0]).read_text() == "text"
    assert rows(vault.query("SELECT path, size, length(sha256) FROM artifacts.t")) == [("a.txt", 4, 64)]


def test_flipped_bit_returns_no_row(tmp_path):
    vault = TableVault(tmp_path / "vault", author="a", create=True)
    vault.write("t", pd.DataFrame({"a": range(1000), "b": [f"text {number}" for number in range(1000)]}))
    path = Path(vault.get_frame_path("t"))
    chunk = pq.read_metadata(path).row_group(0).column(1)
    data = bytearray(path.read_bytes())
    data[chunk.data_page_offset + chunk.total_compressed_size // 2] ^= 1
    path.chmod(0o644)
    path.write_bytes(data)
    for call in (lambda: vault.query("SELECT count(*) FROM t"), vault.connect):
        with pytest.raises(tv_errors.TVFileError, match="column 1 of row group 0"):
            call()
    assert rows(vault.query("SELECT sum(a) FROM t", check_content=False)) == [(499500,)]


@pytest.mark.slow
def test_a_join_never_mixes_generations(tmp_path):
    vault = TableVault(tmp_path / "vault", author="a", create=True)
    vault.write("a", pd.DataFrame({"n": [0]}))
    vault.write("b", pd.DataFrame({"n": [0]}))
    is_over = threading.Event()

    def write():
        writer = TableVault(vault.db_dir, author="w")
        for number in range(1, GENERATIONS):
            writer.write("a", pd.DataFrame({"n": [number]}))
            writer.write("b", pd.DataFrame({"n": [number]}))
            for table in ("a", "b"):
                old = writer.get_table_instances(table)
                if len(old) > 3:
                    writer.delete_instance(old[0], table)
        is_over.set()

    thread = threading.Thread(target=write)
    thread.start()
    seen = set()
    while not is_over.is_set():
        seen.update(rows(vault.query("SELECT a.n - b.n FROM a, b")))
    thread.join()
    assert seen <= {(0,), (1,)}


def test_missing_duckdb_is_named_with_its_extra(vault, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "duckdb", None)
    with pytest.raises(tv_errors.TVArgumentError, match=r"SQL needs duckdb: run pip install '\.\[sql\]'"):
        vault.connect(["stories"])


# --- connect ----------------------------------------------------------------------------------------------------------


def test_connection_has_views_of_all_tables(vault):
    connection = vault.connect()
    assert connection.sql("SELECT count(*) FROM stories").fetchall() == [(3,)]
    assert connection.sql("SELECT sum(stars) FROM reviews").fetchall() == [(10,)]
    assert connection.sql("SELECT name FROM vault.tables ORDER BY name").fetchall() == [("reviews",), ("stories",)]
    assert connection.sql("SELECT count(*) FROM errors.stories").fetchall() == [(0,)]
    connection.execute("CREATE TABLE mine AS FROM stories")
    assert connection.sql("SELECT count(*) FROM mine").fetchall() == [(3,)]
    connection.close()


def test_connection_has_views_of_named_addresses(vault):
    connection = vault.connect(["stories@paper", "stories(v2)"])
    assert connection.sql('SELECT count(*) FROM "stories@paper"').fetchall() == [(1,)]
    assert connection.sql('SELECT author FROM "stories(v2)"').fetchall() == [("eve",)]
    assert connection.sql('SELECT count(*) FROM provenance."stories@paper"').fetchall() == [(0,)]
    with pytest.raises(duckdb.CatalogException, match="reviews does not exist"):
        connection.sql("FROM reviews")
    first = vault.get_history("stories", operation="write")[-1].process_id
    assert vault.connect(as_of=first).sql("SELECT count(*) FROM stories").fetchall() == [(1,)]
    with pytest.raises(tv_errors.TVArgumentError, match="did you mean 'stories'"):
        vault.connect(["storys"])


@pytest.mark.parametrize(
    ("parameter", "value"),
    [
        (np.int64(5), 5),
        (np.float32(0.5), 0.5),
        (np.str_("a"), "a"),
        (pd.NA, None),
        (np.datetime64("NaT"), None),
        ([np.int64(1), np.array([2])[0]], [1, 2]),
        ({"a": np.bool_(True)}, {"a": True}),
    ],
    ids=str,
)
def test_parameters_of_numpy_and_pandas_are_plain_values(vault, parameter, value):
    for given, place in (([parameter], "?"), ({"p": parameter}, "$p")):
        assert vault.query(f"SELECT {place} AS x", given, format="arrow")[0]["x"].to_pylist() == [value]


@pytest.mark.parametrize(
    ("parameter", "reason"),
    [
        (pd.Timestamp(1), "has nanoseconds. Pass it as text"),
        ([pd.Timedelta(1)], "has nanoseconds. Pass it as text"),
        (decimal.Decimal("1" * 39), "has more than 38 digits. Pass it as text"),
    ],
    ids=str,
)
def test_parameters_that_sql_would_round_are_refused(vault, parameter, reason):
    with pytest.raises(tv_errors.TVArgumentError, match=reason):
        vault.query("SELECT ? AS x", [parameter])


NOT_A_NUMBER = {
    "plain": ("isnan(x)", pa.array([1.0, math.nan, 5.0])),
    "float32": ("isnan(x)", pa.array([1.0, math.nan, 5.0], pa.float32())),
    "float16": ("isnan(x)", pa.array(np.array([1.0, math.nan, 5.0], np.float16))),
    "struct": ("isnan(x.a)", pa.array([{"a": 1.0}, {"a": math.nan}, {"a": 5.0}])),
    "list": ("isnan(x[1])", pa.array([[1.0], [math.nan], [5.0]])),
    "vector": ("isnan(x[1])", pa.array([[1.0], [math.nan], [5.0]], pa.list_(pa.float32(), 1))),
}


@pytest.mark.parametrize("kind", NOT_A_NUMBER)
def test_nan_is_found_beside_numbers(tmp_path, kind):
    condition, column = NOT_A_NUMBER[kind]
    vault = TableVault(tmp_path / "vault", create=True)
    vault.write("t", pa.table({"x": column, "y": [1, 2, 3]}))
    exported = vault.export_table("t", tmp_path / "t.parquet")
    greater = condition.removeprefix("isnan(").removesuffix(")") + " > 5"
    for where in (condition, greater):
        assert vault.query(f"SELECT y FROM t WHERE {where}", format="arrow")[0].to_pydict() == {"y": [2]}
        assert duckdb.sql(f"SELECT y FROM '{exported}' WHERE {where}").fetchall() == [(2,)]
