"""Effects of failed rows on resume, reuse, downstream builders, files and plans."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

import pandas as pd
import pytest
import yaml
from failing_tables import TOLD, positions, raises_first, raises_for
from test_failure_modes import WARNED, run

from tablevault import tv_errors


def stopping(failing, stop_at):
    """Return a function that fails for some rows, and ends the run at one."""
    return raises_for(
        {*failing, stop_at}, lambda x: tv_errors.StopRun("enough") if x == stop_at else ValueError(f"row {x}")
    )


def test_resume_runs_rows_that_were_never_tried_first_and_then_failed_ones(make):
    table = make(stopping({1, 2}, 10), rows=12, on_error="collect")
    assert str(run(table)) == "enough"
    order = []

    def answer(x):
        order.append(x)
        return "a"

    table.tell(answer)
    assert run(table) is None
    assert order == [10, 11, 1, 2]


def test_finished_builder_is_never_run_again(make):
    table = make(raises_for({1}), rows=5, on_error="collect")
    table.build_word(lambda answer: (_ for _ in ()).throw(tv_errors.StopRun("enough")))
    assert str(run(table)) == "enough"
    table.tell(raises_for({}))
    TOLD["word"] = lambda answer: "w"
    assert run(table) is None
    assert positions(table.errors()) == [1]
    assert positions(table.errors(), "skipped") == [1]
    assert table.calls[1] == 1


def test_skips_cascade_with_the_root_cause(make):
    table = make(raises_for({1}), rows=3, on_error="collect")
    table.build_word()
    table.build("last", "ColumnBuilder", "word", ["last"], {"answer": "<<self.word[index]>>"}, return_type="row-wise")
    assert run(table) is None
    skipped = [row for row in table.errors().to_dict("records") if row["kind"] == "skipped"]
    assert [(row["builder"], row["cause"]) for row in skipped] == [
        ("word", "answer.answer"),
        ("last", "answer.answer"),
    ]
    assert table.column("last") == ["wwa0", None, "wwa2"]


def test_failed_inputs_pass_gives_null(make):
    table = make(raises_for({1}), rows=3, on_error="collect")
    table.build_word(failed_inputs="pass")
    assert run(table) is None
    assert table.column("word") == ["wa0", "wNone", "wa2"]
    assert positions(table.errors(), "skipped") == []


def with_names(make):
    """Return a table of four answers of which one fails, beside a table of names by answer."""
    table = make(raises_for({1}), rows=4, on_error="collect")
    table.vault.create_table("names")
    table.vault.write("names", pd.DataFrame({"answer": ["a0", "a1", "a2", "a3"], "name": list("wxyz")}))
    return table


def test_failed_cell_inside_another_reference_skips_its_row(make):
    table = with_names(make)
    table.build_word(lambda name: name, arguments={"name": "<<names.name[answer::<<self.answer[index]>>]>>"})
    assert run(table) is None
    assert table.column("word") == ["w", None, "y", "z"]
    assert positions(table.errors(), "skipped") == [1]


SEEN = {
    "<<self.answer>>": ["a0", None, "a2", "a3"],
    "<<self>>": ["a0", None, "a2", "a3"],
    "<<self.x[answer::a2]>>": 2,
    "<<self.x[answer::a1]>>": None,
}


@pytest.mark.parametrize("reference", SEEN)
def test_other_references_than_those_to_its_own_row_see_null(make, reference):
    given = []
    table = with_names(make)
    arguments = {"x": "<<self.x[index]>>", "other": reference}
    table.build_word(lambda x, other: given.append(other) or "w", arguments=arguments)
    assert run(table) is None
    assert positions(table.errors(), "skipped") == []
    assert table.column("word") == ["w"] * 4
    for other in given:
        cells = [None if pd.isna(cell) else cell for cell in other["answer"]] if hasattr(other, "columns") else other
        assert cells == SEEN[reference]


def test_tables_that_read_failed_cells_see_null(make):
    table = with_names(make)
    assert run(table) is None
    given = []
    TOLD["word"] = lambda x, other: given.append(other["answer"].isna().tolist()) or "w"
    fields = {"python_function": "word", "code_module": "m", "is_custom": True, "return_type": "row-wise"}
    index = {**fields, "builder_type": "IndexBuilder", "changed_columns": ["x"], "return_type": "dataframe"}
    index |= {"python_function": "index", "arguments": {"count": 1}}
    column = {**fields, "builder_type": "ColumnBuilder", "changed_columns": ["word"]}
    column |= {"arguments": {"x": "<<self.x[index]>>", "other": "<<answers.answer>>"}}
    table.vault.create_table("later")
    builders = {"later_index": yaml.safe_dump(index), "word": yaml.safe_dump(column)}
    table.vault.create_instance("later", builders=builders)
    with pytest.warns(tv_errors.TableVaultWarning, match=r"read as null: 1 in 'answers.answer'"):
        table.vault.execute_instance("later")
    assert given == [[False, True, False, False]]


def test_skipped_cells_are_never_reused(make):
    table = make(raises_for({1}), rows=3, on_error="collect")
    table.build_word()
    run(table)
    table.copy()
    table.tell(lambda x: None)
    table.execute()
    assert table.column("word") == ["wa0", "wNone", "wa2"], "a null that was computed is not the null of a skip"
    assert len(table.errors()) == 0


def test_failed_cells_are_never_reused_nor_those_computed_from_them(make):
    table = make(raises_for({1}), rows=3, on_error="collect")
    table.build_word(failed_inputs="pass")
    run(table)
    table.copy()
    table.tell(lambda x: None if x == 1 else "never")
    table.execute()
    assert table.column() == ["a0", None, "a2"], "null is a result like any other"
    assert table.calls[1] == 2
    assert len(table.errors()) == 0


def test_plan_says_how_many_rows_failed_in_the_origin(make):
    table = make(raises_for({1, 4}), rows=6, on_error="collect")
    table.build_word()
    run(table)
    table.copy()
    plan = table.vault.plan_instance("answers")
    assert "2 rows failed in the origin" in str(plan)
    assert "2 rows were skipped in the origin" in str(plan)


def test_stop_with_materialize_keeps_the_records(make):
    table = make(stopping({1, 2}, 10), rows=12, on_error="collect")
    run(table)
    table.vault.stop_process("night", materialize=True)
    frame, _ = table.vault.get_dataframe("answers")
    assert positions(table.errors()) == [1, 2]
    assert frame["answer"].isna().sum() == 4


def test_stop_with_materialize_keeps_records_of_skipped_rows(make):
    def word(answer):
        if answer == "a4":
            raise tv_errors.StopRun("enough")
        return "w"

    table = make(raises_for({1}), rows=5, on_error="collect")
    table.build_word(word)
    assert isinstance(run(table), tv_errors.StopRun)
    table.vault.stop_process("night", materialize=True)
    assert (positions(table.errors()), positions(table.errors(), "skipped")) == ([1], [1])


def test_reuse_partial_never_takes_over_a_failed_row(make):
    table = make(stopping({1, 2}, 10), rows=12, on_error="collect")
    run(table, "")
    table.tell(raises_for({}))
    table.execute(reuse_partial=True)
    assert table.column() == [f"a{x}" for x in range(12)]
    assert [table.calls[x] for x in (0, 1, 2, 9)] == [1, 2, 2, 1]


def test_overwritten_column_of_a_failed_row_is_null(make):
    table = make(raises_for({}), rows=3)
    module = Path(table.vault.db_dir, "code_functions", "m.py")
    module.write_text(module.read_text().replace('{"x": range(count)}', '{"x": range(count), "y": ["old"] * count}'))
    table.build("answers_index", "IndexBuilder", "index", ["x", "y"], {"count": 3}, primary_key=["x"])

    def word(answer):
        if answer == "a1":
            raise ValueError("no")
        return "new"

    table.build_word(word, changed_columns=["y"], on_error="collect")
    assert run(table) is None
    assert table.column("y") == ["new", None, "new"]


def test_builder_that_overwrites_the_key_cannot_collect(make):
    table = make(raises_for({}), rows=3)
    table.vault.delete_builder_file("answer", "answers")
    table.build_word(changed_columns=["x"], arguments={"answer": "a"}, on_error="collect")
    with pytest.raises(tv_errors.TVBuilderError, match=r"(?s)word.yaml, line \d+, on_error.*primary key"):
        table.execute()


# --- files --------------------------------------------------------------------------------------------------------


def writing(then):
    """Return a function that writes a file for its row, and then answers or raises."""

    def answer(x, folder):
        name = f"{x}-{time.monotonic_ns()}.txt"
        Path(folder, name).write_text(str(x))
        then(x)
        return name

    return answer


FILES = {"arguments": {"folder": "~ARTIFACT_FOLDER~"}, "dtypes": {"answer": "artifact_string"}}


@pytest.mark.parametrize("fields", [{}, {"max_concurrency": 2}], ids=["inline", "threads"])
def test_files_of_a_failed_row_are_dropped_with_a_warning(make, fields):
    table = make(writing(raises_for({1})), rows=4, on_error="collect", **FILES, **fields)
    with pytest.warns(WARNED) as warned:
        table.execute()
    told = [str(item.message) for item in warned]
    assert any("1 file of calls that failed, were repeated or were interrupted" in text for text in told)
    assert len(list(Path(table.vault.get_artifact_folder("answers", is_temp=False)).iterdir())) == 3


@pytest.mark.parametrize("fields", [{}, {"max_concurrency": 2}, {"on_error": "collect", "max_failures": 0}])
def test_files_of_a_row_that_failed_before_a_pause_are_dropped_with_a_warning(make, fields):
    table = make(writing(raises_first(1, ValueError)), rows=1, **FILES, **fields)
    with pytest.raises(ValueError, match="0"):
        table.execute("night")
    # Longer than the tolerance with which files are attributed to calls.
    time.sleep(0.5)
    with pytest.warns(WARNED, match="1 file of calls that failed, were repeated or were interrupted"):
        table.execute("night")
    assert len(list(Path(table.vault.get_artifact_folder("answers", is_temp=False)).iterdir())) == 1


def test_stray_file_of_a_resumed_run_is_an_error(make):
    def answer(x, folder):
        if x == 1 and len(calls) == 0:
            calls.append(x)
            raise ValueError("one")
        # Longer than the tolerance with which files are attributed to calls.
        time.sleep(0.5)
        Path(folder, f"{x}.txt").write_text("named")
        Path(folder, f"stray-{x}.txt").write_text("named by no cell")
        return f"{x}.txt"

    calls = []
    table = make(answer, rows=2, **FILES)
    with pytest.raises(ValueError, match="one"):
        table.execute("night")
    with pytest.raises(tv_errors.TVArtifactError, match=r"columns do not agree: stray-1.txt is not named"):
        table.execute("night")


def test_files_of_a_repeated_call_are_dropped_with_a_warning(make):
    first = raises_first(1, lambda x: ConnectionError("down"))
    table = make(writing(first), rows=3, retry={"max_retries": 1, "wait": 0}, **FILES)
    with pytest.warns(WARNED, match="3 files of calls that failed, were repeated or were interrupted"):
        table.execute()
    assert len(list(Path(table.vault.get_artifact_folder("answers", is_temp=False)).iterdir())) == 3


def test_files_of_a_repeated_call_for_all_rows_are_dropped_with_a_warning(make):
    def answer(x, frame, folder):
        names = [f"{row}-{time.monotonic_ns()}.txt" for row in frame["x"]]
        for name in names:
            Path(folder, name).write_text(name)
        calls.append(names)
        if len(calls) == 1:
            raise ConnectionError("down")
        return pd.DataFrame({"answer": names})

    calls = []
    table = make(
        answer,
        rows=3,
        return_type="dataframe",
        retry={"max_retries": 1, "wait": 0.2},
        arguments={"x": None, "frame": "<<self.x>>", **FILES["arguments"]},
        dtypes=FILES["dtypes"],
    )
    with pytest.warns(WARNED, match="3 files of calls that failed, were repeated or were interrupted"):
        table.execute()
    left = Path(table.vault.get_artifact_folder("answers", is_temp=False)).iterdir()
    assert sorted(path.name for path in left) == sorted(calls[1])


def test_files_of_a_call_that_takes_too_long_are_dropped_with_a_warning(make):
    async def answer(x, folder):
        Path(folder, f"{x}.txt").write_text(str(x))
        if x == 1:
            await asyncio.Event().wait()
        return f"{x}.txt"

    table = make(answer, rows=3, on_error="collect", timeout=3, **FILES)
    with pytest.warns(WARNED) as warned:
        table.execute("night")
    assert any("1 file of calls that failed, were repeated or were interrupted" in str(item.message) for item in warned)
    assert table.vault.get_process("night").status == "succeeded"
    assert table.errors()["error"].tolist() == ["TimeoutError"]
    left = Path(table.vault.get_artifact_folder("answers", is_temp=False)).iterdir()
    assert sorted(path.name for path in left) == ["0.txt", "2.txt"]


def test_files_that_no_failed_row_could_have_written_stay_an_error(make):
    def answer(x, folder):
        if x == 3:
            raise ValueError("row 3")
        Path(folder, f"{x}.txt").write_text(str(x))
        if x == 0:
            Path(folder, "stray.txt").write_text("stray")
        time.sleep(0.12)
        return f"{x}.txt"

    table = make(answer, rows=4, on_error="collect", **FILES)
    with pytest.raises(tv_errors.TVArtifactError, match="stray.txt"):
        table.execute()


# --- references ---------------------------------------------------------------------------------------------------


def with_lookup(make, on_error):
    table = make(lambda x, name: f"{x}{name}", rows=5)
    table.vault.create_table("names")
    table.vault.write("names", pd.DataFrame({"x": [0, 1, 2, 4], "name": list("abce")}))
    arguments = {"answer": "<<self.x[index]>>"}
    table.build_word(lambda answer: "no number" if answer == 3 else str(answer), arguments=arguments)
    table.build_answer(on_error=on_error, arguments={"name": "<<names.name[x::<<self.word[index]>>]>>"})
    return table


def test_reference_of_one_row_that_cannot_be_resolved_pauses(make):
    table = with_lookup(make, "pause")
    with pytest.raises(tv_errors.TableReferenceError):
        table.execute("night")
    assert table.vault.get_process("night").status == "paused"


def test_reference_that_cannot_be_resolved_is_its_rows_error_under_collect(make):
    table = with_lookup(make, "collect")
    assert run(table) is None
    (record,) = table.errors().to_dict("records")
    assert (record["index"], record["calls"]) == (3, 0)
    assert "TableReferenceError" in record["error"]
    assert table.column() == ["0a", "1b", "2c", None, "4e"]
