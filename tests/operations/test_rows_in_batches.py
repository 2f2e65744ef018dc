"""Preparing calls for many rows at once has no visible effect."""

import sys
from types import ModuleType

import pandas as pd
import pytest

from tablevault import TableVault
from tablevault.errors import TableReferenceError

ROWS = 5_000

INDEX = f"""
builder_type: IndexBuilder
changed_columns: [x]
python_function: numbers
code_module: job
is_custom: true
arguments: {{count: {ROWS}}}
primary_key: [x]
"""

COLUMN = """
builder_type: ColumnBuilder
changed_columns: [y]
python_function: compute
code_module: job
is_custom: true
return_type: row-wise
n_threads: {threads}
arguments: {arguments}
"""

NUMBERS = """
import pandas as pd
import batch_calls

def numbers(count):
    return pd.DataFrame({"x": range(count)})

"""


@pytest.fixture
def calls(monkeypatch):
    """The calls of the function under test, in order."""
    module = ModuleType("batch_calls")
    module.made = []
    monkeypatch.setitem(sys.modules, "batch_calls", module)
    return module.made


@pytest.fixture
def vault(tmp_path):
    vault = TableVault(tmp_path / "vault", create=True, author="a")
    vault.create_table("t")
    return vault


def prepare(vault, code, arguments='{x: "<<self.x[index]>>"}', threads=1, copy=False):
    vault.create_code_module("job", text=NUMBERS + code)
    column = COLUMN.format(arguments=arguments, threads=threads)
    vault.create_instance("t", copy=copy, builders={"t_index": INDEX, "t_y": column})


def execute(vault):
    vault.execute_instance("t", process_id="p")
    return vault.get_dataframe("t")[0]["y"].tolist()


def test_results_of_changing_types_are_read_one_by_one(vault, calls):
    prepare(vault, "def compute(x):\n    return None if x % 7 == 0 else float(x) if x % 3 == 0 else x\n")
    expected = [None if x % 7 == 0 else float(x) for x in range(ROWS)]
    assert [None if pd.isna(value) else value for value in execute(vault)] == expected


def test_function_may_change_a_returned_list_afterwards(vault, calls):
    prepare(vault, "kept = []\ndef compute(x):\n    kept[:] = [x, x + 1]\n    return kept\n")
    assert [list(value) for value in execute(vault)] == [[x, x + 1] for x in range(ROWS)]


def test_text_beyond_ascii_and_numbers_beyond_64_bits_come_through(vault, calls):
    prepare(vault, "def compute(x):\n    return f'{x} → ok' if x % 2 else f'{x}'\n")
    assert execute(vault) == [f"{x} → ok" if x % 2 else f"{x}" for x in range(ROWS)]


def test_each_call_gets_a_separate_constant(vault, calls):
    code = "def compute(x, seen):\n    seen.append(x)\n    return len(seen)\n"
    prepare(vault, code, '{x: "<<self.x[index]>>", seen: [1, 2]}')
    assert execute(vault) == [3] * ROWS


def test_arguments_go_to_their_parameters_in_any_order(vault, calls):
    code = "def compute(a, b, *, c, d=0):\n    return f'{a} {b} {c} {d}'\n"
    prepare(vault, code, '{c: 3, b: "<<self.x[index]>>", a: one}')
    assert execute(vault) == [f"one {x} 3 0" for x in range(ROWS)]


def test_a_function_without_arguments_is_called_for_each_row(vault, calls):
    prepare(vault, "def compute():\n    batch_calls.made.append(1)\n    return len(batch_calls.made)\n", "{}")
    assert execute(vault) == list(range(1, ROWS + 1))


def test_a_decorated_function_gets_its_arguments_by_name(vault, calls):
    code = (
        "import functools\n"
        "def by_name(function):\n"
        "    @functools.wraps(function)\n"
        "    def call(**arguments):\n"
        "        return function(**arguments)\n"
        "    return call\n"
        "@by_name\ndef compute(x):\n    return -x\n"
    )
    prepare(vault, code)
    assert execute(vault) == [-x for x in range(ROWS)]


def test_rows_before_a_failed_reference_are_kept_and_later_ones_not_run(vault, calls):
    vault.create_table("other")
    vault.create_instance("other", external_edit=True)
    vault.write_instance(pd.DataFrame({"key": range(ROWS), "word": ["1"] * 3_000 + ["one"] + ["1"] * 1_999}), "other")
    code = "def compute(x):\n    batch_calls.made.append(x)\n    return x\n"
    # The text "one" is no whole number, as the column `x` needs.
    prepare(vault, code, '{x: "<<self.x[x::<<other.word[key::<<self.x[index]>>]>>]>>"}')
    with pytest.raises(TableReferenceError):
        vault.execute_instance("t", process_id="p")
    assert len(calls) == 3_000


@pytest.mark.parametrize("failing", [1, 15, 16, 17, 1_000, 4_999])
def test_failing_row_stops_the_loop_and_a_resumed_run_starts_with_it(vault, calls, failing):
    code = (
        "def compute(x):\n"
        "    batch_calls.made.append(x)\n"
        f"    if x == {failing} and len(batch_calls.made) == {failing + 1}: raise OSError('once')\n"
        "    return x\n"
    )
    prepare(vault, code)
    with pytest.raises(OSError, match="once") as caught:
        vault.execute_instance("t", process_id="p")
    assert any(f"for row {failing}" in note for note in caught.value.__notes__)
    assert calls == list(range(failing + 1))
    assert execute(vault) == list(range(ROWS))
    assert calls == [*range(failing + 1), *range(failing, ROWS)]


def test_invalid_cell_stops_the_loop_at_once_and_names_the_row(vault, calls):
    code = "def compute(x):\n    batch_calls.made.append(x)\n    return object() if x == 2_500 else x\n"
    prepare(vault, code)
    with pytest.raises(TypeError, match="row 2500"):
        vault.execute_instance("t", process_id="p")
    assert calls == list(range(2_501))


@pytest.mark.parametrize("threads", [(1, 3), (3, 1)])
def test_rows_count_as_the_same_in_one_thread_and_in_many(vault, calls, threads):
    code = "def compute(x, y, z):\n    batch_calls.made.append(x)\n    return x\n"
    arguments = '{x: "<<self.x[index]>>", y: "number <<self.x[index]>>", z: [1, {k: v}]}'
    prepare(vault, code, arguments, threads=threads[0])
    execute(vault)
    calls.clear()
    prepare(vault, code, arguments, threads=threads[1], copy=True)
    vault.execute_instance("t")
    assert calls == []


def test_generator_may_change_yielded_objects_afterwards(vault, calls):
    code = "def compute():\n    row = [0, 0]\n    for x in range(5_000):\n        row[:] = [x, -x]\n        yield row\n"
    vault.create_code_module("job", text=code)
    index = (
        "builder_type: IndexBuilder\nchanged_columns: [a, b]\npython_function: compute\ncode_module: job\n"
        "is_custom: true\nreturn_type: generator\n"
    )
    vault.create_instance("t", builders={"t_index": index})
    vault.execute_instance("t")
    frame = vault.get_dataframe("t")[0]
    assert frame["a"].tolist() == list(range(ROWS))
    assert frame["b"].tolist() == [-x for x in range(ROWS)]
