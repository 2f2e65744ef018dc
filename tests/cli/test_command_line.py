"""Output and exit statuses of commands, and compatibility with version 0.1.1."""

import gc
import io
import json
import os
import re
import shlex
import signal
import subprocess
import sys
import time
import warnings
from pathlib import Path

import click
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner
from terminals import Terminal

import tablevault
from tablevault import TableVault, tv_errors
from tablevault.cli import application as application_module
from tablevault.cli.application import application

HERE = Path(__file__).parent
COMMAND = [sys.executable, "-m", "tablevault.cli"]
FORMER = json.loads((HERE / "commands-0.1.1.json").read_text())

INDEX = """
builder_type: IndexBuilder
changed_columns: [x]
python_function: rows
code_module: job
is_custom: true
"""
CODE = "import pandas as pd\ndef rows():\n    {}\n    return pd.DataFrame({{'x': [1, 2]}})\n"


@pytest.fixture
def folder(tmp_path):
    TableVault(tmp_path / "vault", create=True, author="a").create_table("stories")
    return tmp_path / "vault"


@pytest.fixture
def run(folder):
    def call(*words):
        return CliRunner().invoke(application, ["--db-dir", str(folder), "--author", "b", *words])

    return call


def prepare(folder, statement="pass"):
    vault = TableVault(folder, author="a")
    vault.create_code_module("job", text=CODE.format(statement))
    vault.create_instance("stories", builders={"stories_index": INDEX})
    return vault


@pytest.mark.parametrize("name", FORMER)
def test_commands_of_0_1_1_keep_their_arguments_and_options(name):
    context = click.Context(application)
    command = application.get_command(context, name)
    assert command is not None
    arguments = [item for item in command.params if isinstance(item, click.Argument) and item.required]
    assert len(arguments) == len(FORMER[name]["arguments"])
    options = {option for parameter in command.params for option in (*parameter.opts, *parameter.secondary_opts)}
    assert set(FORMER[name]["options"]) <= options


def test_every_command_has_help_under_both_names(run):
    for name in application.list_commands(click.Context(application)):
        for option in ("-h", "--help"):
            result = run(name, option)
            assert result.exit_code == 0
            assert result.output.startswith("Usage: ")


def test_help_names_every_documented_exit_status(run):
    page = (HERE.parents[1] / "docs" / "command-line.md").read_text()
    table = page.partition("| status | meaning |")[2].partition("\n\n")[0]
    documented = {status for row in table.splitlines() if row for status in re.findall(r"\d+", row.split("|")[1])}
    said = run("--help").output.partition("Exit status:")[2].partition("Options:")[0]
    assert set(re.findall(r"\d+", said)) == documented > {"0", "7", "143"}


def test_writes_print_the_process_id_alone(run):
    assert run("create-table", "poems", "--process-id", "mine").output == "mine\n"


def test_a_refusal_is_one_line_and_exits_with_1(run):
    result = run("create-table", "stories")
    assert result.exit_code == 1
    assert result.stdout == ""
    assert result.stderr.count("\n") == 1
    assert "Table 'stories' already exists" in result.stderr


@pytest.mark.parametrize(
    ("words", "meant"),
    [(["creat-table", "x"], "create-table"), (["create-table", "x", "--descripton", "y"], "--description")],
)
def test_misspelt_commands_and_options_are_answered_with_the_nearest(run, words, meant):
    result = run(*words)
    assert result.exit_code == 2
    assert meant in result.stderr


def test_refusal_of_an_edited_file_shows_each_line_of_the_difference(run, folder, tmp_path):
    TableVault(folder).create_code_module("answers", text="x = 1\n")
    (tmp_path / "answers.py").write_text('from tablevault.define import Table\nanswers = Table("answers")\nx = 2\n')
    result = run("apply", str(tmp_path / "answers.py"))
    assert result.exit_code == 1
    assert {"-x = 1", "+x = 2"} <= set(result.output.splitlines())


def test_without_a_vault_the_usage_says_how_to_name_one():
    result = CliRunner(env={"TABLEVAULT_DIR": None}).invoke(application, ["get-tables"])
    assert result.exit_code == 2
    assert "--db-dir" in result.stderr


