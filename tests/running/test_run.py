"""`run` makes tables from one file.

After every error, edit and kill, the same call continues it.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import warnings

import pandas as pd
import pytest
from sources import Source
from waiting import until

from tablevault import TableVault, tv_errors

TABLES = ("questions", "answers", "words")


def run(vault, source, **options):
    """Run the file; a run that is resumed says so."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Resuming", category=tv_errors.TableVaultWarning)
        return vault.run(source.file, **options)


def paused(vault, source, name="answer", x=2):
    """Leave a run paused at a row; return its id and what lets it go on."""
    failing = source.tell("fail", name, x)
    with pytest.raises(ConnectionError):
        run(vault, source)
    (process_id,) = [key for key, info in vault.get_active_processes().items() if info.operation == "run"]
    return process_id, failing.unlink


# --- from a folder to tables ----------------------------------------------------------------------------------------


def test_one_command_makes_vault_tables_and_instances(source):
    ended = source.command("run", source.file.name)
    assert ended.returncode == 0, ended.stderr
    (process_id,) = ended.stdout.split()
    assert process_id.startswith("answers-20")
    lines = ended.stderr.splitlines()
    assert lines[0] == f"Vault created in {source.vault} (--db-dir names another folder)."
    assert lines[1] == (
        "Applied answers.py: new module answers; new table questions (questions_index, question); new table answers "
        "(answers_index, answer); new table words (words_index, count)."
    )
    vault = TableVault(source.vault)
    newest = vault.get_table_instances("answers")[-1]
    assert f"answers: instance {newest}, 6 rows: 6 cells computed, 0 reused, 0 failed." in lines
    reading = f"Read it: tablevault --db-dir {source.vault} read answers"
    assert reading in lines
    source.check_end(vault)


@pytest.mark.slow
def test_file_may_have_spaces_and_letters_of_any_language(tmp_path):
    source = Source(tmp_path / "quiz")
    source.file = source.file.rename(source.folder / "žlutý kůň.py")
    ended = source.command("run", source.file)
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout.startswith("-lut--k---20") or ended.stdout.startswith("run-lut--k---20")
    source.check_end(TableVault(source.vault))


def test_folder_that_is_neither_a_vault_nor_empty_is_refused(source):
    source.vault.mkdir()
    (source.vault / "thesis.txt").write_text("mine")
    ended = source.command("run", source.file)
    assert ended.returncode == 1
    assert "is not empty" in ended.stderr
    assert [path.name for path in source.vault.iterdir()] == ["thesis.txt"]


def test_missing_file_makes_no_vault(source):
    ended = source.command("run", "no.py")
    assert ended.returncode == 1
    assert "There is no file or folder 'no.py' to run." in ended.stderr
    assert not source.vault.exists()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "text", "status", "said"),
    [
        ("empty", None, 1, "has no Python file"),
        ("con.py", "x = 1\n", 1, "Forbidden Code Module Name"),
        ("broken.py", "x = (\n", 3, "SyntaxError"),
    ],
)
def test_source_that_cannot_be_read_makes_no_vault(source, name, text, status, said):
    path = source.folder / name
    path.mkdir() if text is None else path.write_text(text)
    ended = source.command("run", path)
    assert (ended.returncode, said in ended.stderr) == (status, True), ended.stderr
    assert not source.vault.exists()
    assert not (path / "vault").exists()


def test_empty_name_is_wrong_usage(source):
    ended = source.command("run", "")
    assert ended.returncode == 2
    assert "Name a definitions file" in ended.stderr
    assert not source.vault.exists()


@pytest.mark.slow
@pytest.mark.parametrize("command", ["run", "apply"])
@pytest.mark.parametrize("statement", ["raise SystemExit", "import sys\nsys.exit('bye')"])
def test_source_that_exits_while_it_is_read_has_failed(vault, source, command, statement):
    source.file.write_text(f"{source.file.read_text()}\n{statement}\n")
    ended = source.command("--db-dir", source.vault, command, source.file)
    assert ended.returncode == 3
    assert ended.stdout == ""
    assert vault.get_history() == []


