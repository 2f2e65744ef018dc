"""Tags.

They name and protect consistent instances, and are valid in place of an id.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pandas as pd
import pytest
from operated import build, column_builder, index_builder

from tablevault import TableVault, TableVaultWarning, tv_errors

FILES = """
import pandas as pd
from pathlib import Path

def rows():
    return pd.DataFrame({"x": [1, 2]})

def write(x, folder, text):
    Path(folder, f"{x}.txt").write_text(f"{text} {x}")
    return f"{x}.txt"
"""


LATER = int(os.environ.get("LATER_EXECUTIONS", "3"))
"""More of them with `make test LATER_EXECUTIONS=10`."""


def written(vault, table, *frames, version="base"):
    """Write frames of one column as instances; return their ids."""
    ids = []
    for values in frames:
        vault.write(table, pd.DataFrame({"x": values}), version=version)
        ids.append(vault.get_dataframe(table, version=version)[1])
    return ids


def of_files(text):
    arguments = f'{{x: "<<self.x[index]>>", folder: ~ARTIFACT_FOLDER~, text: {text}}}'
    return {
        "made_index": index_builder("x", "rows"),
        "file": column_builder("file", "write", arguments, "return_type: row-wise\ndtypes: {file: artifact_string}"),
    }


def executed(vault, text):
    vault.create_instance("made", builders=of_files(text))
    vault.execute_instance("made")
    return vault.get_dataframe("made")[1]


def tagged(vault, table_name=""):
    return {(item.tag, item.table_name): item.instance_id for item in vault.get_tags(table_name)}


@pytest.fixture
def two(vault):
    """A vault with two instances of `stories` and one of `reviews`."""
    written(vault, "stories", [1], [2])
    written(vault, "reviews", [3])
    return vault


def test_tag_of_all_tables_names_their_newest_successful_instances(two):
    stories, reviews = two.get_table_instances("stories")[-1], two.get_table_instances("reviews")[0]
    written(two, "elsewhere", [4], version="v2")
    made = two.create_tag("paper", description="as submitted")
    assert tagged(two) == {("paper", "reviews"): reviews, ("paper", "stories"): stories}
    first = two.get_tags("stories")[0]
    assert (first.description, first.author, first.process_id) == ("as submitted", "ada", made)
    assert first.created_at.tzinfo is not None
    written(two, "stories", [9])
    assert two.read("stories@paper")["x"].tolist() == [2]
    assert two.read("stories@PAPER")["x"].tolist() == [2]
    assert two.read("stories")["x"].tolist() == [9]
    assert two.create_tag("other", version="v2")
    assert [item.table_name for item in two.get_tags() if item.tag == "other"] == ["elsewhere"]
    with pytest.raises(tv_errors.TVArgumentError, match="version 'v3'"):
        two.create_tag("third", version="v3")


def test_instances_are_named_by_address_list_or_mapping(two):
    first, second = two.get_table_instances("stories")
    two.create_tag("one", f"stories({first})")
    two.create_tag("two", ["stories", "reviews@one"] if "reviews" in tagged(two) else ["stories", "reviews"])
    two.create_tag("three", {"stories": "@one"})
    assert tagged(two, "stories") == {
        ("one", "stories"): first,
        ("two", "stories"): second,
        ("three", "stories"): first,
    }
    assert list(tagged(two)) == [("one", "stories"), ("three", "stories"), ("two", "reviews"), ("two", "stories")]


@pytest.mark.parametrize(
    ("tag", "instances", "said"),
    [
        ("", None, "it is empty"),
        ("a b", None, "use ASCII letters"),
        ("a.b", None, "use ASCII letters"),
        ("Newest", None, "Forbidden Tag: Newest"),
        ("temp_x", None, "Forbidden Tag: temp_x"),
        ("base_1_" + "0" * 32, None, "Forbidden Tag: base_1_0"),
        ("x" * 129, None, "at most 128"),
        ("paper", "storys", "did you mean 'stories'"),
        ("paper", "stories(v2)", "v2"),
        ("paper", "stories@no", "has no tag 'no'"),
        ("paper", "stories(TEMP_base)", "temporary"),
        ("paper", [], "nothing to tag"),
    ],
)
def test_create_tag_refuses_names_and_instances_that_cannot_be(two, tag, instances, said):
    two.create_instance("stories", external_edit=True)
    with pytest.raises(tv_errors.TVArgumentError, match=said):
        two.create_tag(tag, instances)
    assert two.get_tags() == []


def test_one_refused_instance_refuses_the_whole_tag(two):
    first, second = two.get_table_instances("stories")
    with pytest.raises(tv_errors.TVArgumentError, match="only one instance per table"):
        two.create_tag("paper", ["reviews", f"stories({first})", "stories"])
    two.create_tag("paper", f"stories({first})")
    with pytest.raises(tv_errors.TVArgumentError, match=f"names instance '{first}', not '{second}'; move=True"):
        two.create_tag("paper", ["reviews", "stories"])
    assert tagged(two) == {("paper", "stories"): first}


def test_moved_tag_is_recorded_with_both_ends(two):
    first, second = two.get_table_instances("stories")
    two.create_tag("paper", f"stories({first})", description="old")
    moving = two.create_tag("Paper", "stories", move=True)
    assert [(item.tag, item.instance_id, item.description) for item in two.get_tags()] == [("Paper", second, "")]
    arguments = two.get_process(moving).arguments
    assert arguments["tagged"] == {"stories": second}
    assert arguments["moved_from"] == {"stories": first}
    assert first in Path(two.db_dir, "metadata", "logs.txt").read_text().splitlines()[-1]


def test_tag_that_is_there_already_is_a_no_op_with_a_warning(two):
    two.create_tag("paper", "stories")
    before = two.get_tags()
    with pytest.warns(TableVaultWarning, match="already names these instances"):
        two.create_tag("PAPER", "stories", description="new")
    assert two.get_tags() == before
    two.create_tag("paper", ["stories", "reviews"])
    assert len(two.get_tags()) == 2


def test_tagged_instances_and_tables_cannot_be_deleted(two):
    first, _ = two.get_table_instances("stories")
    two.create_tag("paper", f"stories({first})")
    two.create_tag("talk", f"stories({first})")
    said = r"has the tags 'paper', 'talk', which protect it; delete_tag\('paper'\)"
    for instance_id in (first, "@paper"):
        with pytest.raises(tv_errors.TVArgumentError, match=said):
            two.delete_instance(instance_id, "stories")
    with pytest.raises(tv_errors.TVArgumentError, match=f"Table 'stories' {said}"):
        two.delete_table("stories")
    two.delete_tag("talk")
    two.delete_tag("paper", "stories")
    two.delete_instance(first, "stories")
    two.delete_table("stories")


def test_delete_tag_deletes_it_of_the_named_tables_or_of_all(two):
    two.create_tag("paper")
    two.delete_tag("PAPER", ["reviews"])
    assert list(tagged(two)) == [("paper", "stories")]
    for names, said in (("reviews", "has no tag 'paper'"), ("storys", "no table 'storys'"), ([], "is empty")):
        with pytest.raises(tv_errors.TVArgumentError, match=said):
            two.delete_tag("paper", names)
    two.delete_tag("paper")
    assert two.get_tags() == []
    two.create_tag("paper", "stories")
    with pytest.raises(tv_errors.TVArgumentError, match="no tag 'papr'; did you mean 'paper'"):
        two.delete_tag("papr")


def test_tags_follow_a_renamed_table(two):
    two.create_tag("paper", "stories")
    two.rename_table("tales", "stories")
    assert list(tagged(two)) == [("paper", "tales")]
    assert two.read("tales@paper")["x"].tolist() == [2]


def test_tag_stands_for_the_id_in_all_methods(vault):
    build(vault, index_builder("x", "rows"), FILES)
    vault.delete_instance("TEMP_base", "made")
    first = executed(vault, "first")
    vault.create_tag("paper", "made")
    executed(vault, "second")
    assert vault.get_dataframe("made", "@paper")[1] == first
    assert vault.get_lineage("made", "@paper").instance_id == first
    assert vault.get_descriptions("@paper", "made")["instance"] == first
    assert len(vault.get_errors("made", "@paper")) == 0
    assert first in vault.get_artifact_folder("made", "@paper")
    assert vault.get_builders_list("made", "@paper") == ["file", "made_index"]
    assert "first" in vault.get_builder_str("made", "file", "@paper")
    assert first in str(vault.get_file_tree("@paper", "made").label)
    vault.create_instance("made", "v2", origin_id="@paper")
    assert "first" in vault.get_builder_str("made", "file", version="v2")
    vault.write("written", pd.DataFrame({"x": [1]}), dependencies=[("made", "@paper")])
    assert [step.instance_id for step in vault.get_lineage("written").columns[0].inputs] == [first]
    with pytest.warns(TableVaultWarning, match="no failed rows"):
        vault.retry_failed("made", "@paper")
    with pytest.raises(tv_errors.TVArgumentError, match="no tag 'papr'; did you mean 'paper'"):
        vault.get_dataframe("made", "@papr")


def test_reference_to_a_tag_is_pinned_when_the_process_starts(two):
    first, second = two.get_table_instances("stories")
    two.create_tag("paper", f"stories({first})")
    code = "import pandas as pd\ndef rows(xs, folder):\n    open(folder + '/go', 'w').close()\n    return pd.DataFrame({'x': [xs]})\n"
    go = Path(two.db_dir).parent / "missing"
    arguments = f'{{xs: "<<stories(@paper).x[x::RANGE:9]>>", folder: "{go}"}}'.replace("RANGE", "0")
    build(two, index_builder("x", "rows", arguments), code, "reading")
    with pytest.raises(FileNotFoundError):
        two.execute_instance("reading", process_id="mine")
    two.create_tag("paper", f"stories({second})", move=True)
    go.mkdir()
    two.execute_instance("reading", process_id="mine")
    assert two.read("reading")["x"].tolist() == [1]
    two.create_instance("reading", copy=True)
    two.execute_instance("reading")
    assert two.read("reading")["x"].tolist() == [2]


def test_reference_to_a_missing_tag_is_marked(two):
    two.create_tag("paper", "stories")
    build(two, index_builder("x", "rows", '{xs: "<<stories(@papr).x>>"}'), "def rows(xs):\n    return xs\n", "reading")
    with pytest.raises(tv_errors.TableReferenceError, match=r"did you mean 'paper'[^^]*\^+"):
        two.execute_instance("reading")


def test_tagging_does_not_wait_for_a_paused_execution(vault):
    build(vault, index_builder("x", "rows"), "def rows():\n    raise OSError('no network')\n")
    written(vault, "made", [1])
    with pytest.raises(OSError, match="no network"):
        vault.execute_instance("made", process_id="mine")
    vault.create_tag("paper", "made")
    vault.delete_tag("paper")
    assert list(vault.get_active_processes()) == ["mine"]


def test_tags_are_refused_while_side_effects_are_executed(vault):
    vault.create_table("sent", has_side_effects=True)
    written(vault, "sent", [1])
    vault.create_code_module("made", text="def rows():\n    raise OSError('no network')\n")
    vault.create_instance("sent", builders={"sent_index": index_builder("x", "rows")})
    with pytest.raises(OSError, match="no network"):
        vault.execute_instance("sent", process_id="mine")
    with pytest.raises(tv_errors.TVLockError, match="mine"):
        vault.create_tag("paper", "sent")


@pytest.mark.parametrize("mask", [0o000, 0o002, 0o022, 0o027, 0o077])
def test_tagged_instance_keeps_its_artifacts_until_the_tag_goes(vault, path, mask):
    before = os.umask(mask)
    try:
        build(vault, index_builder("x", "rows"), FILES)
        vault.delete_instance("TEMP_base", "made")
        first = executed(vault, "first")
        vault.create_tag("paper", "made")
        for number in range(LATER):
            executed(vault, f"later {number}")
        cells = vault.get_dataframe("made", "@paper")[0]["file"]
        assert [Path(cell).read_text() for cell in cells] == ["first 1", "first 2"]
        assert vault.verify().ok
        vault.delete_tag("paper")
    finally:
        os.umask(before)
    folder = path / "made" / first
    assert not (folder / "artifacts").exists()
    assert stat.S_IMODE(folder.stat().st_mode) == 0o555 & ~mask
    assert vault.verify().ok
    with pytest.raises(tv_errors.TVArtifactError):
        vault.get_dataframe("made", first)
    with pytest.warns(TableVaultWarning, match="artifacts of instance .* no longer exist"):
        vault.create_tag("late", f"made({first})")
    assert vault.read("made@late", columns=["x"])["x"].tolist() == [1, 2]


def test_moved_tag_lets_superseded_artifacts_go(vault, path):
    build(vault, index_builder("x", "rows"), FILES)
    vault.delete_instance("TEMP_base", "made")
    first = executed(vault, "first")
    vault.create_tag("paper", "made")
    vault.create_tag("talk", "made")
    executed(vault, "second")
    vault.create_tag("paper", "made", move=True)
    assert (path / "made" / first / "artifacts" / "1.txt").exists()
    vault.create_tag("talk", "made", move=True)
    assert not (path / "made" / first / "artifacts").exists()


def test_archives_carry_tags(two, path):
    from tablevault import compress_vault, decompress_vault, delete_vault

    two.create_tag("paper")
    before = two.get_tags()
    archive = compress_vault(path)
    delete_vault(path)
    decompress_vault(archive)
    assert TableVault(path).get_tags() == before
