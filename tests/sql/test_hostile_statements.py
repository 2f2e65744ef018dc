"""Forbidden statements.

Each is refused before it has any effect, also for root.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from tablevault import tv_errors

STATEMENTS = Path(__file__).with_name("hostile-statements.sql")
"""One a line; `{folder}` and `{frame}` stand for the vault and for one of its frame files."""


def statements(vault):
    frame = vault.get_frame_path("stories")
    lines = [line for line in STATEMENTS.read_text().splitlines() if line]
    return ["", "SELECT '\ud800'", "SELECT 1\0", *(line.format(folder=vault.db_dir, frame=frame) for line in lines)]


def picture(folder):
    catalog = {"catalog.db", "catalog.db-wal", "catalog.db-shm"}
    return {
        path: (path.lstat().st_mode, path.lstat().st_mtime_ns, path.read_bytes() if path.is_file() else b"")
        for path in sorted(Path(folder).rglob("*"))
        if path.name not in catalog
    }


def test_hostile_statements_are_refused_and_change_nothing(vault):
    made = statements(vault)
    assert len(made) >= 60
    before = picture(vault.db_dir)
    for statement in made:
        for given in (statement, f"  /* x */ {statement}"):
            with pytest.raises(tv_errors.TVArgumentError):
                vault.query(given)
    assert picture(vault.db_dir) == before
    assert vault.query("FROM stories")[0]["title"].tolist() == ["Fox", "Owl", "Sea"]


def test_refusals_name_the_purpose_of_query(vault):
    for statement, said in (
        ("COPY stories TO 'x'", "unsupported statement type"),
        ("SELECT 1; SELECT 2", "there are 2 statements"),
        ("", "there is no statement"),
        ("SELECT a b c", 'syntax error at or near "c" at character 12'),
        ("FROM read_text('x')", "table function 'read_text' is not among"),
        ("FROM main.stories", "'main.stories' is in an unknown schema"),
        ("FROM stories AT (VERSION => 1)", "as_of to read an earlier state"),
        ("SHOW TABLES", "vault.tables lists the tables"),
        ("WITH x AS (DELETE FROM stories RETURNING 1) FROM x", "DELETE is not allowed"),
    ):
        with pytest.raises(tv_errors.TVArgumentError, match="query runs one statement that reads.*connect") as caught:
            vault.query(statement)
        assert said in str(caught.value)


def test_engine_itself_reaches_no_other_file(vault, tmp_path):
    from tablevault.sql_engine.engine import Engine, Tables

    frame = vault.get_frame_path("stories")
    engine = Engine([frame], "", str(tmp_path / "spill"))
    assert engine.run(f"FROM read_parquet('{frame}')", Tables()).table.num_rows == 3
    before = picture(vault.db_dir)
    for statement in (
        "FROM read_text('/etc/passwd')",
        f"COPY (SELECT 1) TO '{tmp_path}/out.csv'",
        f"COPY (SELECT 1 AS x) TO '{vault.db_dir}/stories/x.parquet'",
        f"ATTACH '{tmp_path}/x.db'",
        "INSTALL httpfs",
        "SET enable_external_access = true",
        "SET allowed_paths = ['/etc/passwd']",
        "CREATE PERSISTENT SECRET s (TYPE s3)",
    ):
        with pytest.raises(tv_errors.TVTableError):
            engine.run(statement, Tables())
    engine.close()
    assert picture(vault.db_dir) == before
    assert not (tmp_path / "out.csv").exists()


def test_deeply_nested_statement_is_an_error_and_not_a_crash(vault):
    for statement in ("SELECT " + "(" * 5000 + "1" + ")" * 5000, "SELECT " + "-" * 0 + "NOT " * 5000 + "true"):
        with pytest.raises((tv_errors.TVArgumentError, tv_errors.TVTableError)):
            vault.query(statement)
