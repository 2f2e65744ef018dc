"""Tables, order and obstacles of `refresh`."""

from __future__ import annotations

import re
import warnings
from pathlib import Path

import pytest
from lab import Lab, builder, column, copied, from_file, shouted, words

from tablevault import TableVaultWarning, TVArgumentError, TVBuilderError, TVLockError, TVProcessError


@pytest.fixture
def lab(tmp_path: Path) -> Lab:
    return Lab(tmp_path)


@pytest.fixture
def chain(lab: Lab) -> Lab:
    """A fresh chain of tables.

    The words of `a` are read by `b`, whose words are read by `c`.
    """
    lab.table("a", words("a", "x", "y"))
    lab.table("b", {**copied("b", "a"), **shouted()})
    lab.table("c", {**copied("c", "b"), **shouted()})
    assert set(lab.states().values()) == {"fresh"}
    _ = lab.calls
    return lab


def instances(lab: Lab) -> dict[str, int]:
    return {name: len(lab.vault.get_table_instances(name)) for name in lab.vault.get_tables()}


def temporary(lab: Lab) -> list[str]:
    return [
        name
        for name in lab.vault.get_tables()
        if any(one.startswith("TEMP_") for one in lab.vault.get_table_instances(name, include_temp=True))
    ]


def children(lab: Lab, process_id: str) -> list[tuple[str, str]]:
    """Return the ids of the children of a process with their statuses, oldest first."""
    found = [info for info in lab.vault.get_history() if info.parent_id == process_id]
    return [(info.process_id, info.status) for info in reversed(found)]


# --- what is executed -------------------------------------------------------------------------------------------------


def test_fresh_tables_are_skipped(chain: Lab) -> None:
    before = instances(chain)
    chain.vault.refresh(process_id="nightly")
    assert chain.calls == []
    assert instances(chain) == before
    assert children(chain, "nightly") == []
    assert chain.vault.get_process("nightly").status == "succeeded"


def test_steps_run_in_the_order_of_their_inputs(chain: Lab) -> None:
    chain.edit("a", words("a", "x", "y", "z"))
    chain.vault.refresh(process_id="nightly")
    assert children(chain, "nightly") == [
        ("nightly.a", "succeeded"),
        ("nightly.b.copy", "succeeded"),
        ("nightly.b", "succeeded"),
        ("nightly.c.copy", "succeeded"),
        ("nightly.c", "succeeded"),
    ]
    assert sorted(chain.calls) == ["shout", "shout"]
    assert set(chain.states().values()) == {"fresh"}
    assert chain.vault.get_dataframe("c")[0]["loud"].tolist() == ["X", "Y", "Z"]
    info = chain.vault.get_process("nightly")
    assert (info.operation, info.locks) == ("refresh", ())
    assert info.progress["c/loud"].computed == 1
    assert info.progress["c/loud"].reused == 2
    assert list(info.progress) == ["a/a_index", "b/b_index", "b/loud", "c/c_index", "c/loud"]


def test_second_refresh_calls_only_indexes_that_read_outside(lab: Lab, tmp_path: Path) -> None:
    lab.table("read", {**from_file("read", tmp_path / "words.json", "x", "y"), **shouted()}, execute=False)
    lab.table("b", {**copied("b", "read"), **shouted()}, execute=False)
    lab.vault.refresh()
    assert instances(lab) == {"read": 1, "b": 1}
    assert lab.calls == ["from_file", "shout", "shout", "shout", "shout"]
    for _ in range(2):
        lab.vault.refresh()
        assert lab.calls == ["from_file"]
        assert instances(lab) == {"read": 1, "b": 1}
        assert temporary(lab) == []
        assert lab.states() == {"read": "unknown", "b": "unknown"}


