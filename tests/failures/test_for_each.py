"""IndexBuilders with `for_each`.

One input row becomes any number of rows; all decisions are made per input row.
"""

from __future__ import annotations

import random
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
from waiting import until

from tablevault import TableReferenceError, TableVault, TVBuilderError, TVTableError, tv_errors

SPLIT = """
import time
from pathlib import Path

def note(log, name):
    with open(log, "a") as file:
        file.write(f"{name}\\n")

def split(log, name, text):
    note(log, name)
    if text == "boom":
        raise ValueError(f"cannot split {name}")
    return [(name, place, word) for place, word in enumerate(text.split())]

async def split_later(log, name, text):
    return split(log, name, text)

def split_many(log, name, text):
    return [
        ValueError(f"cannot split {one}") if words == "boom" else split(log, one, words)
        for one, words in zip(name, text, strict=True)
    ]

def pages(log, name, text, folder):
    note(log, name)
    rows = []
    for place, word in enumerate(text.split()):
        Path(folder, f"{name}-{place}.txt").write_text(word)
        rows.append((name, place, f"{name}-{place}.txt"))
    return rows

def rows_as_mappings(log, name, text):
    return [{"word": word, "place": place, "name": name} for place, word in enumerate(text.split())]

def split_at_the_second_call(log, name, text):
    note(log, name)
    if Path(log).read_text().split().count(name) < 2:
        raise ConnectionError("down")
    return rows_as_mappings(log, name, text)

def split_slowly(log, name, text):
    if name == "b":
        time.sleep(3)
    return rows_as_mappings(log, name, text)

def split_into_many(log, name, text):
    note(log, name)
    time.sleep(0.01)
    return [(name, place, text) for place in range(2_000)]

class Splitter:
    def __init__(self, log):
        note(log, "made")
        self.log = log

    def __call__(self, log, name, text):
        return rows_as_mappings(log, name, text)

    def close(self):
        note(self.log, "closed")

def labelled(log, name, text):
    import pandas as pd
    rows = [(name, place, word) for place, word in enumerate(text.split())]
    return pd.Series(rows, dtype=object)

def named(log, name, text):
    import pandas as pd
    return labelled(log, name, text).set_axis(pd.Index(text.split(), name="word"))

def length(word):
    return len(word)
"""

DOCUMENTS = {"a": "one two three", "b": "four", "c": "", "d": "five six"}
WORDS = [
    ("a", 0, "one"),
    ("a", 1, "two"),
    ("a", 2, "three"),
    ("b", 0, "four"),
    ("d", 0, "five"),
    ("d", 1, "six"),
]


class Words:
    """A table of words, made from a table of documents."""

    def __init__(self, folder):
        self.vault = TableVault(folder / "vault", author="tester", create=True)
        self.vault.create_code_module("texts", text=SPLIT)
        self.vault.create_table("words")
        self.log = folder / "calls"

    def write(self, documents, primary_key=("name",)):
        frame = pd.DataFrame(
            {"name": pd.array(list(documents), "string"), "text": pd.array(list(documents.values()), "string")}
        )
        self.vault.write("documents", frame, primary_key=list(primary_key) or None)

    def index(self, function="split", return_type="row-wise", more="", arguments=""):
        return (
            "builder_type: IndexBuilder\nchanged_columns: [name, place, word]\n"
            f"python_function: {function}\ncode_module: texts\nis_custom: true\nreturn_type: {return_type}\n"
            f"for_each: documents\nuntracked: [log]\n{more}\n"
            f"arguments:\n  log: {str(self.log)!r}\n"
            "  name: '<<documents.name[index]>>'\n  text: '<<documents.text[index]>>'\n" + arguments
        )

    def build(self, index="", columns=None, copy=False, **options):
        builders = {"words_index": index or self.index(), **(columns or {})}
        self.vault.create_instance("words", builders=builders, copy=copy)
        return self.vault.execute_instance("words", **options)

    def rows(self, instance_id=""):
        frame = self.vault.get_dataframe("words", instance_id, full_artifact_path=False)[0]
        return list(frame[["name", "place", "word"]].itertuples(index=False, name=None))

    def calls(self):
        """Return the names of the documents that were split since the last time."""
        text = self.log.read_text() if self.log.exists() else ""
        self.log.write_text("")
        return text.split()


