"""The number of calls of each function after each kind of change."""

from __future__ import annotations

import pytest
from counted_desk import ASK, CITY, INDEX, LENGTH, NUMBER, SHOUT, Desk


def test_nothing_changed_calls_no_function_of_a_column(desk: Desk) -> None:
    desk.first()
    before = desk.frame()
    desk.again()
    assert desk.calls() == {}
    assert desk.frame().equals(before)


def test_one_new_row_costs_one_call_per_column(desk: Desk) -> None:
    desk.first()
    desk.people(["ann", "bob", "cleo", "dan", "eve"])
    desk.again()
    assert desk.calls() == {"ask": 1, "shout": 1}
    assert desk.frame()["answer"].tolist()[-1] == "Who is eve?"


def test_rows_are_matched_on_the_primary_key_wherever_they_are(desk: Desk) -> None:
    desk.first()
    desk.people(["eve", "dan", "ann"])
    desk.again()
    assert desk.calls() == {"ask": 1, "shout": 1}
    assert desk.frame()["loud"].tolist() == ["WHO IS EVE?", "WHO IS DAN?", "WHO IS ANN?"]


def test_without_a_primary_key_rows_are_matched_on_position(desk: Desk) -> None:
    desk.first(key="[]")
    desk.people(["ann", "BOB", "cleo", "dan", "eve"])
    desk.again()
    assert desk.calls() == {"ask": 2, "shout": 2}


def test_changed_prompt_recomputes_its_column_and_dependents(desk: Desk) -> None:
    desk.first({"ask": ASK.format(prompt="Who is"), "shout": SHOUT, "length": LENGTH})
    desk.again({"ask": ASK.format(prompt="Where is")})
    assert desk.calls() == {"ask": 4, "shout": 4}


def test_dependent_column_is_recomputed_only_where_values_changed(desk: Desk) -> None:
    desk.first()
    desk.write_code(desk.code.replace('f"{prompt} {name}"', "f\"{prompt} {name.replace('bob', 'Bob')}\""))
    desk.again()
    assert desk.calls() == {"ask": 4, "shout": 1}


def test_changed_code_of_a_validator_recomputes_its_column(desk: Desk) -> None:
    desk.write_code(desk.code + "\ndef check(loud):\n    assert loud\n")
    desk.first({"ask": ASK.format(prompt="Who is"), "shout": SHOUT + "validate: check\n"})
    desk.again()
    assert desk.calls() == {}
    desk.write_code(desk.code.replace("assert loud", "assert loud.isupper()"))
    desk.again()
    assert desk.calls() == {"shout": 4}


def test_a_comment_a_docstring_and_layout_change_nothing(desk: Desk) -> None:
    desk.first()
    changed = desk.code.replace('"""Ask."""', '"""Ask somebody something."""').replace(
        "def suffix", "# why\n\n\ndef suffix"
    )
    desk.write_code(changed)
    desk.again()
    assert desk.calls() == {}


def test_mending_one_function_does_not_pay_for_another(desk: Desk) -> None:
    desk.first()
    desk.write_code(desk.code.replace("text.upper()", "text.title()"))
    desk.again()
    assert desk.calls() == {"shout": 4}


def test_code_that_a_function_reaches_counts(desk: Desk) -> None:
    desk.first()
    desk.write_code(desk.code.replace('text + "?"', 'text + "!"'))
    desk.again()
    assert desk.calls() == {"ask": 4, "shout": 4}


def test_code_that_nothing_reaches_does_not_count(desk: Desk) -> None:
    desk.first()
    desk.write_code(desk.code.replace("return 1", "return 2"))
    desk.again()
    assert desk.calls() == {}


def test_a_changed_input_recomputes_only_the_rows_whose_arguments_changed(desk: Desk) -> None:
    desk.first({"city": CITY})
    desk.people(["ann", "bob", "cleo", "dan"], ["annville", "Paris", "cleoville", "danville"])
    desk.again()
    assert desk.calls() == {"lookup": 1}
    assert desk.frame()["town"].tolist() == ["annville", "Paris", "cleoville", "danville"]


def test_null_is_a_result_and_is_not_computed_again(desk: Desk) -> None:
    desk.write_code(
        desk.code.replace("return text.upper()", "return None").replace(
            "None if text is None else text.upper()", "None"
        )
    )
    desk.first()
    assert desk.frame()["loud"].isna().all()
    desk.again()
    assert desk.calls() == {}