def test_the_environment_names_vault_and_author(folder):
    runner = CliRunner(env={"TABLEVAULT_DIR": str(folder), "TABLEVAULT_AUTHOR": "someone"})
    assert runner.invoke(application, ["create-table", "poems"]).exit_code == 0
    assert TableVault(folder).get_history()[0].author == "someone"


def test_an_external_error_that_is_reverted_exits_with_3_and_shows_where(run, folder):
    prepare(folder, "raise ConnectionError('no network')")
    result = run("execute-instance", "stories")
    assert result.exit_code == 3
    assert "Traceback" in result.stderr
    assert "no network" in result.stderr


def test_a_pause_exits_with_4_and_says_how_to_resume_and_stop(run, folder):
    prepare(folder, "raise ConnectionError('no network')")
    result = run("execute-instance", "stories", "--process-id", "mine")
    assert result.exit_code == 4
    assert "Resume: tablevault" in result.stderr
    assert f"tablevault --db-dir {folder} execute-instance stories --process-id mine" in result.stderr
    assert f"tablevault --db-dir {folder} stop-process mine" in result.stderr
    assert json.loads(run("ps").output)[0]["state"] == "paused"
    assert run("stop-process", "mine").exit_code == 0
    assert json.loads(run("ps").output) == []


def test_an_id_of_another_command_that_is_paused_is_a_refusal(run, folder):
    prepare(folder, "raise OSError('gone')")
    assert run("execute-instance", "stories", "--process-id", "nightly").exit_code == 4
    refused = run("create-table", "poems", "--process-id", "nightly")
    assert refused.exit_code == 1
    assert "is a call of execute_instance, not of create_table" in refused.stderr
    assert "Paused" not in refused.stderr


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"a,a\n1,2\n", "has two columns 'a'"),
        (b"", "has no header line"),
        (b"a,b\n1,2\n3,4,5,6\n", "Row #3: Expected 2 columns, got 4"),
        (b"a\n\xff\xfe\n", "Convert it to UTF-8"),
    ],
)
def test_invalid_frame_file_is_refused_in_one_line_that_names_it(run, folder, tmp_path, content, said):
    prepare(folder)
    (tmp_path / "frame.csv").write_bytes(content)
    run("create-table", "poems")
    run("create-instance", "poems", "--external-edit")
    refused = run("write-instance", "poems", "--csv", str(tmp_path / "frame.csv"))
    assert refused.exit_code == 1, refused.stderr
    assert said in refused.stderr
    assert "frame.csv" in refused.stderr
    assert refused.stderr.count("\n") == 1


def test_frames_are_written_by_suffix_and_read_from_csv_and_parquet(run, folder, tmp_path):
    frame = pd.DataFrame({"x": [1, 2], "y": ["a", "b"]})
    frame.to_parquet(tmp_path / "given.parquet")
    frame.to_csv(tmp_path / "given.csv", index=False)
    for given in ("csv", "parquet"):
        assert run("create-instance", "stories", "--external-edit").exit_code == 0
        result = run("write-instance", "stories", f"--{given}", str(tmp_path / f"given.{given}"))
        assert result.exit_code == 0
        for suffix in (".csv", ".parquet", ".json", ""):
            output = tmp_path / f"out{suffix}"
            facts = json.loads(run("get-dataframe", "stories", "--output", str(output)).output)
            assert facts["rows"] == 2
            assert facts[suffix.removeprefix(".") or "csv"] == str(output)
        assert (tmp_path / "out").read_text() == (tmp_path / "out.csv").read_text()
        assert pd.read_parquet(tmp_path / "out.parquet")["y"].tolist() == ["a", "b"]
        assert [row["x"] for row in json.loads((tmp_path / "out.json").read_text())] == [1, 2]
    assert run("write-instance", "stories").exit_code == 2


