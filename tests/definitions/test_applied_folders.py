"""Folders as sources.

Also files beside a single file, and tables that several files define together.
"""

from __future__ import annotations

import pytest
import yaml

from tablevault import tv_errors

TABLES = """
    from tablevault.define import Table

    import helpers

    words = Table("words")


    @words.index("word", primary_key=["word"])
    def read_words():
        return helpers.WORDS


    @words.column()
    def loud(word):
        return helpers.shout(word)
"""
HELPERS = """
    WORDS = ["fig", "kiwi"]


    def shout(word):
        return word.upper()
"""
MORE = """
    from tablevault.define import Table

    from . import helpers
    from .tables import words
    from helpers import shout

    lengths = Table("lengths")
    lengths.index(rows_of="words")


    @words.column()
    def louder(loud):
        return shout(loud) + "!"


    @lengths.column()
    def length(louder):
        return len(louder)


    if __name__ == "__main__":
        print(words)
"""


@pytest.fixture
def folder(save):
    save(HELPERS, "helpers.py")
    save(MORE, "more.py")
    file = save(TABLES, "tables.py")
    (file.parent / "notes.txt").write_text("no code")
    (file.parent / "inner").mkdir()
    (file.parent / "inner" / "deep.py").write_text("raise SystemExit\n")
    (file.parent / ".hidden.py").write_text("raise SystemExit\n")
    return file.parent


def test_all_files_of_a_folder_are_applied_together(vault, folder):
    vault.apply(folder, process_id="all")
    assert vault.get_code_modules_list() == ["helpers", "more", "tables"]
    assert vault.get_builders_list("words") == ["loud", "louder", "words_index"]
    assert vault.get_builder_str("words", "loud").startswith("# from tables.py, ")
    assert vault.get_builder_str("words", "louder").startswith("# from more.py, ")
    assert yaml.safe_load(vault.get_builder_str("words", "louder"))["arguments"] == {"loud": "<<self.loud[index]>>"}
    index = yaml.safe_load(vault.get_builder_str("lengths", "lengths_index"))
    assert index["changed_columns"] == ["word", "loud", "louder"]
    assert vault.get_process("all").table_name == ""
    vault.execute_instance("words")
    vault.execute_instance("lengths")
    assert vault.get_dataframe("lengths")[0]["length"].tolist() == [4, 5]
    assert {item.state for item in vault.plan_apply(folder).files} == {"same"}


def test_imports_of_tables_are_left_out_of_a_module(vault, folder):
    vault.apply(folder)
    text = vault.get_code_module_str("more")
    assert "tables" not in text
    assert "from helpers import shout\n" in text


def test_single_file_can_import_siblings_that_the_vault_has(vault, folder, save):
    vault.apply(folder)
    vault.apply(folder / "tables.py")
    changed = save(MORE.replace('+ "!"', '+ "?"'), "more.py")
    assert {item.path: item.state for item in vault.plan_apply(changed).files} == {
        "code_functions/more.py": "changed",
        "words/TEMP_base/builders/louder.yaml": "same",
        "lengths/TEMP_base/builders/lengths_index.yaml": "same",
        "lengths/TEMP_base/builders/length.yaml": "same",
    }
    vault.apply(changed)
    assert 'shout(loud) + "?"' in vault.get_code_module_str("more")
    assert vault.get_builders_list("words") == ["loud", "louder", "words_index"]


def test_sibling_that_the_vault_does_not_have_is_refused(vault, folder):
    with pytest.raises(
        tv_errors.TVBuilderError, match=r"'helpers.py' is imported, and is not a module of the vault; apply"
    ):
        vault.apply(folder / "tables.py")
    assert vault.get_history() == []


def test_sibling_that_differs_from_the_vault_is_refused(vault, folder, save):
    vault.apply(folder)
    save(HELPERS.replace("upper", "lower"), "helpers.py")
    with pytest.raises(
        tv_errors.TVBuilderError, match=r"'helpers.py' is imported, and differs from the vault's module"
    ):
        vault.apply(folder / "tables.py")


def test_statement_that_imports_a_table_imports_nothing_else(vault, folder, save):
    save(MORE.replace("import words", "import words, loud"), "more.py")
    with pytest.raises(
        tv_errors.TVBuilderError, match=r"more.py, line 4: this imports a Table and 'loud'; import each"
    ):
        vault.apply(folder)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (
            "@words.index('a')\n    def again(): ...",
            r"tables.py, line \d+: table 'words' has an index already \(more.py",
        ),
        ("@words.column('loud')\n    def again(): ...", r"a builder 'loud' already \(more.py, line"),
        ("words2 = Table('Words')", r"there is a Table\('.ords'\) already; import that one"),
        ("print(words)", "more.py, line 21: the Table 'words' may be used in decorators"),
        (
            "import tables\n    @tables.words.column()\n    def again(): ...",
            "a builder cannot be defined here",
        ),
    ],
)
def test_rules_hold_across_files(line, message, vault, folder, save):
    save(MORE.replace("if __name__", f"{line}\n\n\n    if __name__"), "more.py")
    with pytest.raises(tv_errors.TVBuilderError, match=message):
        vault.apply(folder)


def test_files_that_would_be_one_module_are_refused(vault, folder):
    (folder / "more words.py").write_text("")
    (folder / "more_words.py").write_text("")
    with pytest.raises(tv_errors.TVArgumentError, match="would both become the module 'more_words'; rename one"):
        vault.apply(folder)


def test_builder_that_moves_to_another_file_is_changed(vault, folder, save):
    vault.apply(folder)
    loud = "@words.column()\n    def loud(word):\n        return helpers.shout(word)\n"
    save(TABLES.replace(loud, ""), "tables.py")
    save(MORE.replace("@words.column()\n    def louder", f"{loud}\n\n    @words.column()\n    def louder"), "more.py")
    states = {item.path: item.state for item in vault.plan_apply(folder).files}
    assert states["words/TEMP_base/builders/loud.yaml"] == "changed"
    vault.apply(folder)
    assert vault.get_builder_str("words", "loud").startswith("# from more.py, ")


def test_table_that_is_imported_through_another_file(vault, folder, save):
    save("from more import words\n\n\n@words.column()\ndef last(louder):\n    return louder[-1]\n", "third.py")
    vault.apply(folder)
    assert vault.get_builders_list("words") == ["last", "loud", "louder", "words_index"]
    assert vault.get_code_module_str("third").startswith("\n\n\n\ndef last(louder):")


def test_path_of_a_source_may_lead_over_a_link(vault, folder, tmp_path):
    vault.apply(folder)
    (tmp_path / "link").symlink_to(folder)
    vault.apply(tmp_path / "link")
    assert {process.arguments["source"] for process in vault.get_history()} == {str(folder)}