@pytest.mark.slow
def test_packages_and_links_beside_a_file_are_found(source):
    (source.folder / "library").mkdir()
    (source.folder / "library" / "__init__.py").write_text("def mark(text):\n    return text + ' one'\n")
    text = source.file.read_text().replace('f"{question} {style}"', "mark(question)")
    shared = source.folder / "elsewhere.txt"
    shared.write_text(text.replace("import os\n", "import os\n\nfrom library import mark\n", 1))
    source.file.unlink()
    source.file.symlink_to(shared)
    folder = source.folder / "definitions"
    folder.mkdir()
    (folder / "answers.py").symlink_to(shared)
    (folder / "library").symlink_to(source.folder / "library")
    ended = source.command("--db-dir", source.vault, "run", folder)
    assert ended.returncode == 0, ended.stderr
    source.check_end(TableVault(source.vault))


def test_file_that_has_moved_runs_as_before(vault, source):
    run(vault, source)
    source.forget()
    source.file = source.file.rename(source.folder.parent / "answers.py")
    run(vault, source)
    assert source.calls() == {("x", "0"): 1}


@pytest.mark.slow
def test_folder_has_its_vault_inside(source):
    ended = source.command("run", ".")
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout.startswith("quiz-20")
    source.check_end(TableVault(source.vault))


def test_source_without_tables_is_refused(vault, source):
    source.file.write_text("x = 1\n")
    with pytest.raises(tv_errors.TVArgumentError, match=r"answers\.py' defines no table"):
        run(vault, source)
    assert vault.get_history()[0].status == "reverted"


# --- again ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("times", [3, pytest.param(100, marks=pytest.mark.slow)])
def test_unchanged_file_makes_no_instance_and_calls_only_external_indexes(vault, source, times):
    run(vault, source)
    source.forget()
    before = {table: vault.get_table_instances(table, include_temp=True) for table in TABLES}
    states = {name: status.state for name, status in vault.get_status().items()}
    for _ in range(times):
        run(vault, source)
    assert {table: vault.get_table_instances(table, include_temp=True) for table in TABLES} == before
    assert {name: status.state for name, status in vault.get_status().items()} == states
    assert source.calls() == {("x", "0"): times}


def test_edited_function_recomputes_only_its_dependents(vault, source):
    run(vault, source)
    source.forget()
    source.edit('return len((answer or "").split())', 'return len((answer or "").split()) + 0')
    run(vault, source)
    assert source.calls() == {("x", "0"): 1, **{("count", str(x)): 1 for x in range(6)}}
    source.forget()
    source.edit('return f"{question} {style}"', 'return f"{question} {style}!"')
    run(vault, source)
    assert source.calls() == {("x", "0"): 1, **{(name, str(x)): 1 for name in ("answer", "count") for x in range(6)}}


def test_row_more_computes_that_row(vault, source):
    run(vault, source)
    source.forget()
    source.edit("count=6", "count=7")
    run(vault, source)
    assert source.calls() == {("x", "0"): 1, **{(name, "6"): 1 for name in ("question", "answer", "count")}}


@pytest.mark.slow
def test_last_lines_say_that_nothing_has_changed(source):
    source.command("run", source.file)
    ended = source.command("run", source.file)
    assert ended.returncode == 0
    assert "Applied answers.py: nothing changed." in ended.stderr
    for table in TABLES:
        assert f"{table}: unchanged, instance base_" in ended.stderr


# --- after errors ---------------------------------------------------------------------------------------------------


def test_error_pauses_and_the_same_call_goes_on_with_the_fixed_function(vault, source):
    process_id, _ = paused(vault, source)
    info = vault.get_process(process_id)
    assert (info.status, info.error.type) == ("paused", "ConnectionError")
    assert info.remedies[0].command == f"tablevault --db-dir {source.vault} run {source.file}"
    source.edit('return f"{question} {style}"', 'return f"{question} " + style')
    source.edit('act("answer", x)', 'note("answer", x, 0)')
    message = rf"Resuming '{process_id}', paused \d+ s ago \(ConnectionError\) with 2"
    with pytest.warns(tv_errors.TableVaultWarning, match=message):
        assert vault.run(source.file) == process_id
    assert source.calls()[("answer", "1")] == 1, "what was computed is kept"
    source.check_end(vault)


