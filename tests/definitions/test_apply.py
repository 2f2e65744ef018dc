"""`apply` atomically turns a definitions file into builders, a code module and tables."""

from __future__ import annotations

import hashlib
import os
import re
import traceback
from pathlib import Path

import pandas as pd
import pytest
import yaml

from tablevault import TableVault, tv_errors

FILE = '''\
"""Words, and how they sound."""
from pathlib import Path

from tablevault.define import Table

words = Table("words", description="Words")


@words.index("word", primary_key=["word"])
def read_words(path="words.txt"):
    return Path(path).read_text().split()


def note(name):
    with open("calls.txt", "a") as calls:
        print(name, file=calls)


@words.column(max_concurrency=1)
def loud(word):
    note("loud")
    return word.upper()


@words.column("size", "twice")
def measure(loud):
    note("measure")
    return len(loud), 2 * len(loud)
'''

PLAIN = "".join(
    line for line in FILE.splitlines(keepends=True) if not line.startswith(("@", "words = ", "from tablevault.define"))
)
"""The same functions without definitions, as a module by hand has them."""

BY_HAND = {
    "words_index": """
builder_type: IndexBuilder
changed_columns: [word]
python_function: read_words
code_module: answers
is_custom: true
return_type: dataframe
primary_key: [word]
""",
    "loud": """
builder_type: ColumnBuilder
changed_columns: [loud]
python_function: loud
code_module: answers
is_custom: true
return_type: row-wise
arguments: {word: "<<self.word[index]>>"}
max_concurrency: 1
""",
    "size": """
builder_type: ColumnBuilder
changed_columns: [size, twice]
python_function: measure
code_module: answers
is_custom: true
return_type: row-wise
arguments:
  loud: <<self.loud[index]>>
""",
}


@pytest.fixture
def work(tmp_path, monkeypatch):
    """The working folder, with the words."""
    folder = tmp_path / "work"
    folder.mkdir()
    monkeypatch.chdir(folder)
    (folder / "words.txt").write_text("fig kiwi plum")
    return folder


def calls(work):
    """Returns the names of the functions that were called, and forgets them."""
    file = work / "calls.txt"
    found = sorted(file.read_text().split()) if file.exists() else []
    file.unlink(missing_ok=True)
    return found


def states(plan):
    return {Path(file.path).name: file.state for file in plan.files}


def builder_texts(vault, table="words", version="base"):
    return {name: vault.get_builder_str(table, name, version=version) for name in vault.get_builders_list(table)}


# --- what is written --------------------------------------------------------------------------------------------------


def test_applied_builders_equal_manual_ones_and_reuse_their_cells(vault, save, work):
    file = save(FILE)
    vault.create_code_module("answers", text=PLAIN)
    vault.create_table("words")
    vault.create_instance("words", builders=BY_HAND)
    vault.execute_instance("words")
    assert calls(work) == ["loud"] * 3 + ["measure"] * 3
    vault.create_instance("words", copy=True)
    vault.apply(file, overwrite=True)
    texts = builder_texts(vault)
    assert {name: yaml.safe_load(text) for name, text in texts.items()} == {
        name: yaml.safe_load(text) for name, text in BY_HAND.items()
    }
    vault.execute_instance("words")
    assert calls(work) == []
    assert vault.get_dataframe("words")[0]["twice"].tolist() == [6, 8, 8]


def test_new_vault_gets_table_temporary_instance_and_module(vault, save):
    file = save(FILE)
    plan = vault.plan_apply(file)
    assert plan.tables == ("words",)
    assert plan.services == {}
    assert [(item.path, item.state, item.diff) for item in plan.files] == [
        ("code_functions/answers.py", "new", ""),
        ("words/TEMP_base/builders/words_index.yaml", "new", ""),
        ("words/TEMP_base/builders/loud.yaml", "new", ""),
        ("words/TEMP_base/builders/size.yaml", "new", ""),
    ]
    assert vault.get_tables() == []
    vault.apply(file, process_id="first")
    assert vault.get_table_instances("words", include_temp=True) == ["TEMP_base"]
    assert vault.get_process("first").table_name == "words"
    assert yaml.safe_load((Path(vault.db_dir) / "words" / "description.yaml").read_text())["description"] == "Words"
    assert set(states(vault.plan_apply(file)).values()) == {"same"}
    assert vault.plan_apply(file).tables == ()


