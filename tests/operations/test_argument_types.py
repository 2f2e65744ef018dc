"""Arguments of a wrong type in every public method.

An error names argument and type before anything happens.
"""

from __future__ import annotations

import inspect
import re
from enum import StrEnum
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import tablevault
from tablevault import TableVault, tv_errors

FUNCTIONS = ["compress_vault", "decompress_vault", "delete_vault", "import_legacy_vault", "to_numpy"]
METHODS = [
    "__init__",
    *sorted(name for name, value in vars(TableVault).items() if not name.startswith("_") and callable(value)),
]

OBJECTS = {
    "None": None,
    "a whole number": 7,
    "a number": 2.5,
    "a flag": True,
    "bytes": b"x",
    "text": "x",
    "a path": Path("x"),
    "a list": ["x", len],
    "a tuple": ("x",),
    "a mapping": {"x": len},
    "a mapping with odd keys": {3: "x"},
    "a function": len,
    "a class": str,
    "an object": object(),
    "a frame": pd.DataFrame({"x": [1]}),
    "an array": np.array([[1.5]]),
    "missing": pd.NA,
    "a not-a-number": float("nan"),
}
RIGHT = {
    "str": {"text"},
    "str | None": {"text", "None"},
    "str | Path": {"text", "a path"},
    "bool": {"a flag"},
    "int": {"a whole number"},
    "int | None": {"a whole number", "None"},
    "float": {"a whole number", "a number", "a not-a-number"},
    "float | None": {"a whole number", "a number", "a not-a-number", "None"},
    "datetime | str | None": {"text", "None"},
    "Sequence[str]": {"a tuple"},
    "Sequence[str] | None": {"a tuple", "None"},
    "Sequence[str] | str | None": {"a tuple", "text", "None"},
    "Sequence[str] | str": {"a tuple", "text"},
    "str | Sequence[str] | Mapping[str, str] | None": {"text", "a tuple", "None"},
    "Sequence[Any] | Mapping[str, Any] | None": {"a list", "a tuple", "an array", "a mapping", "None"},
    "Mapping[str, Any] | None": {"a mapping", "None"},
    "Sequence[tuple[str, str]] | None": {"None"},
    "Mapping[str, str] | None": {"None"},
    "Sequence[str] | Mapping[str, str] | None": {"a tuple", "None"},
    "Literal['pandas', 'arrow', 'polars']": {"text"},
    "Literal['polars', 'arrow', 'duckdb']": {"text"},
    "Literal['null', 'drop', 'raise']": {"text"},
    "Mapping[str, Mapping[str, Any]] | None": {"None"},
    "Mapping[str, float] | None": {"None"},
    "timedelta | str | None": {"text", "None"},
    "GcPlan | None": {"None"},
}
"""For each annotation the objects above that are of its type."""


def parameters_of(function):
    for name, parameter in inspect.signature(function).parameters.items():
        if name != "self" and parameter.annotation != "Any":
            yield name, parameter.annotation.replace('"', "'")


def cases():
    for name in METHODS:
        for parameter, annotation in parameters_of(getattr(TableVault, name)):
            yield pytest.param(name, parameter, annotation, id=f"{name}-{parameter}")
    for name in FUNCTIONS:
        for parameter, annotation in parameters_of(getattr(tablevault, name)):
            yield pytest.param(name, parameter, annotation, id=f"{name}-{parameter}")


@pytest.fixture(scope="module")
def vault(tmp_path_factory):
    return TableVault(tmp_path_factory.mktemp("arguments") / "vault", author="ada", create=True)


def given(function, parameter, value):
    """Return arguments with a wrong one.

    Other required arguments are texts, or `None` where text is not their type.
    """
    needed = {
        name: "x" if item.annotation == "Any" or "text" in RIGHT[item.annotation.replace('"', "'")] else None
        for name, item in inspect.signature(function).parameters.items()
        if item.default is inspect.Parameter.empty and name != "self"
    }
    return {**needed, parameter: value}


@pytest.mark.parametrize(("name", "parameter", "annotation"), list(cases()))
def test_argument_of_a_wrong_type_is_refused_by_its_name(name, parameter, annotation, vault, tmp_path):
    function = getattr(tablevault, name) if name in FUNCTIONS else getattr(vault, name)
    if name == "__init__":
        function = TableVault
    wrong = [value for kind, value in OBJECTS.items() if kind not in RIGHT[annotation]]
    for value in wrong:
        with pytest.raises(tv_errors.TVArgumentError) as caught:
            function(**given(function, parameter, value))
        called = {"__init__": "TableVault", "make_table": "create_table"}.get(name, name)
        assert re.match(rf"(a key of )?{parameter}(\[.+\])* of {called} must be .+, not .+\.$", str(caught.value))