def test_upstream_that_recomputes_to_equal_values_stops_there(lab: Lab) -> None:
    lab.table("a", {**words("a", "x", "y"), **shouted()})
    loud = "table_generation.create_data_table_from_table"
    lab.table("b", {"b_index": builder("IndexBuilder", ["word"], loud, {"df": "<<a.{loud}>>"}), **shouted("louder")})
    lab.edit_code(("return word.upper()", "return str(word).upper()"))
    lab.vault.refresh("a")
    assert lab.calls[-2:] == ["shout", "shout"]
    # The code of `b` has changed, too: only its own reasons count.
    lab.vault.refresh(process_id="nightly")
    assert instances(lab) == {"a": 2, "b": 2}
    lab.table("c", copied("c", "a"))
    lab.edit_code(("return word.upper()", "return ''.join(word).upper()"))
    lab.vault.refresh(["a", "c"], process_id="again")
    assert [name for name, _ in children(lab, "again")] == ["again.a.copy", "again.a"]
    assert instances(lab) == {"a": 3, "b": 2, "c": 1}
    assert lab.states("a", "c") == {"a": "fresh", "c": "fresh"}


def test_table_downstream_of_equal_values_is_looked_at_and_confirmed(chain: Lab) -> None:
    chain.edit("a", words("a", "x", "y", dtypes={"word": "string"}))
    assert chain.actions() == {"a": "execute", "b": "look", "c": "look"}
    chain.vault.refresh(process_id="nightly")
    assert children(chain, "nightly") == [("nightly.a", "succeeded")]
    assert chain.calls == []
    assert instances(chain) == {"a": 2, "b": 1, "c": 1}
    assert set(chain.states().values()) == {"fresh"}
    assert temporary(chain) == []


def test_code_that_a_step_edits_counts_for_the_steps_after_it(lab: Lab, tmp_path: Path) -> None:
    lab.table("a", words("a", "x"))
    lab.table("b", {**copied("b", "a"), **shouted()})
    module = tmp_path / "vault" / "code_functions" / "lab.py"
    lab.edit_code(("def picky", f"def edit(word):\n    called('edit')\n    {_edit_of(module)}\n\ndef picky"))
    lab.table("c", {**copied("c", "b"), **column("mark", "lab.shout", {"word": "<<self.word[index]>>"})})
    lab.table("d", {**copied("d", "c"), **shouted()})
    assert set(lab.states().values()) == {"fresh"}
    lab.edit("a", {**words("a", "x"), **shouted()})
    lab.edit("c", column("mark", "lab.edit", {"word": "<<self.word[index]>>"}))
    _ = lab.calls
    lab.vault.refresh()
    # b is looked at before c is executed, and d after it.
    assert lab.calls == ["shout", "edit", "shout"]
    assert lab.vault.get_dataframe("d")[0]["loud"].tolist() == ["X!"]


def _edit_of(module: Path) -> str:
    """Return a statement that changes what `shout` returns."""
    return f"""p = Path({str(module)!r}); p.write_text(p.read_text().replace('word.upper()', 'word.upper() + "!"'))"""


def test_only_named_tables_and_those_that_they_read(chain: Lab) -> None:
    chain.edit("a", words("a", "x", "z"))
    chain.vault.refresh("b")
    assert instances(chain) == {"a": 2, "b": 2, "c": 1}
    assert chain.states()["c"] == "stale"


def test_without_upstream_a_table_is_read_as_it_is(chain: Lab) -> None:
    chain.edit("a", words("a", "x", "z"))
    chain.vault.refresh("b", upstream=False)
    assert instances(chain) == {"a": 1, "b": 1, "c": 1}
    assert temporary(chain) == ["a"]


def test_downstream_also_refreshes_the_tables_that_read_the_named_ones(chain: Lab) -> None:
    chain.edit("a", words("a", "x", "z"))
    chain.vault.refresh(["a"], downstream=True)
    assert instances(chain) == {"a": 2, "b": 2, "c": 2}


def test_table_in_another_version_has_it_in_its_ids(lab: Lab) -> None:
    lab.table("a", words("a", "x"), version="v2")
    lab.table("b", {**copied("b", "a(v2)"), **shouted()})
    lab.edit("a", words("a", "x", "y"), version="v2")
    lab.vault.refresh("b", process_id="nightly")
    assert [name for name, _ in children(lab, "nightly")] == ["nightly.a.v2", "nightly.b.copy", "nightly.b"]
    assert list(lab.vault.get_process("nightly").progress) == ["a(v2)/a_index", "b/b_index", "b/loud"]