@pytest.fixture
def words(tmp_path):
    made = Words(tmp_path)
    made.write(DOCUMENTS)
    return made


@pytest.mark.parametrize(
    ("function", "return_type", "more"),
    [
        ("split", "row-wise", ""),
        ("split", "row-wise", "max_concurrency: 3"),
        ("split_later", "row-wise", ""),
        ("split_many", "batch", "batch_size: 3"),
        ("split_many", "batch", "batch_size: 1"),
    ],
)
def test_rows_stand_in_the_order_of_the_input_rows(words, function, return_type, more):
    words.build(words.index(function, return_type, more))
    assert words.rows() == WORDS
    assert sorted(words.calls()) == ["a", "b", "c", "d"]
    assert words.vault.verify().problems == ()


def test_rows_may_be_a_series(words):
    words.build(words.index("labelled"))
    assert words.rows() == WORDS


def test_series_whose_labels_would_be_lost_is_refused(words):
    with pytest.raises(ValueError, match="'words_index', input row 0: the row index is named 'word'"):
        words.build(words.index("named"))


def test_rows_may_be_mappings(words):
    words.build(words.index("rows_as_mappings"))
    assert words.rows() == WORDS


def test_calls_for_input_rows_are_retried(words):
    words.build(words.index("split_at_the_second_call", more="retry: {max_retries: 1, wait: 0}"))
    assert words.rows() == WORDS
    assert sorted(words.calls()) == [*"aabbccdd"]


def test_class_is_called_for_each_input_row(words):
    words.build(words.index("Splitter", more=f"setup_arguments: {{log: {str(words.log)!r}}}"))
    assert words.rows() == WORDS
    assert words.calls() == ["made", "closed"]


def test_calls_for_input_rows_use_a_service(words):
    words.vault.set_service("api", {"calls_per_minute": 1000})
    process_id = words.build(words.index(more="service: api"))
    assert words.vault.get_process(process_id).usage == {"calls": 4}


@pytest.mark.slow
def test_input_row_whose_call_takes_too_long_fails(words):
    with pytest.warns(tv_errors.TableVaultWarning, match="failed row"):
        words.build(words.index("split_slowly", more="on_error: collect\ntimeout: 1.5"))
    assert words.vault.get_errors("words")["index"].tolist() == [1]
    assert words.rows() == [row for row in WORDS if row[0] != "b"]


RESUME = """
import sys
from tablevault import TableVault

TableVault(sys.argv[1], author="ada").execute_instance("words", process_id="nightly")
"""


@pytest.mark.slow
def test_rows_of_an_input_row_survive_a_kill_together_or_not_at_all(words):
    names = [f"d{number:03}" for number in range(300)]
    words.write(dict.fromkeys(names, "text"))
    builders = {"words_index": words.index("split_into_many")}
    words.vault.create_instance("words", builders=builders)
    reader, chance, found = TableVault(words.vault.db_dir), random.Random(6), 0
    for _ in range(8):
        words.log.write_text("")
        running = subprocess.Popen([sys.executable, "-c", RESUME, words.vault.db_dir])
        calls = chance.randint(1, 20)
        until(lambda calls=calls: words.log.read_text().count("\n") >= calls, running)
        running.kill()
        running.wait()
        frame = reader.get_dataframe("words", "TEMP_base")[0]
        kept = frame["name"].value_counts() if "name" in frame else pd.Series(dtype="int64")
        assert set(kept) <= {2_000}
        assert found <= len(kept), "what was durable is lost"
        found = len(kept)
    assert 0 < found < len(names)
    words.vault.execute_instance("words", process_id="nightly")
    frame = reader.get_dataframe("words")[0]
    assert list(zip(frame["name"], frame["place"], strict=True)) == [(name, x) for name in names for x in range(2_000)]