@pytest.mark.slow
def test_interrupt_error_and_fix_are_three_times_the_same_command(source):
    held = source.tell("hold", "answer", 3)
    first = source.start()
    until(lambda: ("answer", "2") in source.calls())
    first.send_signal(signal.SIGINT)
    _, told = first.communicate(timeout=120)
    assert first.returncode == 4, told
    failing = source.tell("fail", "answer", 3)
    held.unlink()
    second = source.command("run", source.file)
    assert second.returncode == 4
    assert "ConnectionError: no answer for 3" in second.stderr
    assert f"Resume: tablevault --db-dir {source.vault} run {source.file}" in second.stderr
    failing.unlink()
    third = source.command("run", source.file)
    assert third.returncode == 0, third.stderr
    assert f"Resuming '{third.stdout.strip()}'" in third.stderr
    assert max(source.calls().values()) == 1
    source.check_end(TableVault(source.vault))


@pytest.mark.slow
def test_rows_of_a_killed_run_are_counted_as_at_least_so_many(source):
    held = source.tell("hold", "answer", 3)
    killed = source.start()
    until(lambda: ("answer", "2") in source.calls())
    vault = TableVault(source.vault)
    until(lambda: any("answer" in item.progress for item in vault.get_active_processes().values()))
    killed.kill()
    killed.communicate()
    held.unlink()
    listed = source.command("--db-dir", source.vault, "ps")
    assert "at least" in listed.stdout
    resumed = source.command("run", source.file)
    assert resumed.returncode == 0, resumed.stderr
    assert "(OwnerDied) with at least" in resumed.stderr


@pytest.mark.parametrize(
    ("old", "new", "named"),
    [
        ('{"style": "one"}', '{"style": "two"}', r"table 'answers', builder 'answer': the field 'arguments'"),
        ('primary_key=["x"]', "keep_old=False", r"table 'questions', builder 'questions_index': the field"),
        ('@answers.column(retry', '@answers.column("answer", "more", retry', r"the field 'changed_columns'"),
        (
            "def answer(x, question, style):",
            "def answer(x, question, style, n=1):",
            r"the parameter 'n' of answer\(\) is new",
        ),
        ('words = Table("words")', 'words = Table("words")\nmore = Table("more")', r"table 'more' is new"),
        ('@words.column("count", arguments={"answer": "<<answers.answer[x::<<self.x[index]>>]>>"})\n', "", r"builder 'count' is no longer defined"),
    ],
)  # fmt: skip
def test_edit_that_a_paused_run_cannot_take_up_is_refused_and_named(vault, source, old, new, named):
    process_id, go_on = paused(vault, source)
    before = vault.get_process(process_id)
    text = source.file.read_text()
    source.edit(old, new)
    with pytest.raises(tv_errors.TVProcessError, match=named) as refused:
        run(vault, source)
    assert "Stop the run first, or undo the edit and finish it" in str(refused.value)
    after = vault.get_process(process_id)
    assert (after.status, after.arguments, after.error) == (before.status, before.arguments, before.error)
    source.file.write_text(text)
    go_on()
    assert run(vault, source) == process_id
    source.check_end(vault)


def test_policies_of_the_call_win_over_edited_ones(vault, source):
    process_id, _ = paused(vault, source)
    source.edit("retry=0", 'on_error="collect", max_failures=1')
    with pytest.raises(ConnectionError):
        run(vault, source, policies={"answer": {"on_error": "pause"}})
    with pytest.warns(tv_errors.TableVaultWarning, match="1 failed row in 'answer'"):
        assert run(vault, source, policies={"answers.answer": {"stop_on": ["ImportError"]}}) == process_id


def test_edited_policies_hold_for_the_rest_of_the_run(vault, source):
    process_id, go_on = paused(vault, source)
    source.edit("retry=0", 'on_error="collect", max_failures=1')
    with pytest.warns(tv_errors.TableVaultWarning, match="1 failed row in 'answer'"):
        assert run(vault, source) == process_id
    assert vault.get_errors("answers")["message"].tolist() == ["no answer for 2"]
    assert "on_error" not in vault.get_builder_str(
        "answers", "answer", instance_id=vault.get_table_instances("answers")[0]
    )
    go_on()
    run(vault, source)
    assert "on_error: collect" in vault.get_builder_str(
        "answers", "answer", instance_id=vault.get_table_instances("answers")[-1]
    )
    assert len(vault.get_errors("answers")) == 0


