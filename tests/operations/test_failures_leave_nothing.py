"""A failed operation leaves the vault's tree unchanged, byte for byte.

This holds for any operation and failure.
"""

from __future__ import annotations

import os
import sys
from functools import partial
from pathlib import Path

import pandas as pd
import pytest
from operated import build, column_builder, index_builder, interpreter, output_of, picture
from waiting import PATIENCE

from tablevault import TableVault, tv_errors

GOOD = pd.DataFrame({"x": [1, 2]})
BIG = pd.DataFrame({"x": [os.urandom(600).hex() for _ in range(400)]})


def defined(vault, table, name="defined.py"):
    """Write a definitions file beside the vault."""
    file = Path(vault.db_dir).parent / name
    file.write_text(f"from tablevault.define import Table\n\ntable = {table}\n\n\n@table.index()\ndef x(): ...\n")
    return file


INTERNAL = {
    "create_table, taken": lambda vault: vault.create_table("Stories"),
    "create_table, forbidden": lambda vault: vault.create_table("artifacts"),
    "rename_table, taken": lambda vault: vault.rename_table("written", "stories"),
    "rename_table, unknown": lambda vault: vault.rename_table("tales", "novels"),
    "rename_table, forbidden": lambda vault: vault.rename_table("metadata", "stories"),
    "delete_table, unknown": lambda vault: vault.delete_table("novels"),
    "create_instance, there already": lambda vault: vault.create_instance("stories"),
    "create_instance, unknown table": lambda vault: vault.create_instance("novels"),
    "create_instance, unknown origin": lambda vault: vault.create_instance("stories", "other", origin_id="base_1_2"),
    "create_instance, forbidden builder": lambda vault: vault.create_instance("stories", "new", builders=["a b"]),
    "delete_instance, unknown": lambda vault: vault.delete_instance("base_1_2", "stories"),
    "create_code_module, unknown folder": lambda vault: vault.create_code_module(copy_dir="/nowhere"),
    "create_code_module, other case": lambda vault: vault.create_code_module("Words", text="x = 1"),
    "create_code_module, no text": lambda vault: vault.create_code_module("odd", text="\ud800"),
    "delete_code_module, unknown": lambda vault: vault.delete_code_module("novels"),
    "create_builder_file, unknown version": lambda vault: vault.create_builder_file("stories", "new", "new"),
    "create_builder_file, two sources": lambda vault: vault.create_builder_file("stories", "a", "", "/tmp", "x"),
    "delete_builder_file, unknown": lambda vault: vault.delete_builder_file("quiet", "stories"),
    "apply, other flags": lambda vault: vault.apply(defined(vault, 'Table("stories", has_side_effects=True)')),
    "apply, case of a module": lambda vault: vault.apply(defined(vault, 'Table("new")', "Words.py")),
    "apply, edited since": lambda vault: vault.apply(defined(vault, 'Table("new")', "words.py")),
    "write_instance, has builders": lambda vault: vault.write_instance(GOOD, "stories"),
    "write_instance, wrong column": lambda vault: vault.write_instance(pd.DataFrame({"index": [1]}), "written"),
    "write_instance, wrong dtype": lambda vault: vault.write_instance(GOOD, "written", dtypes={"x": "int33"}),
    "write_instance, wrong value": lambda vault: vault.write_instance(
        pd.DataFrame({"x": ["a"]}), "written", dtypes={"x": "int64"}
    ),
    "write_instance, unknown dependency": lambda vault: vault.write_instance(
        GOOD, "written", dependencies=[("novels", "")]
    ),
    "write_instance, missing artifact": lambda vault: vault.write_instance(
        pd.DataFrame({"f": ["a.txt"]}), "written", dtypes={"f": "artifact_string"}
    ),
    "execute_instance, unknown table": lambda vault: vault.execute_instance("novels"),
    "execute_instance, unknown version": lambda vault: vault.execute_instance("stories", "new"),
    "execute_instance, no builders": lambda vault: vault.execute_instance("written"),
    "stop_process, unknown": lambda vault: vault.stop_process("nobody"),
}