def test_failures_are_counted_by_input_row(words):
    words.write({**DOCUMENTS, "b": "boom", "d": "boom"})
    with pytest.raises(ValueError, match="cannot split d") as caught:
        words.build(words.index(more="on_error: collect\nmax_failures: 1"))
    assert "2 of 4 tried rows failed in builder 'words_index'" in caught.value.__notes__[0]
    words.vault.delete_instance("TEMP_base", "words")
    with pytest.warns(tv_errors.TableVaultWarning, match="2 failed rows in 'words_index'"):
        words.build(words.index(more="on_error: collect\nmax_failures: 2"))


def test_trace_of_a_row_has_the_cells_of_its_input_row(words):
    words.build()
    for position, (name, _, word) in enumerate(WORDS):
        trace = words.vault.trace_cell("words", position, "word")
        assert trace.value == word
        assert trace.arguments == {"name": name, "text": DOCUMENTS[name]}
        assert trace.input_row == {"index": list(DOCUMENTS).index(name), "name": name}
        assert f'input row: index={trace.input_row["index"]}, name="{name}"' in repr(trace)
        assert trace.to_dict()["input_row"] == trace.input_row


def test_trace_of_a_row_names_an_input_row_without_a_key_by_its_position(words):
    words.write(DOCUMENTS, primary_key=())
    words.build()
    assert words.vault.trace_cell("words", 3, "word").input_row == {"index": 1}


def test_trace_of_a_row_without_an_input_row_has_no_input_row(words):
    words.write(DOCUMENTS)
    assert words.vault.trace_cell("documents", "a", "text").input_row is None


def test_provenance_keeps_keys_of_input_rows_and_their_numbers_of_rows(words):
    words.build()
    (path,) = Path(words.vault.db_dir, "words").glob("base_*/inputs.parquet")
    recorded = pd.read_parquet(path)
    assert recorded["rows"].tolist() == [3, 1, 0, 2]
    assert recorded.iloc[:, 0].tolist() == list(DOCUMENTS)


def test_column_builders_run_over_the_rows(words):
    column = (
        "builder_type: ColumnBuilder\nchanged_columns: [size]\npython_function: length\ncode_module: texts\n"
        "is_custom: true\nreturn_type: row-wise\narguments: {word: '<<self.word[index]>>'}\n"
    )
    words.build(columns={"size": column})
    assert words.vault.get_dataframe("words")[0]["size"].tolist() == [3, 3, 5, 4, 4, 3]


@pytest.mark.parametrize("primary_key", [("name",), ()])
def test_new_and_changed_input_rows_cost_one_call_each(words, primary_key):
    words.write(DOCUMENTS, primary_key)
    words.build()
    words.calls()
    words.write({"new": "seven", "d": "five", "a": DOCUMENTS["a"], "c": "", "b": "four"}, primary_key)
    words.build(copy=True)
    assert sorted(words.calls()) == ["d", "new"]
    assert words.rows() == [("new", 0, "seven"), ("d", 0, "five"), *WORDS[:3], WORDS[3]]


def test_unchanged_input_rows_are_not_called_for(words):
    words.build()
    words.calls()
    words.build(copy=True)
    assert words.calls() == []
    assert words.rows() == WORDS


def test_changed_dtype_calls_for_every_input_row(words):
    words.build()
    words.calls()
    words.build(words.index(more="dtypes: {place: int32}"), copy=True)
    assert words.calls() == ["a", "b", "c", "d"]


def test_changed_code_calls_for_every_input_row(words):
    words.build()
    words.calls()
    words.vault.create_code_module("texts", text=SPLIT.replace("text.split()", "text.upper().split()"))
    words.build(copy=True)
    assert words.calls() == ["a", "b", "c", "d"]
    assert words.rows()[0] == ("a", 0, "ONE")