def test_policies_removed_again_apply_no_more(vault, source):
    process_id, go_on = paused(vault, source)
    source.edit("retry=0", 'on_error="collect", max_failures=0')
    with pytest.raises(ConnectionError):
        run(vault, source)
    source.edit('on_error="collect", max_failures=0', "retry=0")
    with pytest.raises(ConnectionError):
        run(vault, source)
    assert vault.get_process(f"{process_id}.answers").arguments["policies"] is None
    go_on()
    assert run(vault, source) == process_id


def test_changed_policies_are_told(vault, source, capsys):
    paused(vault, source)
    source.edit("retry=0", 'on_error="collect", max_failures=1')
    ended = source.command("run", source.file)
    assert "Applied answers.py: policies of answers.answer changed." in ended.stderr


def test_refused_policies_change_nothing_of_a_paused_run(vault, source):
    process_id, go_on = paused(vault, source)
    before = vault.get_process(process_id)
    for wrong in ({"nothing": {"retry": 1}}, {"answer": {"retry": -1}}, {"answers.answer": {"stop_on": ["Nothing"]}}):
        with pytest.raises((tv_errors.TVArgumentError, tv_errors.TVBuilderError)):
            run(vault, source, policies=wrong)
        after = vault.get_process(process_id)
        assert (after.status, after.arguments, after.error) == (before.status, before.arguments, before.error)
    go_on()
    assert run(vault, source) == process_id


@pytest.mark.slow
@pytest.mark.parametrize("statement", ["x = (", "raise LookupError('at import')"])
def test_source_that_fails_while_it_is_read_leaves_a_paused_run_as_it_is(source, statement):
    first = source.command("run", source.file)
    assert first.returncode == 0, first.stderr
    source.edit("count=6", "count=7")
    failing = source.tell("fail", "answer", 6)
    assert source.command("run", source.file).returncode == 4
    text = source.file.read_text()
    source.file.write_text(f"{text}\n{statement}\n")
    broken = source.command("run", source.file)
    assert broken.returncode == 4
    assert "SyntaxError" in broken.stderr or "LookupError: at import" in broken.stderr
    source.file.write_text(text)
    failing.unlink()
    assert source.command("run", source.file).returncode == 0


def test_source_that_fails_while_it_is_read_begins_no_process(source):
    source.file.write_text(source.file.read_text() + "\nraise LookupError('at import')\n")
    ended = source.command("run", source.file)
    assert ended.returncode == 3
    assert "LookupError: at import" in ended.stderr
    assert TableVault(source.vault).get_history() == []


@pytest.mark.slow
def test_failed_rows_end_with_status_five_and_are_tried_again(source):
    source.edit("retry=0", 'on_error="collect", max_failures=1')
    failing = source.tell("fail", "answer", 4)
    ended = source.command("run", source.file)
    assert ended.returncode == 5, ended.stderr
    assert "5 cells computed, 0 reused, 1 failed." in ended.stderr
    failing.unlink()
    assert source.command("run", source.file).returncode == 0
    assert source.calls()[("answer", "3")] == 1


def test_errors_and_stops_of_a_run_are_those_of_its_tables(vault, source):
    source.edit("retry=0", 'on_error="collect", max_failures=1')
    source.tell("fail", "answer", 4)
    process_id, _ = paused(vault, source, "count", 3)
    errors = vault.get_errors(process_id=process_id)
    assert errors[["table", "builder", "index", "message"]].values.tolist() == [
        ["answers", "answer", 4, "no answer for 4"]
    ]
    vault.stop_process(process_id, materialize=True)
    assert vault.get_active_processes() == {}
    assert vault.read("words")["count"].tolist()[:3] == [2, 2, 2]
    assert vault.get_descriptions(vault.get_table_instances("words")[-1], "words")["success"] is False


def test_resumed_run_uses_its_file_despite_a_later_apply(vault, source):
    process_id, go_on = paused(vault, source)
    text = source.file.read_text()
    source.edit('return f"{question} {style}"', 'return f"EXPERIMENT {question}"')
    source.edit("<<answers.answer[x::", "<<answers.question[x::")
    vault.apply(source.file)
    source.file.write_text(text)
    go_on()
    assert run(vault, source) == process_id
    source.check_end(vault)


