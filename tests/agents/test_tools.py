"""Answers, refusals and size limits of agents' tools."""

from __future__ import annotations

import base64
import random
import re
import sqlite3
import threading
import time
import warnings
from contextlib import closing
from pathlib import Path

import anyio
import pandas as pd
import pytest
from mcp import Client
from waiting import PATIENCE

from tablevault import TableVault, TableVaultWarning, TVArgumentError
from tablevault.mcp import access, reading

CODE = """
import time
import pandas as pd


def numbers(count):
    return pd.DataFrame({"n": range(count)})


def half(n):
    if n % 2 and not FIXED:
        raise ValueError(f"{n} is odd")
    return n / 2


def text(h):
    return str(h)


def slow(n):
    time.sleep(0.05)
    return n


FIXED = False
"""

INDEX = """
builder_type: IndexBuilder
changed_columns: [n]
primary_key: [n]
python_function: numbers
code_module: job
is_custom: true
arguments: {count: %d}
"""

COLUMN = """
builder_type: ColumnBuilder
changed_columns: [%s]
python_function: %s
code_module: job
is_custom: true
return_type: row-wise
arguments: {%s: "<<self.%s[index]>>"}
"""

READING = {
    "overview",
    "describe_table",
    "query",
    "diff",
    "trace",
    "get_errors",
    "read_source",
    "list_processes",
    "get_process",
    "plan_run",
    "view_artifact",
}
WRITING = {"tag", "write_rows", "start_run", "retry_failed", "wait_run", "stop_run"}
CODING = {"write_code", "write_builders"}


def make_halves(vault, count=4, **fields):
    collecting = "on_error: collect\nmax_failures: 100%\nmax_consecutive_failures: none\n"
    vault.create_code_module("job", text=CODE)
    vault.create_table("halves")
    vault.create_instance("halves")
    vault.create_builder_file("halves", "halves_index", text=INDEX % count)
    vault.create_builder_file("halves", "half", text=COLUMN % ("half", "half", "n", "n") + collecting)
    vault.create_builder_file("halves", "text", text=COLUMN % ("text", "text", "h", "half"))


@pytest.fixture
def halves(vault):
    make_halves(vault)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        vault.execute_instance("halves", process_id="first")
    return vault


def ended(agent, process_id):
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        found = agent.call("wait_run", id=process_id, seconds=5)
        if found["facts"]["is_over"]:
            return found["facts"]["process"]
    raise AssertionError("it has not ended")


# --- levels -------------------------------------------------------------------------------------------------------


def test_each_level_has_its_tools(agent):
    assert set(agent().tools()) == READING
    assert set(agent("write").tools()) == READING | WRITING
    assert set(agent("code").tools()) == READING | WRITING | CODING


def test_tools_have_hints_schemas_and_short_descriptions(agent):
    for name, tool in agent("code").tools().items():
        assert tool.annotations.read_only_hint is (name in READING or name == "wait_run"), name
        assert 0 < len(tool.description) <= 300, name
        assert tool.input_schema["type"] == "object"
        assert (tool.output_schema is None) == (name == "view_artifact")


def test_the_list_of_tools_is_short(agent):
    def size(level):
        return sum(
            len(tool.model_dump_json(exclude_none=True, by_alias=True)) for tool in agent(level).tools().values()
        )

    assert size("read") <= 8_000
    assert size("code") <= 12_000
    assert len(agent().server.instructions) <= 1_000


def test_tools_outside_a_level_are_unknown(agent, vault):
    assert "write_rows" in agent().refused("write_rows", table="new", rows=[{"a": 1}], create=True)
    assert vault.get_tables() == []


# --- reading ------------------------------------------------------------------------------------------------------


def test_overview_and_description_count_failed_and_skipped_cells(halves, agent):
    (row,) = agent().call("overview")["rows"]
    assert (row["table"], row["rows"], row["failed"], row["skipped"]) == ("halves", 4, 2, 2)
    found = agent().call("describe_table", table="halves")
    facts = found["facts"]
    assert (facts["row_count"], facts["failed"], facts["skipped"], facts["primary_key"]) == (4, 2, 2, ["n"])
    assert set(facts["builders"]) == {"halves_index", "half", "text"}
    assert found["rows"][0] == {"n": 0, "half": 0.0, "text": "0.0"}
    assert found["rows"][1]["half"] == {"failed": "ValueError: 1 is odd"}
    assert "skipped" in found["rows"][1]["text"]
    assert (found["returned"], found["total"], found["truncated"]) == (3, 4, True)