@pytest.mark.parametrize(("function", "return_type"), [("split", "row-wise"), ("split_many", "batch")])
def test_failed_input_row_has_no_rows_and_one_record(words, function, return_type):
    words.write({**DOCUMENTS, "b": "boom"})
    with pytest.warns(tv_errors.TableVaultWarning, match="1 failed row in 'words_index'"):
        words.build(words.index(function, return_type, "on_error: collect"))
    assert words.rows() == [row for row in WORDS if row[0] != "b"]
    errors = words.vault.get_errors("words")
    assert errors[["builder", "index", "kind", "error"]].values.tolist() == [["words_index", 1, "failed", "ValueError"]]
    assert errors["key"].tolist() == [{"name": "b"}]


def test_position_of_a_failed_input_row_is_not_that_of_a_row(words):
    words.write({**DOCUMENTS, "b": "boom"})
    with pytest.warns(tv_errors.TableVaultWarning, match="1 failed row in 'words_index'"):
        words.build(words.index(more="on_error: collect"))
    assert len(words.vault.get_dataframe("words", failed="drop")[0]) == len(words.rows())
    assert len(words.vault.get_dataframe("words", failed="raise")[0]) == len(words.rows())
    assert "failed" not in repr(words.vault.show("words"))
    assert words.vault.trace_cell("words", 1, "word").state == "computed"


def test_position_of_a_failed_input_row_is_not_that_of_an_unfinished_row(words):
    words.write({"a": "boom", "b": "one two", "c": "boom"})
    index = words.index(more="on_error: collect\nmax_failures: 1")
    with pytest.raises(ValueError, match="cannot split c"):
        words.build(index, process_id="night")
    assert words.rows("TEMP_base") == [("b", 0, "one"), ("b", 1, "two")]
    assert len(words.vault.get_dataframe("words", "TEMP_base", failed="drop")[0]) == 2
    assert "failed" not in repr(words.vault.show("words", "TEMP_base"))


def test_failed_input_row_is_called_for_again_in_a_copy(words):
    words.write({**DOCUMENTS, "b": "boom"})
    with pytest.warns(tv_errors.TableVaultWarning):
        words.build(words.index(more="on_error: collect"))
    words.calls()
    words.write(DOCUMENTS)
    words.build(words.index(more="on_error: collect"), copy=True)
    assert words.calls() == ["b"]
    assert words.rows() == WORDS


def test_paused_run_goes_on_after_the_last_finished_input_row(words):
    words.write({**DOCUMENTS, "c": "boom"})
    with pytest.raises(ValueError, match="cannot split c"):
        words.build(process_id="night")
    assert words.calls() == ["a", "b", "c"]
    assert words.rows("TEMP_base") == WORDS[:4]
    words.vault.create_code_module("texts", text=SPLIT.replace('"boom"', '"bang"'))
    words.vault.execute_instance("words", process_id="night")
    assert words.calls() == ["c", "d"]
    assert words.rows() == [*WORDS[:4], ("c", 0, "boom"), *WORDS[4:]]


def test_resumed_run_reads_the_instance_that_it_began_with(words):
    words.write({**DOCUMENTS, "c": "boom"})
    with pytest.raises(ValueError, match="cannot split c"):
        words.build(process_id="night")
    words.write({"z": "another text"})
    words.vault.create_code_module("texts", text=SPLIT.replace('"boom"', '"bang"'))
    words.vault.execute_instance("words", process_id="night")
    assert words.rows() == [*WORDS[:4], ("c", 0, "boom"), *WORDS[4:]]


def test_error_of_the_run_in_an_input_row_is_never_collected(words):
    words.write({**DOCUMENTS, "c": "boom"})
    with pytest.raises(ValueError, match="cannot split c"):
        words.build(words.index(more="on_error: collect\nstop_on: [ValueError]"), process_id="night")
    assert words.vault.get_process("night").status == "paused"
    assert len(words.vault.get_errors(process_id="night")) == 0


def test_stopped_run_is_materialized_with_the_finished_input_rows(words):
    words.write({**DOCUMENTS, "d": "boom"})
    with pytest.raises(ValueError, match="cannot split d"):
        words.build(process_id="night")
    words.vault.stop_process("night", materialize=True)
    assert words.rows() == WORDS[:4]