def test_comment_has_the_digest_of_the_rest(vault, save, path):
    vault.apply(save(FILE))
    first, rest = (path / "words/TEMP_base/builders/loud.yaml").read_bytes().split(b"\n", 1)
    assert first.decode() == f"# from answers.py, applied {hashlib.sha256(rest).hexdigest()[:32]}"
    module = (path / "code_functions/answers.py").read_bytes()
    rest, last = module[: module.rindex(b"# from")], module[module.rindex(b"# from") :]
    assert last.decode() == f"# from answers.py, applied {hashlib.sha256(rest).hexdigest()[:32]}\n"


def test_unchanged_file_makes_no_temporary_instance(vault, save, work):
    file = save(FILE)
    vault.apply(file)
    vault.execute_instance("words")
    vault.apply(file)
    assert vault.get_table_instances("words", include_temp=True) == vault.get_table_instances("words")
    vault.apply(save(FILE.replace("max_concurrency=1", "max_concurrency=2")))
    assert vault.get_table_instances("words", include_temp=True)[-1] == "TEMP_base"
    calls(work)
    vault.execute_instance("words")
    assert calls(work) == []


def test_fix_in_one_function_computes_its_column_only(vault, save, work):
    vault.apply(save(FILE))
    vault.execute_instance("words")
    calls(work)
    vault.apply(save(FILE.replace("2 * len(loud)", "3 * len(loud)")))
    assert "TEMP_base" not in vault.get_table_instances("words", include_temp=True)
    vault.create_instance("words", copy=True)
    vault.execute_instance("words")
    assert calls(work) == ["measure"] * 3
    assert vault.get_dataframe("words")[0]["twice"].tolist() == [9, 12, 12]


def test_decorators_do_not_affect_the_identity_of_code(vault, save, work):
    vault.apply(save(FILE))
    vault.execute_instance("words")
    calls(work)
    module = vault.get_code_module_str("answers")
    edited = FILE.replace(
        "@words.column(max_concurrency=1)",
        '@words.column(\n    max_concurrency=1, timeout=60,\n    arguments={},\n)\n@words.column("louder")',
    )
    edited = edited.replace("import Table", "import Table, ref, this").replace(
        'Table("words"', 'Table(\n        "words"'
    )
    vault.apply(save(edited))
    strip = re.compile(r"\n\s*\n|\n# from .*").sub
    assert strip("\n", vault.get_code_module_str("answers")).split() == strip("\n", module).split()
    plan = vault.plan_instance("words", run_index=True)
    assert {name: item.computed for name, item in plan.builders.items() if name != "words_index"} == {
        "loud": 0,
        "louder": 3,
        "size": 0,
    }
    vault.execute_instance("words")
    assert calls(work) == ["loud"] * 3, "only the new column is computed"


def test_traceback_names_the_line_of_the_definitions_file(vault, save, work):
    file = save(FILE.replace("return word.upper()", "return word.upper() + 1"))
    line = file.read_text().split("\n").index("    return word.upper() + 1") + 1
    vault.apply(file)
    with pytest.raises(TypeError) as caught:
        vault.execute_instance("words")
    frame = traceback.extract_tb(caught.value.__traceback__)[-1]
    assert (frame.filename, frame.lineno) == (str(Path(vault.db_dir) / "code_functions" / "answers.py"), line)
    assert frame.line == "return word.upper() + 1"


def test_fix_reaches_a_paused_run_and_a_changed_builder_does_not(vault, save, work):
    broken = FILE.replace("return word.upper()", "return word.upper() if word != 'plum' else 1 / 0")
    vault.apply(save(broken))
    with pytest.raises(ZeroDivisionError):
        vault.execute_instance("words", process_id="night")
    with pytest.raises(tv_errors.TVLockError, match="night"):
        vault.apply(save(FILE.replace('"size", "twice"', '"size", "double"')))
    vault.apply(save(FILE))
    calls(work)
    vault.execute_instance("words", process_id="night")
    assert calls(work) == ["loud"] + ["measure"] * 3
    assert vault.get_dataframe("words")[0]["loud"].tolist() == ["FIG", "KIWI", "PLUM"]


# --- states -----------------------------------------------------------------------------------------------------------