def test_errors_of_an_instance_and_of_a_process_are_counted_by_kind(halves, agent):
    found = agent().call("get_errors", table="halves", limit=1)
    assert ("ValueError", 2) in [(kind["error"], kind["rows"]) for kind in found["facts"]["kinds"]]
    assert found["rows"][0]["message"] == "1 is odd"
    assert (found["returned"], found["total"], found["truncated"]) == (1, 4, True)
    of_process = agent().call("get_errors", process_id="first")
    assert of_process["facts"]["kinds"]["failed: ValueError"] == 2
    assert "either table or process_id" in agent().refused("get_errors")
    for named in ({"table": "halves"}, {"process_id": "first"}):
        assert "rows from 1 to 1,000,000, not 0" in agent().refused("get_errors", limit=0, **named)


def test_a_failed_cell_is_traced_to_its_error(halves, agent):
    facts = agent().call("trace", table="halves", column="half", row="1")["facts"]
    assert facts["state"] == "failed"
    assert "1 is odd" in str(facts["error"])
    assert "def half(n)" in facts["source"]
    lineage = agent().call("trace", table="halves", column="text")["facts"]
    assert ".half" in str(lineage["steps"])


def test_query_names_its_inputs_and_its_number_of_rows(halves, agent):
    found = agent().call("query", sql="SELECT n FROM halves ORDER BY n", limit=3)
    assert found["rows"] == [{"n": 0}, {"n": 1}, {"n": 2}]
    assert (found["returned"], found["total"], found["truncated"]) == (3, 4, True)
    assert list(found["facts"]["instances"]) == ["halves"]
    assert "did you mean 'halves'" in agent().refused("query", sql="SELECT * FROM halfes")
    assert "halves" in agent().call("overview")["rows"][0]["table"]


def test_a_query_that_is_given_up_ends_its_statement(halves, agent, monkeypatch):
    monkeypatch.setattr(reading, "_SECONDS", 10 * PATIENCE)
    endless = "SELECT sum(a.n * b.n) FROM range(100000000000) a(n), range(100000000000) b(n), halves"

    async def give_up():
        async with Client(agent().server) as client, anyio.create_task_group() as group:
            group.start_soon(client.call_tool, "query", {"sql": endless})
            while not (found := statements()):
                await anyio.sleep(0.01)
            group.cancel_scope.cancel()
        return found

    def statements():
        # Those that have begun; `enumerate` also lists threads whose start is under way.
        return [thread for thread in threading.enumerate() if thread.name == "tablevault-sql" and thread.is_alive()]

    for statement in anyio.run(give_up):
        statement.join(PATIENCE)
        assert not statement.is_alive()


@pytest.mark.slow
def test_long_answers_are_cut_and_say_so(vault, agent):
    vault.write("long", pd.DataFrame({"x": range(1_000_000)}))
    reader = agent()
    for limit in (50, 1_000_000):
        found = reader.call("query", sql="SELECT x, 'words' AS t FROM long", limit=limit)
        assert found["total"] == 1_000_000
        assert found["returned"] < 1_000
        assert found["truncated"]
        assert "raise limit" in found["advice"]
    vault.write("huge", pd.DataFrame({"t": ["x" * 50_000_000]}))
    for rows in (
        reader.call("query", sql="SELECT * FROM huge")["rows"],
        reader.call("describe_table", table="huge")["rows"],
    ):
        (row,) = rows
        assert row["t"].endswith("… (length 50,000,000)")
        assert len(row["t"]) < 600
    # Tables as a vault of years has them, recorded directly.
    with closing(sqlite3.connect(Path(vault.db_dir, "metadata", "catalog.db"))) as catalog, catalog:
        columns = [row[1] for row in catalog.execute("PRAGMA table_info(tables)") if row[1] != "table_id"]
        made = {name: f"'t' || n || {name}" for name in ("name", "name_key", "folder")}
        catalog.execute(
            f"WITH RECURSIVE counted(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM counted WHERE n < 9998) "
            f"INSERT INTO tables ({', '.join(columns)}) "
            f"SELECT {', '.join(made.get(name, name) for name in columns)} FROM tables, counted WHERE name = 'huge'"
        )
    found = agent().call("overview")
    assert (found["total"], found["truncated"]) == (10_000, True)
    assert 0 < found["returned"] <= 200
    assert "filter" in found["advice"]
    assert agent().call("overview", filter="t9998huge")["total"] == 1