def test_external_table_is_read_as_it_is(lab: Lab) -> None:
    import pandas as pd

    lab.vault.write("a", pd.DataFrame({"word": ["x"]}))
    lab.table("b", {**copied("b", "a"), **shouted()})
    lab.vault.write("a", pd.DataFrame({"word": ["x", "y"]}))
    lab.vault.refresh()
    assert instances(lab) == {"a": 2, "b": 2}


# --- which temporary instance -----------------------------------------------------------------------------------------


def test_unedited_temporary_instance_is_used(chain: Lab) -> None:
    chain.vault.create_instance("b", copy=True)
    chain.edit("a", words("a", "x", "z"))
    chain.vault.refresh(process_id="nightly")
    assert "nightly.b.copy" not in dict(children(chain, "nightly"))
    assert instances(chain) == {"a": 2, "b": 2, "c": 2}


def test_unedited_copy_of_an_older_instance_is_replaced(chain: Lab) -> None:
    first = chain.vault.get_table_instances("b")[0]
    chain.again("b", shouted())
    chain.vault.create_instance("b", origin_id=first)
    chain.edit("a", words("a", "x", "z"))
    chain.vault.refresh(process_id="nightly")
    assert [name for name, _ in children(chain, "nightly")][1:4] == [
        "nightly.b.delete",
        "nightly.b.copy",
        "nightly.b",
    ]
    assert chain.states()["b"] == "fresh"


def test_temporary_instance_for_external_edits_is_never_executed(chain: Lab) -> None:
    chain.edit("a", words("a", "x", "z"))
    chain.vault.create_instance("b", external_edit=True)
    with pytest.raises(TVArgumentError, match="write_instance"):
        chain.vault.refresh()
    assert instances(chain) == {"a": 1, "b": 1, "c": 1}


# --- refused before any function runs ---------------------------------------------------------------------------------


def test_cycle_is_refused(lab: Lab) -> None:
    lab.table("a", words("a", "x"))
    lab.table("b", copied("b", "a"))
    lab.edit("a", copied("a", "b"))
    lab.table("other", {**words("other", "x"), **shouted()}, execute=False)
    with pytest.raises(TVBuilderError, match="cycle"):
        lab.vault.refresh()
    assert lab.calls == []


def test_paused_process_in_the_way_is_refused(chain: Lab) -> None:
    chain.edit("c", column("loud", "lab.picky", {"word": "<<self.word[index]>>"}))
    chain.edit_code(('if word == "bad"', "if True"))
    with pytest.raises(ValueError, match="x"):
        chain.vault.execute_instance("c", process_id="night")
    chain.edit("b", shouted("louder"))
    _ = chain.calls
    with pytest.raises(TVLockError, match="'night'"):
        chain.vault.refresh()
    assert chain.calls == []


def test_table_without_builders_is_refused(lab: Lab) -> None:
    lab.table("b", {**words("b", "x"), **shouted()}, execute=False)
    lab.vault.create_table("a")
    with pytest.raises(TVArgumentError, match="Table 'a' has no instance"):
        lab.vault.refresh(["a", "b"])
    assert lab.calls == []


def test_wrong_builder_of_a_later_step_is_refused(chain: Lab) -> None:
    chain.edit("a", {**words("a", "x", "z"), **shouted()})
    chain.edit("c", column("loud", "lab.missing", {"word": "<<self.word[index]>>"}))
    with pytest.raises(TVBuilderError, match="missing"):
        chain.vault.refresh()
    assert chain.calls == []


def test_side_effects_run_only_if_named(lab: Lab) -> None:
    lab.table("sent", {**words("sent", "x"), **shouted()}, execute=False, has_side_effects=True)
    lab.table("b", words("b", "x"), execute=False)
    lab.vault.refresh()
    assert instances(lab) == {"sent": 0, "b": 1}
    lab.vault.refresh("sent")
    assert instances(lab) == {"sent": 1, "b": 1}