def test_resumed_run_makes_a_temporary_instance_that_was_deleted_again(vault, source):
    process_id, go_on = paused(vault, source)
    vault.delete_instance("TEMP_base", "words")
    go_on()
    assert run(vault, source) == process_id
    source.check_end(vault)


def test_restart_refuses_a_table_whose_builders_were_deleted(vault, source):
    process_id, go_on = paused(vault, source)
    vault.delete_instance("TEMP_base", "words")
    go_on()
    with pytest.raises(tv_errors.TVArgumentError, match="'words' has no instance of version 'base', and no builders"):
        vault.run("", process_id=process_id)
    assert vault.get_table_instances("words", include_temp=True) == []


def test_restart_and_the_id_alone_go_on_without_reading_the_source(vault, source):
    process_id, go_on = paused(vault, source)
    go_on()
    source.file.unlink()
    assert vault.run("", process_id=process_id) == process_id
    source.check_end(vault)


def moved(source):
    """Rename the folder of the file and its vault; the file tells what it does in the old place."""
    new = source.folder.rename(source.folder.with_name("renamed"))
    source.folder.mkdir()
    for path in new.glob("log"):
        path.rename(source.folder / path.name)
    return TableVault(new / "vault"), new / source.file.name


def test_paused_run_goes_on_after_its_folder_was_renamed(vault, source):
    process_id, go_on = paused(vault, source)
    go_on()
    vault, file = moved(source)
    assert vault.get_process(process_id).remedies[0].command == f"tablevault --db-dir {vault.db_dir} run {file}"
    with pytest.warns(tv_errors.TableVaultWarning, match=f"Resuming '{process_id}'"):
        assert vault.run(file) == process_id
    assert set(source.calls().values()) == {1}
    source.check_end(vault)


def test_paused_run_outside_the_folder_of_the_vault_keeps_its_file(source, tmp_path):
    vault = TableVault(tmp_path / "elsewhere" / "vault", create=True)
    process_id, go_on = paused(vault, source)
    go_on()
    (tmp_path / "elsewhere").rename(tmp_path / "renamed")
    vault = TableVault(tmp_path / "renamed" / "vault")
    assert vault.get_process(process_id).remedies[0].command.endswith(f"run {source.file}")
    assert run(vault, source) == process_id
    source.check_end(vault)


def test_command_goes_on_by_the_id_alone(vault, source):
    process_id, go_on = paused(vault, source)
    go_on()
    vault, file = moved(source)
    file.unlink()
    ended = source.command("--db-dir", vault.db_dir, "run", "--process-id", process_id)
    assert (ended.returncode, ended.stdout) == (0, f"{process_id}\n"), ended.stderr
    source.check_end(vault)
    unknown = source.command("--db-dir", vault.db_dir, "run", "--process-id", "nothing")
    assert (unknown.returncode, "no process 'nothing'" in unknown.stderr) == (1, True), unknown.stderr


def test_refresh_names_the_run_that_is_in_its_way(vault, source):
    process_id, _ = paused(vault, source)
    with pytest.raises(tv_errors.TVLockError, match="blocks the refresh") as raised:
        vault.refresh("answers")
    assert f"resume it with TableVault({vault.db_dir!r}).run(source={str(source.file)!r})" in str(raised.value)
    assert f"stop_process({process_id!r})" in str(raised.value)


def test_restart_keeps_code_that_was_edited_in_the_vault(vault, source):
    paused(vault, source)
    text = vault.get_code_module_str("answers").rpartition("\n# from")[0]
    vault.create_code_module("answers", text=text.replace('act("answer", x)', 'note("answer", x, 0)'))
    again = TableVault(source.vault, restart=True)
    assert set(again.restart_report.values()) <= {"resumed"}
    source.check_end(vault)


def test_stopped_run_leaves_nothing_active(vault, source):
    process_id, go_on = paused(vault, source)
    vault.stop_process(process_id)
    assert vault.get_active_processes() == {}
    go_on()
    assert run(vault, source) != process_id
    source.check_end(vault)