def test_only_frames_and_keys_are_of_any_type():
    untyped = {
        (name, parameter)
        for name in METHODS
        for parameter, item in inspect.signature(getattr(TableVault, name)).parameters.items()
        if item.annotation == "Any"
    }
    assert untyped <= {("write_instance", "table_df"), ("write", "frame"), ("trace_cell", "row")}


@pytest.mark.parametrize(
    ("arguments", "place"),
    [
        ({"builders": ["t_index", 7]}, r"builders\[1\] of create_instance must be text, not int"),
        ({"builders": {"t_index": 7}}, r"builders\['t_index'\] of create_instance must be text, not int"),
        ({"builders": {7: "x"}}, "a key of builders of create_instance must be text, not int"),
    ],
)
def test_wrong_item_is_told_by_its_place(arguments, place, vault):
    with pytest.raises(tv_errors.TVArgumentError, match=place):
        vault.create_instance("t", **arguments)


def test_function_in_the_place_of_text_is_told_how_to_hand_over_code(vault):
    def shout(text):
        return text.upper()

    for call in (
        lambda: vault.create_code_module("m", text=shout),
        lambda: vault.create_builder_file("t", "b", text=shout),
        lambda: vault.create_instance("t", builders={"t_index": shout}),
    ):
        with pytest.raises(tv_errors.TVArgumentError, match=r"the function shout.*inspect\.getsource\(shout\)"):
            call()
    with pytest.raises(tv_errors.TVArgumentError, match="not None. Leave it out to take the default"):
        vault.create_table("t", process_id=None)


def test_values_that_stand_for_plain_ones_are_taken(vault):
    class Name(StrEnum):
        TABLE = "of_an_enum"

    assert vault.create_table(Name.TABLE, np.bool_(True), process_id=np.str_("made")) == "made"
    assert vault.get_process("made").arguments["table_name"] == "of_an_enum"
    assert len(vault.get_history(limit=np.int64(1))) == 1


IMPOSSIBLE_PATHS = {
    "null character": ("a\0b", "contains a null character. Correct it."),
    "long name": ("x" * 300, "has 300 characters, which is too long. Correct it."),
    "long path": ("x/" * 2500 + "x", "has 5,001 characters, which is too long. Correct it."),
    "lone surrogate": ("a\udcff", r"contains '\udcff', which is not text in UTF-8. Correct it."),
}


@pytest.mark.parametrize("kind", IMPOSSIBLE_PATHS)
@pytest.mark.parametrize(
    ("name", "parameter"),
    [
        (case.values[0], case.values[1])
        for case in cases()
        if case.values[2] == "str | Path" and case.values[0] in METHODS
    ],
)
def test_path_that_no_file_has_is_refused(name, parameter, kind, vault):
    path, reason = IMPOSSIBLE_PATHS[kind]
    function = TableVault if name == "__init__" else getattr(vault, name)
    for text in (path, Path(path)):
        with pytest.raises(tv_errors.TVArgumentError) as caught:
            function(**given(getattr(TableVault, name), parameter, text))
        assert f"{parameter} of " in str(caught.value)
        assert str(caught.value).endswith(reason)


def test_limits_beyond_all_rows_are_no_limits(vault):
    vault.write("few", pd.DataFrame({"x": [1, 2]}))
    assert len(vault.get_history(limit=10**30)) >= 1
    assert "rows 0 to 1 of 2" in repr(vault.show("few", rows=10**30))
    assert "no rows of 2" in repr(vault.show("few", offset=10**30))
    assert len(vault.read("few", rows=10**30)) == 2
    assert len(vault.query("FROM few", rows=10**30, timeout=10**30)[0]) == 2


def test_wrong_number_of_arguments_is_pythons_own_error(vault):
    with pytest.raises(TypeError, match="unexpected keyword argument 'table'"):
        vault.create_table(table="x")


def test_error_about_an_argument_ends_at_the_callers_frame(vault):
    with pytest.raises(tv_errors.TVArgumentError) as caught:
        vault.get_dataframe("missing")
    assert len(caught.traceback) == 2
    assert caught.value.__cause__ is None
    assert caught.value.__suppress_context__