def test_a_changed_dtype_recomputes_the_column(desk: Desk) -> None:
    desk.first({"ask": ASK.format(prompt="Who is")})
    desk.again({"ask": ASK.format(prompt="Who is") + "dtypes: {answer: category}\n"})
    assert desk.calls() == {"ask": 4}
    assert str(desk.frame()["answer"].dtype) == "category"


def test_a_dataframe_builder_is_decided_as_a_whole(desk: Desk) -> None:
    desk.first({"length": LENGTH})
    desk.again()
    assert desk.calls() == {}
    desk.people(["ann", "bob", "cleo", "dan", "eve"])
    desk.again()
    assert desk.calls() == {"length": 1}
    assert desk.frame()["letters"].tolist() == [3, 3, 4, 3, 3]


def test_a_generator_of_a_column_is_decided_as_a_whole(desk: Desk) -> None:
    desk.first({"number": NUMBER})
    desk.again()
    assert desk.calls() == {}
    desk.people(["ann", "bob", "cleo", "dan", "eve"])
    desk.again()
    assert desk.calls() == {"number": 1, "numbered": 5}
    assert desk.frame()["letters"].tolist() == [3, 3, 4, 3, 3]


LATER = """
builder_type: ColumnBuilder
changed_columns: [later]
python_function: late
code_module: llm
is_custom: true
return_type: row-wise
arguments: {letters: "<<self.letters[index]>>"}
"""


@pytest.mark.parametrize("column", [LENGTH, NUMBER], ids=["dataframe", "generator"])
@pytest.mark.parametrize("is_stopped", [False, True], ids=["resumed", "stopped"])
def test_cells_of_earlier_code_keep_its_version_after_a_pause(desk: Desk, column: str, is_stopped: bool) -> None:
    late = "\n\ndef late(letters):\n    return letters\n"
    sound = desk.code + late
    desk.write_code(sound.replace("return letters", "raise OSError('gone')"))
    desk.vault.create_instance(
        "answers", builders={"answers_index": INDEX.format(key="[name]", keep_old="false"), "col": column, "x": LATER}
    )
    with pytest.raises(OSError, match="gone"):
        desk.run(process_id="nightly")
    changed = sound.replace("len(name)", "-len(name)")
    desk.write_code(changed.replace("return letters", "raise OSError('gone')") if is_stopped else changed)
    if is_stopped:
        with pytest.raises(OSError, match="gone"):
            desk.run(process_id="nightly")
        desk.vault.stop_process("nightly", materialize=True)
        desk.write_code(changed)
    else:
        desk.run(process_id="nightly")
    assert desk.frame()["letters"].tolist() == [3, 3, 4, 3]
    (step,) = [step for step in desk.vault.get_lineage("answers", column="letters").columns if step.column == "letters"]
    (old,) = step.code_versions
    assert old.rows == 4

    desk.vault.create_instance("answers", copy=True)
    planned = desk.vault.plan_instance("answers", run_index=True).builders["col"]
    assert (planned.reused, planned.computed) == (0, 4)
    assert any("code" in reason and "changed" in reason for reason in planned.reasons)
    desk.run()
    assert desk.frame()["letters"].tolist() == [-3, -3, -4, -3]
    (step,) = [step for step in desk.vault.get_lineage("answers", column="letters").columns if step.column == "letters"]
    assert [version.rows for version in step.code_versions] == [4]
    assert step.code_versions[0].version != old.version


@pytest.mark.slow
def test_a_generator_that_went_on_with_new_code_tells_its_rows_apart(desk: Desk) -> None:
    sound = desk.code.replace("number(names)", "number(names, mine)").replace(
        "in names:", "in names[mine['letters'].notna().sum():]:"
    )
    assert sound != desk.code
    broken = sound.replace(
        "        yield len(name)", "        if name == 'cleo': raise OSError('gone')\n        yield len(name)"
    )
    going_on = NUMBER.replace("arguments: {", 'arguments: {mine: "<<self.letters>>", ')
    desk.write_code(broken)
    index = INDEX.format(key="[name]", keep_old="false")
    desk.vault.create_instance("answers", builders={"answers_index": index, "col": going_on})
    with pytest.raises(OSError, match="gone"):
        desk.run(process_id="nightly")
    desk.write_code(sound)
    desk.run(process_id="nightly")
    assert desk.calls() == {"number": 1, "numbered": 2}
    (step,) = [step for step in desk.vault.get_lineage("answers", column="letters").columns if step.column == "letters"]
    assert sorted(version.ranges for version in step.code_versions) == [((0, 1),), ((2, 3),)]
    desk.again()
    assert desk.calls()["numbered"] == 4