def test_hand_edited_builder_is_refused_with_its_diff_unless_overwrite(vault, save):
    vault.apply(save(FILE))
    text = vault.get_builder_str("words", "loud")
    vault.create_builder_file("words", "loud", text=text.replace("max_concurrency: 1", "max_concurrency: 7"))
    assert states(vault.plan_apply(save(FILE)))["loud.yaml"] == "edited since"
    changed = save(FILE.replace("max_concurrency=1", "max_concurrency=2"))
    assert states(vault.plan_apply(changed))["loud.yaml"] == "edited since"
    with pytest.raises(tv_errors.TVArgumentError, match=r"(?s)loud.yaml'.*-max_concurrency: 7.*\+max_concurrency: 2"):
        vault.apply(changed)
    assert "max_concurrency: 7" in vault.get_builder_str("words", "loud")
    assert states(vault.plan_apply(changed, overwrite=True))["loud.yaml"] == "changed"
    vault.apply(changed, overwrite=True)
    assert "max_concurrency: 2" in vault.get_builder_str("words", "loud")


def test_builder_edited_to_the_applied_text_is_kept(vault, save):
    vault.apply(save(FILE))
    text = vault.get_builder_str("words", "loud").replace("max_concurrency: 1", "max_concurrency: 2")
    vault.create_builder_file("words", "loud", text=text)
    vault.apply(save(FILE.replace("max_concurrency=1", "max_concurrency=2")))
    assert vault.get_builder_str("words", "loud") == text


def test_builder_without_a_comment_is_refused_unless_it_is_equal(vault, save):
    vault.create_table("words")
    vault.create_instance("words", builders={name: text.lstrip() for name, text in BY_HAND.items()})
    found = states(vault.plan_apply(save(FILE)))
    assert found["loud.yaml"] == "same"
    assert found["size.yaml"] == "edited since", "the same values in another layout"
    with pytest.raises(tv_errors.TVArgumentError, match=r"size\.yaml': edited since it was applied, or not created by"):
        vault.apply(save(FILE))


def test_manually_written_module_is_refused_with_the_diff(vault, save):
    vault.create_code_module("answers", text="x = 1\n")
    with pytest.raises(tv_errors.TVArgumentError, match=r"(?s)answers.py'.*-x = 1"):
        vault.apply(save(FILE))
    assert vault.get_tables() == []
    assert vault.get_code_module_str("answers") == "x = 1\n"
    vault.apply(save(FILE), overwrite=True)
    assert "def loud" in vault.get_code_module_str("answers")


def test_builder_of_a_removed_column_goes_and_manual_ones_stay(vault, save, work):
    vault.apply(save(FILE))
    vault.create_builder_file("words", "by_hand", text=BY_HAND["loud"].replace("[loud]", "[by_hand]"))
    shorter = FILE.replace('@words.column("size", "twice")\n', "")
    plan = vault.plan_apply(save(shorter))
    assert states(plan)["size.yaml"] == "removed"
    assert "-python_function: measure" in plan.files[-1].diff
    vault.apply(save(shorter))
    assert vault.get_builders_list("words") == ["by_hand", "loud", "words_index"]
    vault.execute_instance("words")
    assert list(vault.get_dataframe("words")[0].columns) == ["word", "by_hand", "loud"]


def test_removed_builder_goes_also_when_the_temporary_instance_is_made(vault, save, work):
    vault.apply(save(FILE))
    vault.execute_instance("words")
    vault.apply(save(FILE.replace('@words.column("size", "twice")\n', "")))
    assert vault.get_builders_list("words") == ["loud", "words_index"]


def test_removed_builder_that_was_edited_is_refused(vault, save):
    vault.apply(save(FILE))
    vault.create_builder_file("words", "size", text=vault.get_builder_str("words", "size") + "timeout: 3\n")
    shorter = save(FILE.replace('@words.column("size", "twice")\n', ""))
    with pytest.raises(tv_errors.TVArgumentError, match=r"size\.yaml': edited since"):
        vault.apply(shorter)
    vault.apply(shorter, overwrite=True)
    assert vault.get_builders_list("words") == ["loud", "words_index"]


def test_modules_are_never_deleted_nor_builders_of_tables_that_are_gone(vault, save):
    vault.apply(save(FILE))
    vault.apply(save(FILE.replace('Table("words"', 'Table("terms"')))
    assert vault.get_builders_list("words") == ["loud", "size", "words_index"]
    assert vault.get_builders_list("terms") == ["loud", "size", "terms_index"]


def test_another_version_has_separate_builders(vault, save, work):
    vault.apply(save(FILE))
    vault.create_builder_file("words", "by_hand", text=BY_HAND["loud"].replace("[loud]", "[by_hand]"))
    vault.execute_instance("words")
    other = save(FILE.replace("max_concurrency=1", "max_concurrency=2"))
    assert states(vault.plan_apply(other, version="two"))["loud.yaml"] == "new"
    vault.apply(other, version="two")
    names = vault.get_builders_list("words", version="two")
    assert names == ["by_hand", "loud", "size", "words_index"]
    assert "max_concurrency: 2" in vault.get_builder_str("words", "loud", version="two")
    assert vault.get_table_instances("words", version="", include_temp=True)[-1] == "TEMP_two"