DIAMOND = {
    "start.py": """
from tablevault.define import Table

top = Table("top")


@top.index(primary_key=["x"])
def x():
    return [1, 2]
""",
    "sides.py": """
from pathlib import Path

from tablevault.define import Table

left = Table("left")
right = Table("right")
left.index("x", rows_of="top")
right.index("x", rows_of="top")


def note(name):
    with Path({order!r}).open("a") as file:
        file.write(f"{{name}}\\n")


@left.column()
def doubled(x):
    note("left")
    return 2 * x


@right.column()
def negative(x):
    note("right")
    return -x
""",
    "end.py": """
from pathlib import Path

from tablevault.define import Table

bottom = Table("bottom")
last = Table("last")
bottom.index("x", rows_of="left")
last.index("x", rows_of="bottom")


@bottom.column("both", arguments={{"doubled": "<<left.doubled[index]>>", "negative": "<<right.negative[index]>>"}})
def added(doubled, negative):
    with Path({order!r}).open("a") as file:
        file.write("bottom\\n")
    if not Path({order!r}).with_name("gate").exists():
        raise ConnectionError("the gate is shut")
    return doubled + negative


@last.column(arguments={{"both": "<<bottom.both[index]>>"}})
def final(both):
    with Path({order!r}).open("a") as file:
        file.write("last\\n")
    return both
""",
}


@pytest.mark.slow
def test_folder_of_a_diamond_runs_in_order_and_then_the_rest(tmp_path):
    order, folder = tmp_path / "order", tmp_path / "quiz"
    folder.mkdir()
    for name, text in DIAMOND.items():
        (folder / name).write_text(text.lstrip().format(order=str(order)))
    vault = TableVault(tmp_path / "vault", create=True)
    with pytest.raises(ConnectionError, match="the gate is shut"):
        vault.run(folder, process_id="night")
    assert order.read_text().split() == ["left", "left", "right", "right", "bottom"]
    order.write_text("")
    (tmp_path / "gate").touch()
    with pytest.warns(tv_errors.TableVaultWarning, match="Resuming 'night'"):
        vault.run(folder)
    assert order.read_text().split() == ["bottom", "bottom", "last", "last"]
    assert vault.read("last")["final"].tolist() == [1, 2]
    assert {len(vault.get_table_instances(table, include_temp=True)) for table in vault.get_tables()} == {1}
    assert len(vault.get_tables()) == 5
    with pytest.warns(tv_errors.TableVaultWarning, match="already succeeded"):
        vault.run(folder, process_id="night")
    (folder / "end.py").write_text((folder / "end.py").read_text().replace("return both", "return both + 1"))
    with pytest.raises(tv_errors.TVProcessError, match="it was edited since; use another id"):
        vault.run(folder, process_id="night")


# --- ids ------------------------------------------------------------------------------------------------------------


def test_own_id_is_used_once(vault, source):
    assert run(vault, source, process_id="monday") == "monday"
    with pytest.warns(tv_errors.TableVaultWarning, match="already succeeded"):
        run(vault, source, process_id="monday")
    source.edit('"style": "one"', '"style": "two"')
    with pytest.raises(tv_errors.TVProcessError, match="it was edited since; use another id"):
        run(vault, source, process_id="monday")


def test_another_id_is_refused_while_a_run_of_the_source_is_paused(vault, source):
    process_id, _ = paused(vault, source)
    with pytest.raises(tv_errors.TVLockError, match=process_id):
        run(vault, source, process_id="another")


def test_unknown_id_without_a_source_is_refused(vault):
    with pytest.raises(tv_errors.TVArgumentError, match="There is no run 'nothing' to continue"):
        vault.run("", process_id="nothing")
    with pytest.raises(tv_errors.TVArgumentError, match="Name a source"):
        vault.run("")


def test_of_two_runs_at_the_same_moment_one_is_refused(vault, source):
    held = source.tell("hold", "question", 1)
    ended = []

    def first():
        ended.append(run(vault, source))

    thread = threading.Thread(target=first)
    thread.start()
    until(lambda: ("question", "0") in source.calls())
    with pytest.raises(tv_errors.TVProcessError, match=r"is being run already, by process 'answers-20.*wait_process"):
        run(TableVault(source.vault), source)
    held.unlink()
    thread.join()
    assert len(ended) == 1
    source.check_end(vault)


# --- tables of others -----------------------------------------------------------------------------------------------