def test_a_difference_has_causes_and_examples(halves, vault, agent):
    before = vault.get_table_instances("halves")[-1]
    vault.create_code_module("job", text=CODE.replace("return n / 2", "return n * 2"))
    vault.create_instance("halves", copy=True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        vault.execute_instance("halves")
    found = agent().call("diff", before=f"halves({before})", after="halves")
    column = next(row for row in found["rows"] if row["column"] == "half")
    assert column["changed"] == 1
    assert column["examples"][0]["cause"]
    assert "failed" in str(found["rows"])


def test_sources_processes_and_plans_are_told(halves, agent, vault):
    assert agent().call("read_source", name="job")["rows"][1] == "import time"
    assert "changed_columns: [half]" in agent().call("read_source", name="half", table="halves")["rows"]
    assert any(row["process_id"] == "first" for row in agent().call("list_processes", table="halves")["rows"])
    assert agent().call("list_processes", status="paused")["rows"] == []
    process = agent().call("get_process", id="first")
    assert process["facts"]["process"]["status"] == "succeeded"
    assert {row["name"]: row["failed"] for row in process["rows"]}["half"] == 2
    vault.create_instance("halves", copy=True)
    (step,) = agent().call("plan_run", tables=["halves"])["rows"]
    assert step["table_name"] == "halves"


def test_artifacts_are_shown_by_their_type(vault, agent, tmp_path):
    dot = base64.b64decode(
        "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
    )
    code = (
        "from pathlib import Path\nimport pandas as pd\n\n\ndef made(folder):\n    folder = Path(folder)\n"
        f"    (folder / 'dot.png').write_bytes({dot!r})\n    (folder / 'note.txt').write_text('good')\n"
        "    (folder / 'long.txt').write_text('good' * 10_000)\n"
        "    (folder / 'page.html').write_text('<script>1</script>')\n"
        "    return pd.DataFrame({'f': ['dot.png', 'note.txt', 'page.html', None, 'long.txt']})\n"
    )
    builder = (
        "builder_type: IndexBuilder\nchanged_columns: [f]\ndtypes: {f: artifact_string}\npython_function: made\n"
        "code_module: files\nis_custom: true\narguments: {folder: ~ARTIFACT_FOLDER~}\n"
    )
    vault.create_code_module("files", text=code)
    vault.create_table("files")
    vault.create_instance("files", builders={"files_index": builder})
    vault.execute_instance("files")
    image, text, page = (
        agent().result("view_artifact", table="files", row=row, column="f").content[0] for row in range(3)
    )
    assert (image.type, image.mime_type, base64.b64decode(image.data)) == ("image", "image/png", dot)
    assert text.text == "good"
    assert re.fullmatch(r"page\.html: application/octet-stream, 18 bytes, SHA-256 [0-9a-f]{64}", page.text)
    assert "names no artifact" in agent().refused("view_artifact", table="files", row=3, column="f")
    assert "has no row 5" in agent().refused("view_artifact", table="files", row=5, column="f")
    long = agent().result("view_artifact", table="files", row=4, column="f").content[0].text
    assert (len(long) <= 20_000, long[-40:]) == (True, "… (cut; the whole text has 40,000 bytes)")


def test_resources_are_the_same_by_their_addresses(halves, agent):
    assert '"row_count":4' in agent().read("vault://tables/halves").replace(" ", "")
    instance = halves.get_table_instances("halves")[-1]
    assert "def half" in agent().read("vault://code/job")
    assert "python_function: half" in agent().read(f"vault://tables/halves/{instance}/builders/half")
    halves.create_tag("paper", ["halves"])
    assert instance in agent().read("vault://tables/halves/@paper")
    halves.create_code_module("long", text="\n".join(f"x{number} = {number}" for number in range(3_000)))
    *lines, last = agent().read("vault://code/long").splitlines()
    assert last == f"# The source is cut: {len(lines):,} of 3,000 lines."


def test_client_sees_only_its_limited_tables(halves, vault, agent):
    vault.write("secret", pd.DataFrame({"x": [1]}), process_id="secret-write")
    limited = agent("write", ["halves"])
    assert [row["table"] for row in limited.call("overview")["rows"]] == ["halves"]
    for name, arguments in {
        "describe_table": {"table": "secret"},
        "query": {"sql": "SELECT * FROM halves, secret"},
        "diff": {"before": "halves", "after": "secret"},
        "trace": {"table": "secret", "column": "x"},
        "get_errors": {"table": "secret"},
        "plan_run": {"tables": ["secret"]},
        "tag": {"tag": "t", "tables": ["secret"]},
        "write_rows": {"table": "secret", "rows": [{"x": 2}]},
        "retry_failed": {"table": "secret"},
    }.items():
        assert "There is no table 'secret'" in limited.refused(name, **arguments), name
    assert "no process 'secret-write'" in limited.refused("get_process", id="secret-write")
    assert "secret" not in str(limited.call("list_processes"))
    assert "whole vault" in limited.refused("query", sql="SELECT * FROM vault.tables")
    with pytest.raises(TVArgumentError, match="Forbidden Table Name"):
        agent("read", ["halves(v2)"])
    assert limited.call("query", sql="SELECT count(*) AS n FROM halves")["rows"] == [{"n": 4}]


READS_SECRET = """
import pandas as pd


def keys(secret):
    return pd.DataFrame({"k": list(secret["k"])})


def length(k, word):
    return len(word)
"""


def test_limited_tables_leave_names_and_ids_of_others(vault, agent, monkeypatch):
    monkeypatch.setattr(access, "_AT_ONCE", 2)
    vault.write("secret", pd.DataFrame({"k": ["a"], "word": ["hidden word"]}), primary_key=["k"], process_id="nightly")
    vault.create_code_module("job", text=READS_SECRET)
    vault.create_table("open")
    index = INDEX.replace("numbers", "keys").replace("[n]", "[k]").replace("{count: %d}", '{secret: "<<secret>>"}')
    word = COLUMN % ("length", "length", "k", "k") + "untracked: []\n"
    word = word.replace("}\n", ', word: "<<secret.word[k::<<self.k[index]>>]>>"}\n', 1)
    vault.create_instance("open", builders={"open_index": index, "length": word})
    vault.execute_instance("open", process_id="opened")
    for number in range(5):
        vault.create_tag(f"t{number}", ["secret"])
    limited = agent("read", ["open"])
    cell = limited.call("trace", table="open", column="length", row="a")["facts"]
    assert (cell["value"], cell["arguments"]) == (11, None)
    assert "not open" in cell["notes"][-1]
    steps = limited.call("trace", table="open", column="length")["facts"]["steps"]
    assert all({"author", "process_id"}.isdisjoint(step) for step in steps.values() if step["table"] == "secret")
    assert any(step["table"] == "secret" for step in steps.values())
    assert "hidden word" in str(agent().call("trace", table="open", column="length", row="a"))
    # Processes of other tables are passed over, however many there are.
    found = limited.call("list_processes", status="succeeded")
    assert found["rows"][0]["process_id"] == "opened"
    assert found["total"] == 3
    assert limited.refused("get_process", id="nightly").replace("nightly", "nightl") == limited.refused(
        "get_process", id="nightl"
    )
    # Neither is a process whose steps are of other tables.
    vault.create_instance("open", copy=True)
    vault.refresh(["open"], upstream=False, process_id="small")
    assert limited.call("get_process", id="small")["facts"]["process"]["operation"] == "refresh"


@pytest.mark.parametrize(
    ("name", "arguments", "told"),
    [
        ("stop_run", {"id": "x", "materialise": True}, "no argument 'materialise'; did you mean 'materialize'?"),
        ("overview", {"filter": 5}, "filter: Input should be a valid string"),
        ("describe_table", {}, "table: Field required"),
        ("write_rows", {"table": "t", "rows": ["x"] * 1_000}, "rows.0: Input should be a valid dictionary"),
        ("describe_table", {"table": "x" * 100_000}, "There is no table 'xxx"),
        ("wait_run", {"id": "x", "seconds": "nan"}, "not NaN"),
    ],
)
def test_wrong_calls_say_why_in_a_few_words(agent, name, arguments, told):
    text = agent("write").refused(name, **arguments)
    assert told in text
    assert len(text) < 5_000


def test_columns_of_a_wide_table_are_told_whole_as_far_as_they_fit(vault, agent):
    vault.write("wide", pd.DataFrame({f"some_column_{number}": [1] for number in range(2_000)}))
    found = agent().call("describe_table", table="wide")
    *names, last = found["facts"]["columns"]
    assert names == [f"some_column_{number}" for number in range(len(names))]
    assert len(names) > 100
    assert found["facts"]["columns"][last] == "2,000 items"
    assert found["facts"]["instance"] == vault.get_table_instances("wide")[0]
    assert found["truncated"]


@pytest.mark.slow
def test_calls_of_the_reading_level_change_nothing(halves, vault, agent):
    def content():
        root = Path(vault.db_dir)
        return {
            path.relative_to(root): path.read_bytes()
            for path in root.rglob("*")
            if path.is_file() and "metadata" not in path.parts
        }

    before, reader, chance = content(), agent(), random.Random(3)
    values = ["halves", "halves(TEMP_base)", "half", "job", "first", "1", "", "../x", "SELECT 1", "a@b", 3, -1, True]
    tools = reader.tools()
    for _ in range(200):
        name = chance.choice(sorted(tools))
        given = {key: chance.choice(values) for key in tools[name].input_schema.get("properties", {})}
        reader.result(name, **given)
    assert content() == before
    assert len(vault.get_history()) == len(TableVault(vault.db_dir).get_history())


# --- writing ------------------------------------------------------------------------------------------------------


def test_rows_are_written_under_the_name_of_the_client(vault, agent):
    writer = agent("write")
    assert "There is no table 'notes'" in writer.refused("write_rows", table="notes", rows=[{"a": 1}])
    process_id = writer.call("write_rows", table="notes", rows=[{"a": 1}, {"a": None}], create=True)["facts"][
        "process_id"
    ]
    assert vault.read("notes")["a"].tolist()[0] == 1
    assert re.fullmatch(r"ada via \S+", vault.get_process(process_id).author)
    assert "1 to 1,000 rows" in writer.refused("write_rows", table="notes", rows=[])
    writer.call("tag", tag="paper", tables=["notes"])
    assert [tag.tag for tag in vault.get_tags()] == ["paper"]


@pytest.mark.slow
def test_a_run_is_started_followed_and_ended(vault, agent):
    make_halves(vault, count=40)
    vault.delete_builder_file("half", "halves")
    vault.delete_builder_file("text", "halves")
    vault.create_builder_file("halves", "slow", text=COLUMN % ("slow", "slow", "n", "n"))
    writer = agent("write")
    process_id = writer.call("start_run", tables=["halves"])["facts"]["process_id"]
    assert re.fullmatch(r"mcp-\d{8}T\d{6}Z", process_id)
    assert ended(agent("write"), process_id)["status"] == "succeeded"
    assert len(vault.read("halves")) == 40
    with pytest.warns(TableVaultWarning, match="already succeeded"):
        facts = writer.call("start_run", tables=["halves"], process_id=process_id)["facts"]
    assert facts["process_id"] == process_id
    (warning,) = facts["warnings"]
    assert "already succeeded" in warning
    assert "warnings" not in writer.call("overview")["facts"]


@pytest.mark.slow
def test_failed_rows_are_retried_in_the_background(halves, vault, agent):
    vault.create_code_module("job", text=CODE.replace("FIXED = False", "FIXED = True"))
    writer = agent("write")
    process_id = writer.call("retry_failed", table="halves")["facts"]["process_id"]
    assert ended(writer, process_id)["status"] == "succeeded"
    assert vault.get_process(process_id).operation == "retry_failed"
    assert vault.read("halves")["half"].tolist() == [0.0, 0.5, 1.0, 1.5]


@pytest.mark.slow
def test_only_background_runs_are_stopped_by_force(vault, agent):
    make_halves(vault, count=2_000)
    vault.delete_builder_file("half", "halves")
    vault.delete_builder_file("text", "halves")
    vault.create_builder_file("halves", "slow", text=COLUMN % ("slow", "slow", "n", "n"))
    writer = agent("write")
    process_id = writer.call("start_run", tables=["halves"])["facts"]["process_id"]
    assert writer.call("wait_run", id=process_id, seconds=1)["facts"]["is_over"] is False
    stopped = writer.call("stop_run", id=process_id)["facts"]["process"]
    assert stopped["status"] == "stopped"


@pytest.mark.slow
def test_code_and_builders_are_written_and_run(vault, agent):
    coder = agent("code")
    coder.call("write_code", module="job", text=CODE)
    files = {"halves_index": INDEX % 3, "slow": COLUMN % ("slow", "slow", "n", "n")}
    coder.call("write_builders", table="halves", files=files)
    process_id = coder.call("start_run", tables=["halves"])["facts"]["process_id"]
    assert ended(coder, process_id)["status"] == "succeeded"
    coder.call("write_builders", table="halves", files={"halves_index": INDEX % 5})
    process_id = coder.call("start_run", tables=["halves"])["facts"]["process_id"]
    assert ended(coder, process_id)["status"] == "succeeded"
    assert vault.read("halves")["slow"].tolist() == [0, 1, 2, 3, 4]