def test_reverted_run_gives_its_input_rows_to_reuse_partial(words):
    words.write({**DOCUMENTS, "d": "boom"})
    with pytest.raises(ValueError, match="cannot split d"):
        words.build()
    words.calls()
    words.write(DOCUMENTS)
    words.vault.execute_instance("words", reuse_partial=True)
    assert words.calls() == ["d"]
    assert words.rows() == WORDS


def test_artifacts_of_unchanged_input_rows_are_taken_over(words):
    index = words.index("pages", more="dtypes: {word: artifact_string}", arguments="  folder: ~ARTIFACT_FOLDER~\n")
    words.build(index)
    words.calls()
    words.write({**DOCUMENTS, "b": "nine"})
    words.build(index, copy=True)
    assert words.calls() == ["b"]
    folder = words.vault.get_artifact_folder("words", is_temp=False)
    texts = {row[2]: Path(folder, row[2]).read_text() for row in words.rows()}
    assert texts["a-2.txt"] == "three"
    assert texts["b-0.txt"] == "nine"
    assert words.vault.verify().problems == ()


def test_old_rows_are_kept_where_the_builder_says_so(words):
    more = "primary_key: [name, place]\nkeep_old: true"
    words.build(words.index(more=more))
    words.write({"e": "seven"})
    words.build(words.index(more=more), copy=True)
    assert sorted(words.rows()) == sorted([*WORDS, ("e", 0, "seven")])


def test_duplicate_key_is_refused(words):
    words.write({"a": "same", "b": "same"})
    told = r"Primary key \(word\) is not unique: rows 0 and 1, made from input rows 0 \(.*\) and 1 \(.*\), both have 'same'"
    with pytest.raises(TVTableError, match=told):
        words.build(words.index(more="primary_key: [word]"))


def test_plan_counts_calls_without_making_any(words):
    words.build()
    words.calls()
    words.write({**DOCUMENTS, "e": "seven", "b": "changed"})
    words.vault.create_instance("words", copy=True)
    plan = words.vault.plan_instance("words").builders["words_index"]
    assert (plan.total, plan.reused, plan.computed) == (None, 3, 2)
    assert words.calls() == []


def test_invalid_list_of_rows_is_refused_with_its_input_row(words):
    words.vault.create_code_module("texts", text="def split(log, name, text):\n    return text\n")
    with pytest.raises(TypeError, match=r"input row 0: split\(\) must return a list of rows.*not str"):
        words.build()


def test_version_of_the_input_table_may_be_named(words):
    words.vault.write("documents", pd.DataFrame({"name": ["z"], "text": ["last one"]}), version="v2")
    index = words.index().replace("for_each: documents", "for_each: documents(v2)")
    words.build(index.replace("<<documents.", "<<documents(v2)."))
    assert words.rows() == [("z", 0, "last"), ("z", 1, "one")]


def test_column_builder_cannot_be_called_for_each_row_of_a_table(words):
    column = (
        "builder_type: ColumnBuilder\nchanged_columns: [size]\npython_function: length\ncode_module: texts\n"
        "is_custom: true\nreturn_type: row-wise\nfor_each: documents\narguments: {word: '<<self.word[index]>>'}\n"
    )
    with pytest.raises(TVBuilderError, match=r"size\.yaml, line 7, for_each: .*IndexBuilder"):
        words.build(columns={"size": column})
    assert words.calls() == []


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        (("for_each: documents", "for_each: 'a b'"), TVBuilderError, "for_each.*is not a table"),
        (("for_each: documents", "for_each: nothing"), tv_errors.TableVaultError, "There is no table 'nothing'"),
        (("row-wise", "generator"), (TVBuilderError, TableReferenceError), "row-wise"),
        (("<<documents.name[index]>>", "<<self.name[index]>>"), TVBuilderError, "self cannot be read here"),
        (
            ("<<documents.name[index]>>", "<<documents.nam[index]>>"),
            (TVBuilderError, TableReferenceError),
            "no column 'nam'",
        ),
    ],
)
def test_wrong_for_each_is_refused_before_anything_runs(words, change, error, message):
    with pytest.raises(error, match=message):
        words.build(words.index().replace(*change))
    assert words.calls() == []