def test_force_execute_reuses_nothing(desk: Desk) -> None:
    desk.first()
    desk.again(force_execute=True)
    assert desk.calls() == {"ask": 4, "shout": 4}


def test_untracked_arguments_do_not_count(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    text = ASK.format(prompt="Who is") + "untracked: [prompt]\n"
    desk.first({"ask": text})
    desk.again({"ask": text.replace("Who is", "Where is")})
    assert desk.calls() == {}


def test_environment_placeholders_do_not_count_and_are_recorded_nowhere(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ASK_KEY", "first-secret")
    desk.first({"ask": ASK.format(prompt="~ENV:ASK_KEY~")})
    monkeypatch.setenv("ASK_KEY", "second-secret")
    desk.again()
    assert desk.calls() == {}
    stored = b"".join(
        path.read_bytes() for path in (desk.calls_file.parent / "vault").rglob("*") if path.suffix in (".json", ".txt")
    )
    assert b"secret" not in stored


def test_keep_old_keeps_the_rows_that_the_new_run_did_not_produce(desk: Desk) -> None:
    desk.first(keep_old="true")
    desk.people(["eve", "bob"])
    desk.again()
    assert desk.calls() == {"ask": 1, "shout": 1}
    assert desk.frame()["name"].tolist() == ["eve", "bob", "ann", "cleo", "dan"]
    assert desk.frame()["answer"].notna().all()


def test_an_origin_in_another_table_is_reused(desk: Desk) -> None:
    desk.first()
    desk.vault.create_table("replies")
    desk.vault.create_instance("replies", origin_table="answers")
    desk.calls_file.unlink()
    desk.vault.execute_instance("replies")
    assert desk.calls() == {}
    assert desk.vault.get_dataframe("replies")[0].equals(desk.frame())


def test_reuse_partial_reuses_the_rows_of_a_reverted_run(desk: Desk) -> None:
    broken = desk.code.replace(
        "def shout(text):", "def shout(text):\n    if text.startswith('Who is cleo'): raise OSError('gone')"
    )
    sound = desk.code
    desk.write_code(broken)
    with pytest.raises(OSError, match="gone") as caught:
        desk.first()
    assert any("reuse_partial=True" in note for note in caught.value.__notes__)
    desk.write_code(sound)
    desk.run(reuse_partial=True)
    assert desk.calls() == {"shout": 4}
    assert desk.frame()["loud"].notna().all()


def test_the_process_reports_rows_reused_and_computed(desk: Desk) -> None:
    desk.first()
    desk.people(["ann", "bob", "cleo", "dan", "eve"])
    progress = desk.vault.get_process(desk.again()).progress
    assert (progress["ask"].computed, progress["ask"].reused) == (1, 4)
    assert (progress["shout"].computed, progress["shout"].reused) == (1, 4)


def test_generator_index_with_keep_old_sees_old_rows_and_appends(desk: Desk) -> None:
    desk.write_code(
        desk.code
        + """
def crawl(seen, source):
    for name in source["name"]:
        if name not in set(seen["name"]):
            _called("crawl", name)
            yield name
"""
    )
    index = (
        INDEX.format(key="[name]", keep_old="true")
        .replace("python_function: rows", "python_function: crawl\nreturn_type: generator")
        .replace("arguments: {", 'arguments: {seen: "<<self>>", ')
    )
    desk.vault.create_instance("answers", builders={"answers_index": index})
    desk.run()
    assert desk.calls() == {"crawl": 4}
    desk.people(["ann", "eve", "bob", "fay"])
    desk.again()
    assert desk.calls() == {"crawl": 2}
    assert desk.frame()["name"].tolist() == ["ann", "bob", "cleo", "dan", "eve", "fay"]


def test_a_row_wise_index_is_decided_row_by_row(desk: Desk) -> None:
    desk.first({"ask": ASK.format(prompt="Who is")})
    desk.write_code(desk.code + "\ndef tidy(name):\n    _called('tidy', name)\n    return name.title()\n")
    index = """
builder_type: IndexBuilder
changed_columns: [name]
python_function: tidy
code_module: llm
is_custom: true
return_type: row-wise
primary_key: [name]
arguments: {name: "<<self.name[index]>>"}
"""
    desk.again({"answers_index": index})
    assert desk.calls() == {"tidy": 4, "ask": 4}
    desk.again()
    # The rows are named as they were named by the same function, from other arguments: it runs once more...
    assert desk.calls()["tidy"] == 4
    desk.again()
    # ... and from then on nothing changes any more.
    assert desk.calls() == {}