@pytest.fixture
def ready(stories):
    stories.create_table("written")
    stories.create_instance("written", external_edit=True)
    return stories


class WithProcessId:
    """A vault whose operations are all called with one process id."""

    def __init__(self, vault, process_id):
        self._vault = vault
        self._process_id = process_id

    def __getattr__(self, name):
        found = getattr(self._vault, name)
        argument = "own_process_id" if name == "stop_process" else "process_id"
        return partial(found, **{argument: self._process_id}) if callable(found) else found


@pytest.mark.parametrize("process_id", ["", "mine"])
@pytest.mark.parametrize("failing", INTERNAL)
def test_an_internal_error_leaves_nothing_behind(ready, path, failing, process_id):
    before = picture(path)
    with pytest.raises(tv_errors.TableVaultError):
        INTERNAL[failing](WithProcessId(ready, process_id))
    assert picture(path) == before
    assert ready.get_active_processes() == {}
    newest = ready.get_history()[0]
    assert newest.status == "reverted"
    assert not process_id or newest.process_id == process_id


# --- a full disk --------------------------------------------------------------------------------------------------

PREPARE = """
import resource, signal, sys
import pandas as pd
from tablevault import TableVault
sys.path[:] = {paths!r}
from test_failures_leave_nothing import BIG, picture
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
path = sys.argv[1]
vault = TableVault(path)
from pathlib import Path
before = picture(Path(path))
limit = {limit}
resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))
try:
    {call}
except OSError as error:
    resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    TableVault(path)
    after = picture(Path(path))
    assert after == before, set(after.items()) ^ set(before.items())
    print("error", error.errno, vault.get_active_processes())
else:
    print("no error")
"""