def test_stale_table_of_another_source_is_read_as_it_is_with_a_warning(vault, source):
    run(vault, source)
    source.edit('return f"q{x}"', 'return f"Q{x}"')
    vault.apply(source.file)
    other = source.folder / "summary.py"
    other.write_text(
        "from tablevault.define import Table\n\nsummary = Table('summary')\nsummary.index(rows_of='questions')\n"
    )
    with pytest.warns(tv_errors.TableVaultWarning, match="Table 'questions' is stale, and is read as it is"):
        vault.run(other)
    assert vault.read("summary")["question"].tolist() == [f"q{x}" for x in range(6)]


def test_new_columns_of_another_table_do_not_count_as_edit(vault, tmp_path):
    vault.write("terms", pd.DataFrame({"term": ["a", "b"]}))
    source, fails = tmp_path / "notes.py", tmp_path / "fails"
    fails.touch()
    source.write_text(
        "from pathlib import Path\n\nfrom tablevault.define import Table\n\nnotes = Table('notes')\n"
        "notes.index(rows_of='terms')\n\n\n@notes.column()\ndef note(term, meaning='none'):\n"
        f"    if term == 'b' and Path({str(fails)!r}).exists():\n        raise ConnectionError(term)\n"
        "    return f'{term}: {meaning}'\n"
    )
    with pytest.raises(ConnectionError):
        vault.run(source, process_id="monday")
    vault.write("terms", pd.DataFrame({"term": ["a", "b"], "meaning": ["first", "second"]}))
    fails.unlink()
    vault.run(source, process_id="monday")
    assert vault.read("notes")["note"].tolist() == ["a: none", "b: none"], "the run goes on as it began"
    with pytest.warns(tv_errors.TableVaultWarning, match="already succeeded"):
        vault.run(source, process_id="monday")
    vault.run(source)
    assert vault.read("notes")["note"].tolist() == ["a: first", "b: second"]


# --- elsewhere ------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_background_run_reads_the_source_once_here(vault, source):
    process_id = vault.run(source.file, background=True)
    assert [line[1] for line in source.log() if line[0] == "import"].count(str(os.getpid())) == 1
    vault.wait_process(process_id)
    source.check_end(vault)


@pytest.mark.slow
@pytest.mark.parametrize("fails", [False, True], ids=["succeeds", "pauses"])
def test_background_run_outlives_its_killed_caller(source, fails):
    held = source.tell("hold", "answer", 2)
    if fails:
        source.tell("fail", "answer", 3)
    text = (
        "import time\nfrom tablevault import TableVault\n"
        f"TableVault({str(source.vault)!r}, create=True).run({str(source.file)!r}, process_id='night', background=True)\n"
        "print('begun', flush=True)\ntime.sleep(600)\n"
    )
    with subprocess.Popen([sys.executable, "-c", text], stdout=subprocess.PIPE, text=True) as caller:
        assert caller.stdout.readline() == "begun\n"
        caller.kill()
    assert [line[1] for line in source.log() if line[0] == "import"].count(str(caller.pid)) == 1
    vault = TableVault(source.vault)
    assert vault.get_process("night").status == "running"
    held.unlink()
    ended = source.command("--db-dir", source.vault, "wait-process", "night")
    assert ended.returncode == (4 if fails else 0), ended.stderr
    assert vault.get_process("night").status == ("paused" if fails else "succeeded")
    if not fails:
        source.check_end(vault)


@pytest.mark.slow
def test_file_can_be_a_script(source):
    source.file.write_text(
        source.file.read_text()
        + '\nif __name__ == "__main__":\n    from tablevault import TableVault\n\n'
        + f"    TableVault({str(source.vault)!r}, create=True, exist_ok=True).run(__file__)\n"
    )
    import subprocess
    import sys

    for _ in range(2):
        subprocess.run([sys.executable, source.file], check=True, timeout=120)
    source.check_end(TableVault(source.vault))


def test_progress_names_tables_and_builders(vault, source):
    process_id = run(vault, source)
    progress = vault.get_process(process_id).progress
    assert list(progress) == [
        "questions/questions_index",
        "questions/question",
        "answers/answers_index",
        "answers/answer",
        "words/words_index",
        "words/count",
    ]
    assert all(item.done and item.total == 6 for item in progress.values())