# --- refusals ---------------------------------------------------------------------------------------------------------


def test_changed_table_flags_are_refused_and_its_description_is_ignored(vault, save):
    vault.create_table("words", description="Other")
    with pytest.raises(tv_errors.TVArgumentError, match="exists with has_side_effects=False, not True"):
        vault.apply(save(FILE.replace('description="Words"', "has_side_effects=True")))
    assert vault.get_code_modules_list() == []
    vault.apply(save(FILE))


def test_temporary_instance_for_written_frames_is_refused(vault, save):
    vault.create_table("words")
    vault.create_instance("words", external_edit=True)
    with pytest.raises(tv_errors.TVArgumentError, match=r"external_edit=True.*delete_instance\('TEMP_base', 'words'\)"):
        vault.apply(save(FILE))


def test_names_that_differ_in_case_only_are_refused(vault, save):
    vault.create_code_module("Answers", text="x = 1\n")
    with pytest.raises(tv_errors.TVArgumentError, match="a code module 'Answers' already"):
        vault.apply(save(FILE))
    vault.delete_code_module("Answers")
    vault.apply(save(FILE))
    with pytest.raises(tv_errors.TVArgumentError, match="a builder 'loud' already"):
        vault.apply(save(FILE.replace("max_concurrency=1", 'builder="Loud"')))


def test_module_applied_from_another_path_is_refused(vault, save):
    first, second = save(FILE), save(FILE, folder="copy")
    vault.apply(first)
    with pytest.raises(tv_errors.TVArgumentError) as caught:
        vault.apply(second)
    assert str(first) in str(caught.value)
    assert str(second) in str(caught.value)
    for _ in range(6):
        vault.apply(save("x = 1", "other.py"))
    with pytest.raises(tv_errors.TVArgumentError, match=r"replace the module once with apply\(…, overwrite=True\)"):
        vault.apply(second)
    vault.apply(second, overwrite=True)
    vault.apply(second)


@pytest.mark.parametrize(("name", "module"), [("my answers.py", "my_answers"), ("répons(es).py", "r_pons_es_")])
def test_module_has_the_stem_of_the_file_with_underscores(name, module, vault, save):
    vault.apply(save(FILE, name))
    assert vault.get_code_modules_list() == [module]
    assert f"code_module: {module}\n" in vault.get_builder_str("words", "loud")
    assert vault.get_builder_str("words", "loud").startswith(f"# from {name}, applied ")
    assert set(states(vault.plan_apply(save(FILE, name))).values()) == {"same"}


def test_sources_that_cannot_be_applied(vault, save, tmp_path):
    (tmp_path / "empty").mkdir()
    for source, message in [
        (tmp_path / "missing.py", "There is no file or folder"),
        (tmp_path / "empty", "has no Python file"),
        (save("x", "text.txt"), "is not a Python file"),
        (save("x = 1", "code.py"), "Forbidden Code Module Name: code; rename the file"),
    ]:
        with pytest.raises(tv_errors.TVArgumentError, match=message):
            vault.apply(source)
    file = save("x = 1")
    file.write_bytes("# -*- coding: latin-1 -*-\nx = 'é'\n".encode("latin-1"))
    with pytest.raises(tv_errors.TVBuilderError, match="declares the encoding iso-8859-1; save it as UTF-8"):
        vault.apply(file)


# --- running the source -----------------------------------------------------------------------------------------------


def test_error_while_the_source_is_run_reaches_the_caller_as_it_is(vault, save):
    file = save("x = 1\nraise LookupError('no key')\n")
    with pytest.raises(LookupError, match="no key") as caught:
        vault.apply(file, process_id="mine")
    assert traceback.extract_tb(caught.value.__traceback__)[-1].filename == str(file)
    assert not hasattr(caught.value, "__notes__")
    with pytest.raises(SyntaxError) as caught:
        vault.apply(save("x = = 1\n"), process_id="mine")
    assert (caught.value.filename, caught.value.lineno) == (str(file), 1)
    assert vault.get_history() == []


COUNTED = "with open('runs.txt', 'a') as runs:\n    print(__name__, file=runs)\n"