def test_stale_input_with_side_effects_is_refused_unless_named(lab: Lab) -> None:
    lab.table("sent", words("sent", "x"), has_side_effects=True)
    lab.table("b", {**copied("b", "sent"), **shouted()})
    lab.edit("sent", words("sent", "x", "y"))
    lab.edit("b", shouted("louder"))
    _ = lab.calls
    with pytest.raises(TVArgumentError, match="side effects"):
        lab.vault.refresh("b")
    assert lab.calls == []
    lab.vault.refresh("b", upstream=False)
    assert instances(lab) == {"sent": 1, "b": 2}
    lab.vault.refresh(["b", "sent"])
    assert instances(lab) == {"sent": 2, "b": 3}


def test_id_that_is_too_long_for_its_children_is_refused(chain: Lab) -> None:
    with pytest.raises(TVArgumentError, match="too long"):
        chain.vault.refresh(process_id="n" * 195)


def test_running_process_in_the_way_is_an_error_after_the_lock_timeout(chain: Lab) -> None:
    from tablevault import TableVault

    chain.edit("a", column("loud", "lab.waiting", {"word": "<<self.word[index]>>", "vault": str(chain.folder)}))
    code = (
        "\ndef waiting(word, vault):\n    from tablevault import TableVault, TVLockError\n"
        "    try:\n        TableVault(vault + '/vault', lock_timeout=0.01).refresh('a')\n"
        "    except TVLockError as error:\n        return str(error)\n"
    )
    chain.edit_code(("def shout(word)", code.lstrip() + "\ndef shout(word)"))
    chain.vault.execute_instance("a", process_id="busy")
    assert isinstance(chain.vault, TableVault)
    assert "'busy'" in chain.vault.get_dataframe("a")[0]["loud"][0]


# --- policies ---------------------------------------------------------------------------------------------------------


def test_policies_for_a_table_come_before_those_for_a_builder(chain: Lab) -> None:
    picky = column("loud", "lab.picky", {"word": "<<self.word[index]>>"})
    chain.edit("a", words("a", "good", "bad"))
    chain.edit("b", picky)
    chain.edit("c", picky)
    collects = {"on_error": "collect", "max_failures": "100%"}
    with pytest.warns(TableVaultWarning, match="failed row") as told:
        chain.vault.refresh(
            policies={"*": {"max_concurrency": 2}, "loud": collects, "c.loud": {"max_failures": 5}},
            process_id="nightly",
        )
    assert sorted(str(one.message)[:27] for one in told) == ["1 failed row in 'loud' (1 V"] * 2
    policies = {name: chain.vault.get_process(f"nightly.{name}").arguments["policies"] for name in "bc"}
    assert policies == {
        "b": {"*": {"max_concurrency": 2}, "loud": collects},
        "c": {"*": {"max_concurrency": 2}, "loud": {**collects, "max_failures": 5}},
    }


@pytest.mark.parametrize(
    ("policies", "said"),
    [
        ({"lod": {"retry": 1}}, "'lod'.*loud"),
        ({"a.loud": {"retry": 1}}, "'a.loud'"),
        ({"b.loud": {"retri": 1}}, "retri"),
        ({"b.b_index": {"on_error": "collect"}}, "collect"),
    ],
)
def test_policies_that_match_nothing_are_refused(chain: Lab, policies: dict, said: str) -> None:
    chain.edit("a", words("a", "x", "z"))
    with pytest.raises(TVArgumentError, match=said):
        chain.vault.refresh(policies=policies)
    assert instances(chain)["a"] == 1


# --- failed rows ------------------------------------------------------------------------------------------------------

COLLECTS = {"on_error": "collect", "max_failures": "100%"}