# Files of this size and more cannot be written; the catalog, which is a larger file, is written in its middle only.
FULL = {
    "create_table": ("vault.create_table('images', description='x' * 900_000)", 800_000),
    "create_instance": ("vault.create_instance('stories', 'big', builders={'big': '#' * 900_000})", 800_000),
    "create_code_module": ("vault.create_code_module('big', text='#' * 900_000)", 800_000),
    "apply": (
        "(Path(path).parent / 'big.py').write_text('#' * 700_000); vault.apply(Path(path).parent / 'big.py')",
        650_000,
    ),
    "create_builder_file": ("vault.create_builder_file('stories', 'big', text='#' * 900_000)", 800_000),
    "write_instance": ("vault.write_instance(BIG, 'written')", 200_000),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", FULL)
def test_a_full_disk_reverts_and_leaves_nothing_behind(ready, path, name):
    call, limit = FULL[name]
    program = PREPARE.format(paths=sys.path, call=call, limit=limit)
    printed = output_of(program, str(path))
    assert printed in ("error 27 {}\n", "error 5 {}\n")  # EFBIG; SQLite says EIO of its own files


@pytest.mark.slow
def test_a_full_disk_while_a_table_is_read_does_not_matter(ready, path):
    ready.execute_instance("stories")
    program = PREPARE.format(
        paths=sys.path,
        call="assert len(vault.get_dataframe('stories')[0]) == 4; raise OSError(1, 'read')",
        limit=0,
    )
    assert output_of(program, str(path)).startswith("error 1 ")


# --- executions ---------------------------------------------------------------------------------------------------

FAILING = """
import pandas as pd
def rows():
    return pd.DataFrame({"x": [1, 2, 3]})
def fail_rows():
    raise LookupError("no rows")
def fail(x, folder):
    with open(f"{folder}/{x}.txt", "w") as file:
        file.write("made")
    if x == 2:
        raise LookupError("no file")
    return f"{x}.txt"
"""

FILES = column_builder(
    "file",
    "fail",
    '{x: "<<self.x[index]>>", folder: ~ARTIFACT_FOLDER~}',
    "return_type: row-wise\ndtypes: {file: artifact_string}",
)


def without_partial(found):
    return {name: what for name, what in found.items() if "/TEMP_base/partial" not in name}


def test_a_failed_execution_leaves_only_its_partial_results(vault, path):
    build(vault, index_builder("x", "rows"), FAILING, file=FILES)
    before = picture(path)
    with pytest.raises(LookupError, match="no file") as caught:
        vault.execute_instance("made")
    assert "reverted" in caught.value.__notes__[-1]
    assert "reuse_partial=True" in caught.value.__notes__[-1]
    assert without_partial(picture(path)) == before
    with pytest.raises(LookupError, match="no file"):
        vault.execute_instance("made", reuse_partial=True)
    assert without_partial(picture(path)) == before


def test_an_execution_that_computed_nothing_leaves_nothing(vault, path):
    build(vault, index_builder("x", "fail_rows"), FAILING)
    before = picture(path)
    with pytest.raises(LookupError, match="no rows"):
        vault.execute_instance("made")
    assert without_partial(picture(path)) == before


@pytest.mark.parametrize("error", ["KeyboardInterrupt", "SystemExit(3)", "MemoryError", "OSError(28, 'full')"])
def test_exception_of_a_function_reverts_and_reaches_the_caller(vault, path, error):
    code = f"def rows():\n    raise {error}\n"
    build(vault, index_builder("x", "rows"), code)
    before = picture(path)
    with pytest.raises((KeyboardInterrupt, SystemExit, MemoryError, OSError)) as caught:
        vault.execute_instance("made")
    assert caught.type.__name__ == error.partition("(")[0]
    assert "reverted" in caught.value.__notes__[-1]
    assert without_partial(picture(path)) == before
    assert vault.get_active_processes() == {}


def test_a_stopped_execution_leaves_only_its_partial_results(vault, path):
    build(vault, index_builder("x", "rows"), FAILING, file=FILES)
    before = picture(path)
    with pytest.raises(LookupError):
        vault.execute_instance("made", process_id="mine")
    assert picture(path) != before
    vault.stop_process("mine")
    assert without_partial(picture(path)) == before


def test_an_error_in_a_module_that_is_imported_leaves_nothing(vault, path):
    build(vault, index_builder("x", "rows"), FAILING + "\nraise ImportError('no such client')\n")
    before = picture(path)
    with pytest.raises(ImportError, match="no such client"):
        vault.execute_instance("made")
    assert without_partial(picture(path)) == before


@pytest.mark.slow
def test_killed_execution_is_reverted_when_the_vault_is_opened(vault, path):
    code = "import os\ndef rows():\n    os.kill(os.getpid(), 9)\n"
    build(vault, index_builder("x", "rows"), code)
    before = picture(path)
    killed = interpreter(
        "import sys; from tablevault import TableVault; TableVault(sys.argv[1]).execute_instance('made')", str(path)
    )
    killed.communicate(timeout=PATIENCE)
    assert killed.returncode == -9
    again = TableVault(path)
    assert again.get_active_processes() == {}
    assert without_partial(picture(path)) == before


def test_bad_artifact_reverts_at_the_end_even_with_a_process_id(vault, path):
    code = "import pandas as pd\ndef rows():\n    return pd.DataFrame({'f': ['missing.txt', 'gone.txt']})\n"
    build(vault, index_builder("f", "rows", more="dtypes: {f: artifact_string}"), code)
    before = picture(path)
    with pytest.raises(tv_errors.TVArtifactError, match=r"(?s)gone\.txt.*missing\.txt"):
        vault.execute_instance("made", process_id="mine")
    assert vault.get_process("mine").status == "reverted"
    assert without_partial(picture(path)) == before


def test_a_null_primary_key_reverts_even_with_a_process_id(vault, path):
    code = "import pandas as pd\ndef rows():\n    return pd.DataFrame({'k': [1, None]})\n"
    build(vault, index_builder("k", "rows", more="primary_key: [k]"), code)
    before = picture(path)
    with pytest.raises(tv_errors.TVTableError, match="'k' is null in row 1"):
        vault.execute_instance("made", process_id="mine")
    assert without_partial(picture(path)) == before
    assert vault.get_active_processes() == {}