def test_get_dataframe_refuses_a_suffix_without_a_format(run, folder, tmp_path):
    refused = run("get-dataframe", "stories", "--output", str(tmp_path / "out.parq"))
    assert refused.exit_code == 1
    assert ".csv, .tsv, .parquet, .json, .jsonl, .arrow, .feather or .xlsx" in refused.stderr
    assert not (tmp_path / "out.parq").exists()


@pytest.mark.parametrize(
    "words", [["get-dataframe", "numbers"], ["get-errors", "numbers"], ["sql", "FROM numbers"], ["diff", "numbers"]]
)
def test_output_that_is_a_folder_is_refused(run, folder, words):
    vault = TableVault(folder, author="a")
    for number in (1, 2):
        vault.write("numbers", pd.DataFrame({"x": [number]}))
    refused = run(*words, "--output", "")
    assert (refused.exit_code, refused.stderr) == (
        1,
        "TVArgumentError: The output '.' is a folder. Name a file.\n",
    )


def test_output_may_have_a_name_that_is_not_unicode(run, folder, tmp_path):
    TableVault(folder, author="a").write("numbers", pd.DataFrame({"x": [1]}))
    for suffix in ("csv", "json", "parquet", "arrow", "feather", "xlsx"):
        path = tmp_path / os.fsdecode(b"\xff.%s" % suffix.encode())
        assert run("get-dataframe", "numbers", "--output", str(path)).exit_code == 0
        assert path.stat().st_size


def test_write_instance_keeps_the_values_of_a_parquet_file(run, folder, tmp_path):
    table = pa.table(
        {
            "id": pa.array([2**53 + 1, None], pa.int64()),
            "price": pa.array([1, 2], pa.int64()).cast(pa.decimal128(25, 2)),
            "small": pa.array([[1], None], pa.list_(pa.int32())),
            "ratio": pa.array([float("nan"), None], pa.float64()),
        }
    )
    pq.write_table(table, tmp_path / "given.parquet")
    run("create-instance", "stories", "--external-edit")
    assert run("write-instance", "stories", "--parquet", str(tmp_path / "given.parquet")).exit_code == 0
    read = TableVault(folder, author="a").get_dataframe("stories", format="arrow")[0]
    assert read.schema.equals(table.schema)
    assert repr(read.to_pylist()) == repr(table.to_pylist())


def test_write_instance_refuses_a_damaged_parquet_file_in_one_line(run, folder, tmp_path):
    path = tmp_path / "given.parquet"
    pq.write_table(pa.table({"x": list(range(100))}), path)
    data = bytearray(path.read_bytes())
    data[4:40] = b"\xff" * 36
    path.write_bytes(data)
    run("create-instance", "stories", "--external-edit")
    refused = run("write-instance", "stories", "--parquet", str(path))
    assert refused.exit_code == 1
    assert "given.parquet" in refused.stderr
    assert "Traceback" not in refused.stderr


@pytest.mark.slow
def test_lists_are_json_when_piped_and_tables_on_a_terminal(folder):
    command = [*COMMAND, "--db-dir", str(folder), "get-tables"]
    assert json.loads(subprocess.run(command, check=True, capture_output=True).stdout) == ["stories"]
    with Terminal(command) as terminal:
        shown = terminal.rest()
    assert terminal.status == 0
    assert shown.split() == ["stories"]


@pytest.mark.slow
def test_ctrl_c_without_a_process_id_reverts_and_exits_with_130(folder, tmp_path):
    vault = prepare(folder, f"open({str(tmp_path / 'begun')!r}, 'w').close(); import time; time.sleep(60)")
    command = [*COMMAND, "--db-dir", str(folder), "execute-instance", "stories"]
    with subprocess.Popen(command, stderr=subprocess.PIPE) as process:
        while not (tmp_path / "begun").exists():
            time.sleep(0.01)
        process.send_signal(signal.SIGINT)
        process.communicate()
    assert process.returncode == 130
    assert vault.get_active_processes() == {}


def test_wait_process_exits_as_its_process_would_have(run, folder):
    vault = prepare(folder, "raise ConnectionError('no network')")
    with pytest.raises(ConnectionError):
        vault.execute_instance("stories", process_id="mine")
    assert run("wait-process", "mine").exit_code == 4
    vault.stop_process("mine")
    vault.create_table("poems", process_id="fine")
    assert run("wait-process", "fine").exit_code == 0


