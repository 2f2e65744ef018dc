"""The pages that compare instances and trace cells."""

from __future__ import annotations

from contextlib import closing
from datetime import datetime
from urllib.parse import quote

import pandas as pd
import pyarrow as pa
from asking import Client

from tablevault import TableVault
from tablevault.presentation import instances
from tablevault.presentation.differences import side_by_side


def test_difference_has_cells_with_causes_and_definitions(shown, reader):
    first, second = shown.vault.get_table_instances("stories")
    for query in (f"after=stories({second})", "after=stories", "before=stories@paper&after=stories(base)"):
        data = reader.get(f"/diff.json?{query}").json
        assert (data["before_id"], data["after_id"]) == (first, second)
    assert data["rows"] == {"added": 0, "removed": 0, "changed": 5, "same": 225, "not_computed": 0}
    cells = [(cell["key"], cell["column"], cell["before"]["text"], cell["after"]["text"]) for cell in data["cells"]]
    assert cells[0] == ("number=0", "title", "story 0", "tale 0")
    assert len(cells) == 5
    assert {cell["cause"] for cell in data["cells"]} == {"code"}
    assert [text["name"] for text in data["builders"]] == ["title"]
    text = reader.get("/diff?before=stories@paper&after=stories").text
    assert "tale 200" in text
    assert "python_function: other_title" in text


def test_failed_cells_are_marked_in_a_difference(shown, reader):
    vault = shown.vault
    vault.create_tag("whole", ["answers"])
    frame = vault.read("answers@whole", columns=["number", "answer"])
    vault.write("given", frame.fillna("given"), primary_key="number")
    data = reader.get("/diff.json?before=given&after=answers@whole").json
    failed = [cell for cell in data["cells"] if cell["cause"] == "failed: after"]
    assert [cell["key"] for cell in failed] == ["number=7", "number=47", "number=87", "number=90"]
    assert {(cell["before"]["text"], cell["after"]["state"]) for cell in failed} == {("given", "failed")}
    assert "failed or skipped" in reader.get("/diff?before=given&after=answers@whole").text
    vault.delete_table("given")
    vault.delete_tag("whole")


def test_difference_of_a_temporary_instance_counts_missing_rows(reader):
    answer = reader.get(f"/diff?before=stories&after={quote('stories(TEMP_base)')}")
    # Nothing was computed for it.
    assert answer.status == 404
    assert "has no frame" in answer.text


def test_difference_without_instances_is_a_form(reader):
    assert "<form" in reader.get("/diff").text
    assert reader.get("/diff.json").json is None
    for query in ("after=storis", "after=stories(", "after=stories&before=answers@x", "after=empty"):
        assert reader.get(f"/diff?{query}").status == 404


def test_lines_stand_side_by_side():
    unified = "--- a\n+++ b\n@@ -1,3 +1,3 @@\n same\n-old\n-gone\n+new\n end\n+last"
    lines = [(line.before, line.after, line.state) for line in side_by_side(unified)]
    assert lines == [
        ("@@ -1,3 +1,3 @@", "@@ -1,3 +1,3 @@", "place"),
        ("same", "same", "same"),
        ("old", "new", "changed"),
        ("gone", None, "changed"),
        ("end", "end", "same"),
        (None, "last", "changed"),
    ]


def test_row_traces_its_cells(shown, reader):
    second = shown.name
    traces = reader.get("/table/stories/base/row/50.json").json["traces"]
    assert traces["title"]["function"] == "shown.other_title"
    assert "def other_title" in traces["title"]["source"]
    assert '"number": 50' in traces["title"]["arguments"]
    assert (traces["title"]["instance_id"], traces["title"]["process_id"]) == (second, "second")
    assert traces["title"]["inputs"] == ["self.number"]
    text = reader.get("/table/stories/base/row/50").text
    assert "def other_title" in text
    failed = reader.get("/table/answers/base/row/7.json").json["traces"]
    assert [failed[name]["state"] for name in ("number", "answer", "words")] == ["computed", "failed", "skipped"]
    assert reader.get("/table/hostile/base/row/0.json").json["traces"]["text"]["state"] == "external"
    assert reader.get("/table/broken/TEMP_base/row/0.json").json["traces"] == {}


def test_rows_of_large_frames_are_traced_when_asked(reader, monkeypatch):
    monkeypatch.setattr(instances, "_MAXIMUM_TRACED_AT_ONCE", 10)
    page = reader.get("/table/stories/base/row/50")
    assert 'data-fetch="/table/stories/' in page.text
    assert "def other_title" not in page.text
    assert reader.get("/table/stories/base/row/50.json").json["traces"] is None
    part = reader.get("/table/stories/base/row/50?part=live_cells")
    assert "def other_title" in part.text
    assert "<html" not in part.text
    whole = reader.get("/table/stories/base/row/50?trace=1").text
    assert "def other_title" in whole
    assert "data-fetch" not in whole


def test_row_of_an_imported_instance_names_its_maker_without_a_link(tmp_path):
    source = TableVault(tmp_path / "source", author="ada", create=True)
    made = source.write("t", pd.DataFrame({"x": [1]}))
    vault = TableVault(tmp_path / "vault", author="eve", create=True)
    vault.import_instances(source.db_dir)
    own = vault.write("own", pd.DataFrame({"x": [1]}))
    with closing(vault.serve(block=False)) as server:
        text = Client(server.url).get("/table/t/base/row/0").text
        assert f"process {made}, by ada" in text
        assert f'<a href="/process/{own}">{own}</a>, by eve' in Client(server.url).get("/table/own/base/row/0").text


def test_time_beyond_those_of_python_is_traced_as_text(tmp_path):
    vault = TableVault(tmp_path / "vault", author="ada", create=True)
    times = pa.array([10**17, 0], pa.timestamp("ms"))
    vault.write("t", pa.table({"at": times, "all": pa.array([[time] for time in times])}))
    shown = "<value out of range: 100000000000000000>"
    assert vault.trace_cell("t", 0, "at").value == vault.trace_cell("t", 0, "all").value == shown
    assert vault.trace_cell("t", 1, "at").value == datetime(1970, 1, 1)
    with closing(vault.serve(block=False)) as server:
        row = Client(server.url).get("/table/t/base/row/0.json").json
        assert [row["cells"][0]["text"], row["traces"]["at"]["state"]] == [shown, "external"]