def test_source_is_run_once_and_isolated(vault, save, work):
    file = save(f"{COUNTED}import sys\nassert __name__ in sys.modules\n")
    vault.apply(file)
    names = (work / "runs.txt").read_text().split()
    assert len(names) == 1
    assert names[0].startswith("tablevault_code.")
    assert names[0] not in __import__("sys").modules
    assert not list(file.parent.rglob("*.pyc"))


def test_reading_methods_never_run_the_source(vault, save, work):
    vault.apply(save(COUNTED))
    vault.get_code_module_str("answers")
    vault.get_file_tree()
    vault.verify()
    assert len((work / "runs.txt").read_text().split()) == 1


def test_modules_of_the_vault_can_be_imported(vault, save):
    vault.create_code_module("styles", text="STYLE = 'short'\n")
    vault.apply(save(FILE.replace("def note", "import styles\nassert styles.STYLE == 'short'\n\ndef note")))


# --- one operation ----------------------------------------------------------------------------------------------------


def test_paused_apply_is_finished_by_a_restart_without_the_source(vault, save, path, monkeypatch):
    file = save(FILE)
    real = os.open

    def full(name, flags, *rest, **options):
        if flags & os.O_CREAT and "_temp" in str(name):
            raise OSError(28, "No space left on device", str(name))
        return real(name, flags, *rest, **options)

    with monkeypatch.context() as patch:
        patch.setattr(os, "open", full)
        with pytest.raises(OSError, match="No space"):
            vault.apply(file, process_id="mine")
    assert vault.get_process("mine").status == "paused"
    assert vault.get_tables() == []
    file.write_text("raise SystemExit\n")
    with pytest.raises(SystemExit):
        vault.apply(file, process_id="mine")
    file.write_text(file.read_text().replace("raise SystemExit", "x = 1"))
    with pytest.raises(tv_errors.TVProcessError, match="definitions"):
        vault.apply(file, process_id="mine")
    assert vault.get_process("mine").status == "paused"
    file.unlink()
    again = TableVault(path, restart=True)
    assert again.restart_report == {"mine": "resumed"}
    assert again.get_builders_list("words") == ["loud", "size", "words_index"]


def test_only_changed_objects_are_locked(vault, save, work):
    vault.apply(save(FILE))
    broken = FILE.replace("return word.upper()", "return 1 / 0")
    vault.apply(save(broken))
    vault.create_table("other")
    with pytest.raises(ZeroDivisionError):
        vault.execute_instance("words", process_id="night")
    other = 'from tablevault.define import Table\nother = Table("other")\n@other.index()\ndef x(): ...\n'
    vault.apply(save(other, "other.py"))
    vault.apply(save(broken))
    locks = {vault.get_history()[0].operation: vault.get_process("night").locks}
    assert locks["apply"] == vault.get_process("night").locks
    vault.stop_process("night")


def test_table_of_a_written_frame_gets_builders(vault, save, work):
    vault.write("words", pd.DataFrame({"word": ["fig"]}), primary_key="word")
    vault.apply(save(FILE))
    vault.execute_instance("words")
    assert vault.get_dataframe("words")[0]["loud"].tolist() == ["FIG", "KIWI", "PLUM"]


def test_process_of_an_apply_is_a_process_like_any_other(vault, save):
    file = save(FILE)
    vault.apply(file, process_id="mine")
    info = vault.get_process("mine")
    assert (info.operation, info.status, info.table_name) == ("apply", "succeeded", "words")
    assert info.arguments["source"] == str(file)
    with pytest.warns(tv_errors.TableVaultWarning, match="already succeeded"):
        vault.apply(file, process_id="mine")
    log = (Path(vault.db_dir) / "metadata" / "logs.txt").read_text()
    assert "read_words" not in log


# --- the command ------------------------------------------------------------------------------------------------------


def test_command_applies_and_shows_its_plan(vault, save, path):
    from click.testing import CliRunner

    from tablevault.cli.application import application

    def run(*words):
        return CliRunner().invoke(application, ["--db-dir", str(path), "apply", *words], catch_exceptions=False)

    file = str(save(FILE))
    planned = run(file, "--dry-run")
    assert '"state": "new"' in planned.output
    assert vault.get_tables() == []
    applied = run(file, "--process-id", "mine")
    assert (applied.stdout, applied.exit_code) == ("mine\n", 0)
    vault.create_code_module("answers", text="x = 1\n")
    assert run(file).exit_code == 1
    assert run(file, "--overwrite", "--version", "two").exit_code == 0
    assert vault.get_builders_list("words", version="two") == ["loud", "size", "words_index"]