def ran(*words):
    """Run a command in a separate interpreter.

    Returns its output, and the modules that it imported.
    """
    command = [sys.executable, "-X", "importtime", "-m", "tablevault.cli", *words]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    lines = [line for line in done.stderr.splitlines() if line.startswith("import time:")]
    return done.stdout, {line.rpartition("|")[2].strip() for line in lines}


def test_version_and_help_import_nothing_heavy():
    heavy = {"pandas", "pyarrow", "numpy", "sqlalchemy", "rich"}
    for word, unneeded in (("--version", heavy | {"msgspec"}), ("--help", heavy)):
        _, imported = ran(word)
        assert "click" in imported
        assert not imported & unneeded


def test_listings_import_only_the_needed_modules(run, folder):
    prepare(folder, "pass")
    of_frames = {"pandas", "pyarrow", "numpy", "polars", "duckdb"}
    of_builders = {
        "pydantic",
        "yaml",
        "tablevault.builders.spec",
        "tablevault.execution",
        "tablevault.operations.execute",
    }
    of_owners = {"psutil", "rich", "ray"}
    for word in ("ps", "get-tables"):
        stdout, imported = ran("--db-dir", str(folder), word)
        assert run(word).stdout == stdout
        assert "sqlalchemy.dialects.sqlite" in imported
        assert not imported & (of_frames | of_builders | of_owners | {"sqlalchemy.dialects.postgresql"})


def test_garbage_is_looked_for_as_usual_once_a_vault_is_open(folder, monkeypatch):
    usual, seen = gc.get_threshold(), []

    def command(prog_name, obj):
        seen.append(gc.get_threshold()[0])
        application_module.CommandContext(folder, "a", False).vault()
        seen.append(gc.get_threshold())

    monkeypatch.setattr(application_module, "application", command)
    monkeypatch.setattr(warnings, "showwarning", warnings.showwarning)
    for name in ("stdout", "stderr"):
        monkeypatch.setattr(sys, name, io.StringIO())
    try:
        application_module.main()
    finally:
        gc.unfreeze()
        gc.set_threshold(*usual)
    assert seen[0] > usual[0]
    assert seen[1] == usual