def test_failed_rows_are_told_once_at_the_end_and_listed_by_table(lab: Lab) -> None:
    picky = column("picked", "lab.picky", {"word": "<<self.word[index]>>"}, **COLLECTS)
    lab.table("a", {**words("a", "good", "bad"), **picky}, execute=False)
    lab.table("b", {**copied("b", "a"), **picky}, execute=False)
    with pytest.warns(TableVaultWarning) as told:
        lab.vault.refresh(process_id="nightly")
    assert [re.sub(r"see.*", "", str(one.message)) for one in told] == [
        "1 failed row in 'picked' (1 ValueError); ",
        "1 failed row in 'picked' (1 ValueError); ",
    ]
    errors = lab.vault.get_errors(process_id="nightly")
    assert list(errors.columns)[:3] == ["table", "builder", "index"]
    assert errors[["table", "builder", "index", "message"]].to_numpy().tolist() == [
        ["a", "picked", 1, "bad"],
        ["b", "picked", 1, "bad"],
    ]
    assert lab.vault.get_process("nightly").progress["b/picked"].failed == 1
    # Each refresh tries them again, and makes no instance if they fail again.
    with pytest.warns(TableVaultWarning, match="1 failed row"):
        lab.vault.refresh(process_id="again")
    assert instances(lab) == {"a": 1, "b": 1}
    assert lab.vault.get_errors(process_id="again").equals(errors)


def test_refresh_without_failed_rows_warns_of_nothing(chain: Lab) -> None:
    chain.edit("a", words("a", "x", "z"))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        chain.vault.refresh(process_id="nightly")
    assert len(chain.vault.get_errors(process_id="nightly")) == 0


# --- the process ------------------------------------------------------------------------------------------------------


def test_other_arguments_for_the_same_id_are_refused(chain: Lab) -> None:
    chain.vault.refresh(process_id="nightly")
    with pytest.raises(TVProcessError, match="table_names"):
        chain.vault.refresh(["a"], process_id="nightly")
    with pytest.warns(TableVaultWarning, match="already succeeded"):
        chain.vault.refresh(process_id="nightly")


@pytest.mark.slow
def test_background_worker_runs_all_steps(chain: Lab) -> None:
    chain.edit("a", words("a", "x", "z"))
    chain.vault.refresh(background=True, process_id="nightly")
    info = chain.vault.wait_process("nightly", timeout=120)
    assert info.progress["c/loud"].done
    assert instances(chain) == {"a": 2, "b": 2, "c": 2}
    assert {one.owner.pid for one in chain.vault.get_history() if one.parent_id == "nightly"} == {info.owner.pid}


def test_argument_errors_of_a_background_refresh_raise_in_the_call(chain: Lab) -> None:
    with pytest.raises(TVArgumentError, match="nothing"):
        chain.vault.refresh("nothing", background=True)


def test_children_of_a_refresh_without_an_id_are_named_after_it(chain: Lab) -> None:
    chain.edit("a", words("a", "x", "z"))
    process_id = chain.vault.refresh()
    assert children(chain, process_id)[0] == (f"{process_id}.a", "succeeded")


def test_ids_of_children_that_are_taken_get_a_number(chain: Lab) -> None:
    for name in ("nightly.a", "nightly.b.copy"):
        chain.vault.create_code_module("other", text=f"x = '{name}'", process_id=name)
    chain.edit("a", words("a", "x", "z"))
    chain.vault.refresh(process_id="nightly")
    assert [name for name, _ in children(chain, "nightly")][:3] == ["nightly.a.2", "nightly.b.copy.2", "nightly.b"]


def test_index_builder_of_a_stale_table_reads_outside_and_runs(lab: Lab, tmp_path: Path) -> None:
    path = tmp_path / "words.json"
    lab.table("a", {**from_file("a", path, "x"), **shouted()})
    lab.table("b", {"b_index": builder("IndexBuilder", ["n"], "lab.count", {"frame": "<<a>>"})})
    _ = lab.calls
    lab.vault.refresh()
    # Both IndexBuilders are functions of the user's: only running them can tell.
    assert lab.calls == ["from_file", "count"]
    assert instances(lab) == {"a": 1, "b": 1}
