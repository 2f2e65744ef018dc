"""Code modules replaced during reads, plans and executions.

Every reader sees whole files.
"""

import threading

import pytest

from tablevault import TableVault

INDEX = """
builder_type: IndexBuilder
changed_columns: [x]
python_function: numbers
code_module: module_0
is_custom: true
"""
MODULES = 40
TIMES = 12


@pytest.fixture
def vault(tmp_path):
    """A vault whose modules another thread replaces again and again, all at once."""
    modules = tmp_path / "modules"
    modules.mkdir()
    for number in range(MODULES):
        text = f"import pandas as pd\n\ndef numbers():\n    return pd.DataFrame({{'x': [{number}]}})\n"
        (modules / f"module_{number}.py").write_text(text)
    made = TableVault(tmp_path / "vault", create=True)
    made.create_code_module(copy_dir=str(modules))
    made.create_table("t")
    made.create_instance("t", builders={"t_index": INDEX})
    stopping = threading.Event()

    def replace():
        vault = TableVault(tmp_path / "vault")
        while not stopping.is_set():
            vault.create_code_module(copy_dir=str(modules))

    replacing = threading.Thread(target=replace)
    replacing.start()
    yield made
    stopping.set()
    replacing.join()


@pytest.mark.slow
def test_an_execution_and_a_plan_find_every_module_wherever_it_is(vault):
    for number in range(TIMES):
        assert vault.plan_instance("t").builders["t_index"].computed is None
        vault.execute_instance("t")
        assert vault.get_dataframe("t")[0]["x"].tolist() == [0]
        assert len(vault.get_code_modules_list()) == MODULES
        vault.create_instance("t", copy=True, description=str(number))