@pytest.mark.slow
def test_bash_completes_commands_and_tables(folder, tmp_path):
    (tmp_path / "tablevault").write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} {tmp_path}/entry.py "$@"\n')
    (tmp_path / "tablevault").chmod(0o755)
    (tmp_path / "entry.py").write_text("from tablevault.cli import main\nmain()\n")
    script = f"""
        eval "$(_TABLEVAULT_COMPLETE=bash_source tablevault)"
        COMP_WORDS=(tablevault --db-dir {folder} delete-table st) COMP_CWORD=4
        _tablevault_completion tablevault
        echo "${{COMPREPLY[@]}}"
        COMPREPLY=() COMP_WORDS=(tablevault create-in) COMP_CWORD=1
        _tablevault_completion tablevault
        echo "${{COMPREPLY[@]}}"
    """
    environment = {**os.environ, "PATH": f"{tmp_path}{os.pathsep}{os.environ['PATH']}"}
    environment["PYTHONPATH"] = str(Path(tablevault.__file__).parents[1])
    done = subprocess.run(["bash", "-c", script], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["stories", "create-instance"]


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_is_offered_for(shell, monkeypatch):
    monkeypatch.setenv("_TABLEVAULT_COMPLETE", f"{shell}_source")
    offered = CliRunner().invoke(application, [], prog_name="tablevault").output
    assert f"_TABLEVAULT_COMPLETE={shell}_complete" in offered


def test_frames_that_pandas_cannot_write_as_parquet_are_written(run, folder, tmp_path):
    vault = TableVault(folder)
    vault.create_instance("stories", external_edit=True)
    vault.write_instance(pd.DataFrame({"mixed": [{"a": 1}, [2, "x"]]}), "stories")
    output = tmp_path / "out.parquet"
    assert run("get-dataframe", "stories", "--output", str(output)).exit_code == 0
    assert [json.loads(value) for value in pd.read_parquet(output)["mixed"]] == [{"a": 1}, [2, "x"]]
    assert run("get-dataframe", "stories", "--output", str(tmp_path / "missing" / "out.csv")).exit_code == 2


@pytest.mark.slow
def test_waiting_can_end_before_the_process_which_goes_on(run, folder, tmp_path):
    prepare(
        folder, f"import time\n    while not __import__('os').path.exists({str(tmp_path / 'go')!r}): time.sleep(0.01)"
    )
    process_id = run("execute-instance", "stories", "--background").output.strip()
    waited = run("wait-process", process_id, "--timeout", "0.1")
    assert waited.exit_code == 1
    assert waited.stderr.count("\n") == 1
    assert "still running" in waited.stderr
    (tmp_path / "go").touch()
    assert run("wait-process", process_id).output == f"{process_id}\n"


def test_json_can_be_asked_for_before_and_after_the_command(run):
    assert run("--json", "get-file-tree").output == run("get-file-tree", "--json").output
    assert "stories" in json.loads(run("get-file-tree", "--json").output)["vault"]


@pytest.mark.parametrize("words", [["stories"], ["--table_name", "stories"], ["--table-name", "stories"]])
def test_tables_are_arguments_or_the_options_of_0_1_1(run, folder, words):
    TableVault(folder).create_instance("stories", external_edit=True)
    assert json.loads(run("get-table-instances", *words, "--temp").output) == ["TEMP_base"]
    assert run("get-table-instances", "stories", "--table_name", "poems").exit_code == 2


def test_the_log_is_filtered_newest_first(run, folder):
    vault = TableVault(folder, author="someone")
    vault.create_table("poems")
    with pytest.raises(tv_errors.TVArgumentError):
        vault.delete_table("nothing")

    def logged(*words):
        return [(row["operation"], row["table"]) for row in json.loads(run("log", *words).output)]

    assert logged() == [("delete_table", "nothing"), ("create_table", "poems"), ("create_table", "stories")]
    assert logged("--table", "poems") == [("create_table", "poems")]
    assert logged("--author", "a") == [("create_table", "stories")]
    assert (
        logged("--operation", "delete-table") == logged("--operation", "delete_table") == [("delete_table", "nothing")]
    )
    assert logged("--state", "succeeded", "--limit", "1") == [("create_table", "poems")]
    assert run("log", "--operation", "delete-tabl").exit_code == 2


def test_archive_commands_print_the_same_as_in_0_1_1(run, folder):
    assert run("compress", str(folder)).output == "Compressed → vault.tar.xz\n"
    assert run("delete-vault", str(folder), "--yes").output == "Vault deleted ✔\n"
    assert run("decompress", str(folder.with_name("vault.tar.xz"))).output == "Decompressed → vault/\n"
    assert json.loads(run("--json", "compress", str(folder)).output) == {"archive": f"{folder}.tar.xz"}


def test_commands_read_as_of_a_moment_or_process(run, folder, tmp_path):
    vault = TableVault(folder)
    first = vault.write("poems", pd.DataFrame({"x": [1, 2]}))
    vault.write("poems", pd.DataFrame({"x": [3]}))
    old, new = vault.get_table_instances("poems")
    assert json.loads(run("read", "poems", "--as-of", first).output) == [{"x": 1}, {"x": 2}]
    assert json.loads(run("get-table-instances", "poems", "--as-of", first).output) == [old]
    assert json.loads(run("get-table-instances", "poems", "--as-of", "2999-01-01T00:00Z").output) == [old, new]
    output = tmp_path / "page.csv"
    assert run("get-dataframe", "poems", "--as-of", first, "--offset", "1", "--output", str(output)).exit_code == 0
    assert output.read_text().split() == ["x", "2"]
    assert run("read", "poems", "--as-of", "2000-01-01T12:00+01:00").exit_code == 1
    for wrong in ("2026-11-01T12:00", "12:xx"):
        refused = run("read", "poems", "--as-of", wrong)
        assert refused.exit_code == 2
        assert wrong in refused.stderr
    assert "such as 2026-11-01T00:00Z" in run("read", "poems", "--as-of", "2026-11-01").stderr


def test_tags_are_made_listed_and_deleted(run, folder):
    vault = TableVault(folder)
    for name in ("poems", "tales"):
        vault.write(name, pd.DataFrame({"x": [1]}))
    made = run("tag", "paper", "poems", "--description", "as sent")
    assert made.output.strip() == vault.get_tags()[0].process_id
    assert run("tag", "all", "--all").exit_code == 0
    listed = json.loads(run("get-tags", "poems").output)
    assert [(item["tag"], item["table_name"], item["description"]) for item in listed] == [
        ("all", "poems", ""),
        ("paper", "poems", "as sent"),
    ]
    assert json.loads(run("read", "poems@paper").output) == [{"x": 1}]
    assert [row["operation"] for row in json.loads(run("log", "--operation", "tag").output)] == ["create_tag"] * 2
    assert len(json.loads(run("log", "--operation", "create_tag").output)) == 2
    for wrong in (["tag", "x"], ["tag", "x", "poems", "--all"]):
        refused = run(*wrong)
        assert refused.exit_code == 2
        assert "--all" in refused.stderr
    assert run("delete-tag", "all", "tales").exit_code == 0
    assert run("delete-tag", "paper").exit_code == 0
    assert [item.table_name for item in vault.get_tags()] == ["poems"]


def test_sql_prints_rows_or_writes_them(run, folder, tmp_path):
    vault = TableVault(folder)
    vault.write("poems", pd.DataFrame({"x": range(1200), "j": [{"a": 1}] * 1200}))
    counted = run("sql", "SELECT count(*) AS n FROM poems WHERE x < $most AND 'a' = $letter", "--param", "most=3")
    assert counted.exit_code == 1
    counted = run(
        *("sql", "SELECT count(*) AS n FROM poems WHERE x < $most AND 'a' = $letter"),
        *("--param", "most=3", "--param", "letter=a"),
    )
    assert json.loads(counted.stdout) == {"n": 3}
    cut = run("sql", "FROM poems ORDER BY x")
    lines = [json.loads(line) for line in cut.stdout.splitlines()]
    assert (len(lines), lines[1]) == (1000, {"x": 1, "j": {"a": 1}})
    assert "more than 1,000 rows" in cut.stderr
    assert len(run("sql", "FROM poems", "--rows", "1200").stdout.splitlines()) == 1200
    output = tmp_path / "poems.csv"
    assert json.loads(run("sql", "SELECT x FROM poems", "--output", str(output)).stdout)["rows"] == 1200
    assert len(output.read_text().splitlines()) == 1201
    assert "PROJECTION" in run("sql", "SELECT x + 1 FROM poems", "--explain").stdout.upper()
    assert run("sql", "COPY poems TO 'x.csv'", "--explain").exit_code == 1
    refused = run("sql", "DROP TABLE poems")
    assert refused.exit_code == 1
    assert "query runs one statement that reads" in refused.stderr
    assert run("sql", "SELECT 1", "--param", "x").exit_code == 2
    typed = run("sql", "SELECT typeof($x) AS x, $x AS y", "--param", "x=1e400")
    assert json.loads(typed.output) == {"x": "VARCHAR", "y": "1e400"}
    assert run("sql", "SELECT count(*) FROM range(100000000), range(100000)", "--timeout", "0.1").exit_code == 3


def test_sql_reads_a_statement_from_standard_input(folder):
    runner = CliRunner(env={"TABLEVAULT_DIR": str(folder)})
    assert json.loads(runner.invoke(application, ["sql", "-"], input="SELECT 1 AS one").stdout) == {"one": 1}


def test_diff_takes_instances_or_addresses_and_tells_by_its_status(run, folder, tmp_path):
    vault = TableVault(folder, author="a")
    vault.write("stories", pd.DataFrame({"x": [1, 2], "y": ["a", "b"]}), primary_key="x")
    vault.create_tag("paper")
    vault.write("stories", pd.DataFrame({"x": [1, 3], "y": ["z", "b"]}), primary_key="x")
    first, second = vault.get_table_instances("stories")
    for words in (
        ["stories"],
        ["stories", "@paper"],
        ["stories", first, second],
        ["stories@paper", "stories"],
        [f"stories({first})", f"stories({second})"],
    ):
        facts = json.loads(run("diff", *words).output)
        assert (facts["before_id"], facts["after_id"], facts["rows"]["changed"]) == (first, second, 1)
    cells = json.loads(run("diff", "stories", "--cells", "2", "--stat").output)
    assert cells["rows"]["added"] == 1
    assert cells["cells"][0] == {"x": 1, "column": "y", "before": "a", "after": "z", "cause": "external"}
    assert cells["cells"][1]["before"] is None
    assert run("diff", "stories", "--exit-code").exit_code == 6
    assert run("diff", "stories", "--column", "x", "--on", "y", "--exit-code", second, second).exit_code == 0
    assert run("diff", "stories@paper", "stories@paper", "stories").exit_code == 2
    written = run("diff", "stories", "--output", str(tmp_path / "cells.csv"))
    assert written.exit_code == 0
    assert list(pd.read_csv(tmp_path / "cells.csv")["cause"]) == ["external", "new row", "removed row"]


def test_blame_names_a_row_by_the_values_of_its_key(run, folder):
    vault = TableVault(folder, author="a")
    vault.write("stories", pd.DataFrame({"x": [1, 2], "y": ["a", "b"], "z": [3, 4]}), primary_key=["x", "y"])
    facts = json.loads(run("blame", "stories", "z", "2", "b").output)
    assert (facts["value"], facts["state"], facts["key"]) == (4, "external", {"x": 2, "y": "b"})
    refused = run("blame", "stories", "z", "2", "c")
    assert (refused.exit_code, "has no row with x, y = ('2', 'c')" in refused.stderr) == (1, True)


def test_gc_prints_a_plan_and_removes_it_only_when_told(run, folder):
    vault = TableVault(folder, author="a")
    for number in range(3):
        vault.write("stories", pd.DataFrame({"x": [number]}))
    ids = vault.get_table_instances("stories")
    plan = json.loads(run("gc", "--keep-last", "1").output)
    assert [item["instance_id"] for item in plan["groups"][0]["remove"]] == [ids[1], ids[0]]
    assert vault.get_table_instances("stories") == ids
    refused = run("gc")
    assert (refused.exit_code, "needs at least one rule" in refused.stderr) == (1, True)
    done = run("gc", "--keep-last", "1", "--table", "stories", "--apply", "--process-id", "clean")
    assert (done.exit_code, done.stdout) == (0, "clean\n")
    assert f"remove  {ids[0]}" in done.stderr
    assert vault.get_table_instances("stories") == ids[2:]


def test_export_table_prints_the_path(run, folder, tmp_path):
    TableVault(folder, author="a").write("stories", pd.DataFrame({"x": [1, 2], "y": [3, 4]}))
    path = tmp_path / "stories.csv"
    assert json.loads(run("--json", "export-table", "stories", str(path), "--column", "y").output) == {
        "exported": str(path)
    }
    assert path.read_text() == "y\n3\n4\n"
    assert run("export-table", "stories", str(path)).exit_code == 1
    assert run("export-table", "stories", str(tmp_path / "set"), "--format", "dataset").output.strip() == str(
        tmp_path / "set"
    )


def test_export_vault_takes_addresses(run, folder, tmp_path):
    TableVault(folder, author="a").write("stories", pd.DataFrame({"x": [1, 2]}))
    path = tmp_path / "review"
    assert run("export-vault", str(path), "stories", "--inputs", "frames").output.strip() == str(path)
    assert TableVault(path).get_tables() == ["stories"]


def test_import_instances_takes_names_or_pairs(run, folder, tmp_path):
    other = TableVault(tmp_path / "other", author="a", create=True)
    other.write("poems", pd.DataFrame({"x": [1]}))
    other.write("songs", pd.DataFrame({"x": [2]}))
    assert run("import-instances", str(tmp_path / "other"), "poems", "--process-id", "take").output == "take\n"
    assert run("import-instances", str(tmp_path / "other"), "songs=tunes").exit_code == 0
    assert TableVault(folder).get_tables() == ["stories", "poems", "tunes"]
    assert len(json.loads(run("log", "--operation", "import-instances").output)) == 2


def test_write_reads_the_json_lines_that_it_exports(run, folder, tmp_path):
    vault = TableVault(folder, author="a")
    texts = ["a\u2028b", "a\u2029b", "a\x85b", "a\x0bb", "a\x1cb", "a\r\nb", "", None]
    vault.write("texts", pd.DataFrame({"text": texts, "\u2028": range(len(texts))}))
    assert run("get-dataframe", "texts", "--output", str(tmp_path / "texts.jsonl")).exit_code == 0
    assert run("write", "copies", str(tmp_path / "texts.jsonl")).exit_code == 0
    assert vault.read("copies", format="arrow").to_pydict() == vault.read("texts", format="arrow").to_pydict()


def test_write_reads_json_lines_with_a_byte_order_mark(run, folder, tmp_path):
    (tmp_path / "rows.jsonl").write_text('{"x": 1}\r\n{"x": 2}', encoding="utf-8-sig")
    assert run("write", "rows", str(tmp_path / "rows.jsonl")).exit_code == 0
    assert TableVault(folder).read("rows")["x"].tolist() == [1, 2]


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ('{"x": 1}\n{"x": 1, "x": 2}', "line 2, has two values for 'x'. Rename one of them."),
        ('{"x": {"y": 1, "y": 2}}', "line 1, has two values for 'y'"),
        ('{"x": 1e400}', "line 1, has the number 1e400, which is outside the range of a float. Write it as text."),
        ('{"x": [-1e-400]}', "line 1, has the number -1e-400, which is outside the range of a float"),
        ("{}\n{}\n", "has 2 empty objects"),
        ('{"x": 1}\n{"x": ' + "[" * 200_000 + "]" * 200_000 + "}", "line 2, is nested too deeply"),
        (b'{"x": "\xff"}', "line 1, is not text in UTF-8. Convert the file to UTF-8."),
    ],
    ids=["name twice", "name twice inside", "too large", "too small", "no columns", "deep", "encoding"],
)
def test_write_refuses_json_lines_that_it_would_change(run, tmp_path, content, reason):
    (tmp_path / "rows.jsonl").write_bytes(content if isinstance(content, bytes) else content.encode())
    refused = run("write", "stories", str(tmp_path / "rows.jsonl"))
    assert (refused.exit_code, reason in refused.stderr) == (1, True), refused.stderr


def test_write_instance_reads_json_lines_and_dataset_folders(run, folder, tmp_path):
    vault = TableVault(folder, author="a")
    (tmp_path / "rows.jsonl").write_text('{"x": 1, "tags": ["a"]}\n\n{"x": 2, "day": "2024-02-29"}\n')
    vault.create_instance("stories", external_edit=True)
    assert run("write-instance", "stories", "--jsonl", str(tmp_path / "rows.jsonl")).exit_code == 0
    frame = vault.read("stories", format="arrow")
    assert frame.to_pylist() == [{"x": 1, "tags": ["a"], "day": None}, {"x": 2, "tags": None, "day": "2024-02-29"}]
    vault.export_table("stories", tmp_path / "set", format="dataset")
    vault.create_instance("stories", external_edit=True)
    assert run("write-instance", "stories", "--dataset", str(tmp_path / "set")).exit_code == 0
    assert not vault.diff_instances("stories").differs
    (tmp_path / "rows.jsonl").write_text('{"x": 1}\n[2]\n')
    refused = run("write", "stories", str(tmp_path / "rows.jsonl"))
    assert (refused.exit_code, "line 2, is not an object" in refused.stderr) == (1, True)
    assert run("write-instance", "stories").exit_code == 2
