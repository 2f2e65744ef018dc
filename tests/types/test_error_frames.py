"""`get_errors` shows every key and every refused result."""

from __future__ import annotations

import pytest
from kinds import builder, new_vault

from tablevault import tv_errors

CODE = """
import datetime
import decimal
import math

KEYS = {keys}
RESULTS = {results}


def keys():
    return KEYS


def refuse(key):
    raise ValueError(key)


def result(key):
    return RESULTS[KEYS.index(key)]
"""
COLLECT = {"on_error": "collect", "max_failures": "'100%'"}
ROW = '{key: "<<self.key[index]>>"}'
KEYS = {
    "text": ('["a", "\\0"]', ["a", "\0"]),
    "number": ("[2**63, 5]", [2**63, 5]),
    "fraction": ("[0.5, math.inf]", [0.5, "Infinity"]),
    "time": ("[datetime.datetime(2026, 1, 1), datetime.datetime(2026, 1, 2)]", ["2026-01-01T00:00:00", "2026-01-02T00:00:00"]),
    "date": ("[datetime.date(2026, 1, 1), datetime.date(2026, 1, 2)]", ["2026-01-01", "2026-01-02"]),
    "duration": ("[datetime.timedelta(seconds=1.5), datetime.timedelta(1)]", ["PT1.5S", "PT86400S"]),
    "decimal": ("[decimal.Decimal('1.50'), decimal.Decimal(2)]", ["1.50", "2.00"]),
    "bytes": ("[b'a', b'b']", ["YQ==", "Yg=="]),
    "list": ("[[1.0, math.nan], [2.0]]", [[1.0, "NaN"], [2.0]]),
    "dict": ("[{'a': 1}, {'a': None}]", [{"a": 1}, {"a": None}]),
}  # fmt: skip


def vault_of(folder, keys, function, **fields):
    """Return a vault whose table `t` has these keys and a column made by the function."""
    vault = new_vault(folder, "t")
    vault.create_code_module("made", text=CODE.format(keys=keys, results=fields.pop("results", "[]")))
    index = builder("keys", ["key"], index=True, primary_key="[key]")
    more = fields.pop("more", {})
    vault.create_instance("t", builders={"t_index": index, "y": builder(function, ["y"], "row-wise", **fields)} | more)
    return vault


@pytest.mark.parametrize("keys", KEYS.values(), ids=list(KEYS))
def test_key_of_any_type_is_shown(tmp_path, keys):
    written, shown = keys
    vault = vault_of(tmp_path, written, "refuse", arguments=ROW, **COLLECT)
    with pytest.warns(tv_errors.TableVaultWarning, match="2 failed rows"):
        vault.execute_instance("t")
    assert [key["key"] for key in vault.get_errors("t")["key"]] == shown


@pytest.mark.parametrize("keys", KEYS.values(), ids=list(KEYS))
def test_key_of_any_type_is_shown_while_the_process_is_paused(tmp_path, keys):
    written, shown = keys
    more = {"z": builder("refuse", ["z"], "row-wise", arguments=ROW)}
    vault = vault_of(tmp_path, written, "refuse", arguments=ROW, more=more, **COLLECT)
    with pytest.raises(ValueError):
        vault.execute_instance("t", process_id="night")
    # Until all rows have failed, the column has the type of those that were computed.
    assert [key["key"] for key in vault.get_errors(process_id="night")["key"]] in (shown, ["1.50", "2"])


RESULTS = {
    "infinity": ("math.inf", "Infinity"),
    "NaN in a list": ("[1, math.nan]", "[1, NaN]"),
    "NaN in a dict": ("{'a': math.nan}", '{"a": NaN}'),
    "lone surrogate": ("'\\ud83d'", '"\\ud83d"'),
    "surrogate as a name": ("{'\\ud83d': 1}", '{"\\ud83d": 1}'),
    "text": ("'text'", "text"),
    "list": ("[1, None]", [1, None]),
    "bytes": ("b'x'", "b'x'"),
}


@pytest.mark.parametrize(("result", "shown"), RESULTS.values(), ids=list(RESULTS))
def test_refused_result_is_shown_as_json_or_as_its_text(tmp_path, result, shown):
    fields = {"arguments": ROW, "dtypes": "{y: Int64}", "results": f"[1, {result}]", **COLLECT}
    vault = vault_of(tmp_path, "['a', 'b']", "result", **fields)
    with pytest.warns(tv_errors.TableVaultWarning, match="1 failed row"):
        vault.execute_instance("t")
    errors = vault.get_errors("t")
    assert errors["result"].tolist() == [shown]
    assert len(vault.get_errors("t", format="arrow")) == len(vault.get_errors("t", format="polars")) == 1


@pytest.mark.parametrize("depth", [100, 600, 3000])
def test_deeply_nested_refused_result_is_shown(tmp_path, depth):
    nested = f"__import__('functools').reduce(lambda inner, _: [inner], range({depth}), 1)"
    fields = {"arguments": ROW, "dtypes": "{y: Int64}", "results": f"[1, {nested}]", **COLLECT}
    vault = vault_of(tmp_path, "['a', 'b']", "result", **fields)
    with pytest.warns(tv_errors.TableVaultWarning, match="1 failed row"):
        vault.execute_instance("t")
    assert len(vault.get_errors("t")) == 1
