"""What the pages show, as HTML and as JSON."""

from __future__ import annotations

import re
from html import unescape

import pandas as pd
import pytest
from asking import Client

from tablevault import TableVault, TableVaultError
from tablevault.web import application, pages


def _words(text: str) -> str:
    return " ".join(unescape(re.sub(r"<[^>]+>", " ", text)).split())


def test_overview_lists_tables_and_processes(shown, reader):
    data = reader.get("/index.json").json
    assert [table["table_name"] for table in data["tables"]] == [
        "answers", "broken", "empty", "hostile", "media", "stories", "waiting",
    ]  # fmt: skip
    by_name = {table["table_name"]: table["newest"] for table in data["tables"]}
    assert (by_name["answers"]["failed_cells"], by_name["answers"]["skipped_cells"]) == (4, 4)
    assert by_name["empty"] is None
    assert "broken.json" in [process["process_id"] for process in data["active"]]
    assert len(data["ended"]) == 20
    text = _words(reader.get("/").text)
    assert "120 4 failed 4 skipped" in text
    assert "RuntimeError: <script>document.title='owned'</script> broke" in text


def test_states_of_tables_are_fetched_after_the_page(shown, reader):
    part = reader.get("/?part=live_status").text
    assert "data-fetch" not in part
    assert 'class="state external"' in part
    # They are known from then on, until something changes.
    assert 'class="state external"' in reader.get("/").text
    shown.vault.create_table("soon_gone")
    assert 'data-fetch="/?part=live_status' in reader.get("/").text
    shown.vault.delete_table("soon_gone")
    assert "never" in reader.get("/table/empty?part=live_status").text


def test_without_duckdb_nothing_offers_sql(shown, monkeypatch):
    monkeypatch.setattr(application, "has_sql", lambda: False)
    server = shown.vault.serve(block=False)
    try:
        text = Client(server.url).get("/table/stories/base").text
        assert "story 99" in text
        assert "/sql" not in text
    finally:
        server.close()


def test_table_lists_instances_and_tags(shown, reader):
    data = reader.get("/table/stories.json").json
    assert [item["tags"] for item in data["instances"]] == [[], ["paper"]]
    assert [item["instance_id"] for item in data["temporary"]] == ["TEMP_base"]
    text = _words(reader.get("/table/stories").text)
    assert "@paper" in text
    assert "<i>planned</i>" in text


@pytest.mark.parametrize("instance", ["base", "@paper", "{id}"])
def test_instance_is_found_by_version_tag_and_id(shown, reader, instance):
    path = f"/table/stories/{instance.format(id=shown.name)}"
    data = reader.get(f"{path}.json").json
    first = shown.vault.get_table_instances("stories")[0]
    assert data["facts"]["line"]["instance_id"] == (first if instance == "@paper" else shown.name)
    assert data["next_offset"] == 100
    assert len(data["frame"]["rows"]) == 100
    assert data["facts"]["primary_key"] == ["number"]
    assert [item["name"] for item in data["code"]] == ["shown"]
    assert "story 99" in reader.get(path).text


def test_rows_are_read_by_page(shown, reader):
    data = reader.get("/table/stories/base.json?row=200").json
    assert [row["position"] for row in data["frame"]["rows"]] == list(range(200, 230))
    assert data["next_offset"] is None
    assert data["frame"]["rows"][0]["cells"][1]["text"] == "tale 200"
    assert reader.get("/table/stories/base?row=x").status == 400
    assert reader.get("/table/stories/base?row=99999999999999999999").status == 400


def test_failed_and_skipped_cells_are_marked(reader):
    data = reader.get("/table/answers/base.json").json
    row = data["frame"]["rows"][7]
    assert [cell["state"] for cell in row["cells"]] == ["number", "failed", "skipped"]
    assert row["cells"][1]["failure"]["message"] == "<b>no answer</b> to 7"
    assert row["cells"][2]["failure"]["cause"] == "answer.answer"
    text = _words(reader.get("/table/answers/base").text)
    assert "failed ValueError: <b>no answer</b> to 7" in text
    assert "skipped because of answer.answer" in text


def test_row_has_the_traceback_of_a_failed_cell(reader):
    data = reader.get("/table/answers/base/row/7.json").json
    assert "raise ValueError" in data["tracebacks"]["answer"]
    text = _words(reader.get("/table/answers/base/row/7").text)
    assert 'raise ValueError(f"<b>no answer</b> to {number}")' in text


def test_temporary_instance_shows_cells_so_far_and_its_plan(reader):
    data = reader.get("/table/broken/TEMP_base.json").json
    states = [row["cells"][1]["state"] for row in data["frame"]["rows"]]
    assert states == ["number", "number", "number", "not computed", "not computed", "not computed"]
    assert [process["process_id"] for process in data["processes"]] == ["broken.json"]
    planned = reader.get("/table/stories/TEMP_base.json").json
    assert planned["plan"]["builders"]["stories_index"]["total"] is not None or planned["plan"]["builders"]
    assert "What an execution would do" in reader.get("/table/stories/TEMP_base").text


def test_long_texts_are_cut_and_whole_on_the_page_of_their_row(reader):
    data = reader.get("/table/hostile/base.json").json
    cell = data["frame"]["rows"][6]["cells"][0]
    assert (len(cell["text"]), cell["length"]) == (300, 1_000_000)
    assert "1,000,000 characters" in _words(reader.get("/table/hostile/base").text)
    assert "x" * 1_000_000 in reader.get("/table/hostile/base/row/6").text


def test_process_has_its_error_and_the_commands(reader):
    data = reader.get("/process/broken.json.json").json
    assert data["line"]["status"] == "paused"
    assert data["resumable_id"] == "broken.json"
    assert "RuntimeError" in data["error"]["traceback"]
    # An id that ends like the path of JSON is the process.
    text = _words(reader.get("/process/broken.json").text)
    for remedy in data["remedies"]:
        assert remedy["command"] in text
        assert remedy["python"] in text
    assert reader.get("/process/second.json").json["line"]["status"] == "succeeded"


def test_history_is_read_to_its_end_where_one_id_fills_a_page(tmp_path, monkeypatch):
    monkeypatch.setattr(pages, "PAGE", 3)
    vault = TableVault(tmp_path / "vault", create=True)
    vault.create_table("first", process_id="first")
    for _ in range(7):
        with pytest.raises(TableVaultError):
            vault.create_table("first", process_id="nightly")
    vault.create_table("last", process_id="last")
    server = vault.serve(block=False)
    try:
        path, found = "/processes.json?operation=create_table", []
        while path:
            page = Client(server.url).get(path).json
            found += [process["process_id"] for process in page["processes"]]
            path = f"/processes.json?operation=create_table&before={page['before']}" if page["before"] else ""
            assert len(found) <= 9
        assert found == ["last", *["nightly"] * 7, "first"]
        assert "before=6" in Client(server.url).get("/processes?before=9").text
    finally:
        server.close()


def test_history_is_filtered(shown, reader):
    data = reader.get("/processes.json?table=stories&operation=execute_instance").json
    assert data["processes"][0]["process_id"] == "second"
    assert all(process["table_name"] == "stories" for process in data["processes"])
    assert reader.get("/processes?status=pausd").status == 404


@pytest.mark.parametrize(
    ("path", "nearest"),
    [
        ("/table/storis", "stories"),
        ("/table/stories/@papr", "paper"),
        ("/table/stories/bas", "base"),
        ("/table/stories/base/row/999", "no row 999"),
        ("/process/secnd", "second"),
        ("/nowhere", "This page does not exist"),
        ("/table/stories/base?part=nothing", "This part of the page does not exist"),
    ],
)
def test_unknown_names_are_404_with_the_nearest(reader, path, nearest):
    answer = reader.get(path)
    assert answer.status == 404
    assert nearest in answer.text


def test_links_lead_to_nothing_that_is_gone(reader, tmp_path):
    # Neither to a row after the last one, nor to a difference of cells that are not there yet.
    assert "row/4" in reader.get("/table/broken/TEMP_base/row/5").text
    assert "row/6" not in reader.get("/table/broken/TEMP_base/row/5").text
    assert "/diff?" not in reader.get("/table/stories/TEMP_base").text
    vault = TableVault(tmp_path / "vault", create=True)
    for table_name, rows in (("kept", 1), ("kept", 2), ("gone", 1), ("old", 1)):
        vault.write(table_name, pd.DataFrame({"n": range(rows)}), process_id=f"{table_name}-{rows}")
    vault.create_instance("kept", copy=True, process_id="temporary")
    vault.delete_instance("TEMP_base", "kept")
    vault.delete_instance(vault.get_table_instances("kept")[0], "kept")
    vault.delete_table("gone")
    vault.rename_table("new", "old")
    server = vault.serve(block=False)
    try:
        client, seen, waiting = Client(server.url), {"/"}, ["/"]
        while waiting:
            path = waiting.pop()
            answer = client.get(path)
            assert answer.status in (200, 303), path
            targets = set(map(unescape, re.findall(r'(?:href|src)="(/[^"#]*)', answer.text))) - seen
            seen |= targets
            waiting += targets
    finally:
        server.close()
    assert {"/process/gone-1", "/process/old-1", "/process/kept-1", "/process/temporary", "/table/new"} <= seen
    assert "There are no more tables" in reader.get("/?after=zzz").text


def test_unchanged_pages_are_not_sent_again(reader):
    for path in ("/table/answers/base", "/table/answers/base.json", "/process/broken.json?part=live"):
        tag = reader.get(path).headers["ETag"]
        again = reader.get(path, **{"If-None-Match": tag})
        assert (again.status, again.body) == (304, b"")


def test_pages_have_no_inline_script_or_style(reader):
    for path in ("/", "/table/answers/base", "/table/media/base", "/process/broken.json"):
        text = reader.get(path).text
        assert not re.search(r"<script(?! src=)|<style|\sstyle=|\son\w+=", text)


def test_style_and_script_are_small_and_fetch_nothing_elsewhere(reader):
    page = reader.get("/").text
    for path in re.findall(r'(?:href|src)="(/static/[^"]+)"', page):
        answer = reader.get(path)
        assert len(answer.body) < 10_000
        assert "://" not in answer.text
        assert answer.headers["Content-Type"].partition(";")[0] in ("text/css", "text/javascript")
    assert "://" not in re.sub(r"<code.*?</code>", "", page)


def test_running_process_is_followed_and_ends(shown, reader):
    shown.run()
    try:
        data = reader.get("/process/waits.json").json
        assert data["line"]["status"] == "running"
        assert "data-poll" in reader.get("/process/waits").text
        assert 'data-poll="/?part=live_processes"' in reader.get("/?part=live_processes").text
        polled = reader.get("/table/waiting/TEMP_base?part=live_rows").text
        assert 'data-poll="/table/waiting/TEMP_base?row=0&amp;part=live_rows"' in polled
        assert "Rows so far" in polled
        states = []
        while states[:2] != ["number", "number"]:
            # The cells of the last 50 ms are not on disk yet.
            rows = reader.get("/table/waiting/TEMP_base.json").json["frame"]["rows"]
            states = [row["cells"][-1]["state"] for row in rows if len(row["cells"]) == 2]
        assert states[2:] == ["not computed"] * 4
        stop = reader.get("/process/waits/stop.json").json
        assert [choice["fields"] for choice in stop["choices"]] == [{"force": "1"}, {"force": "1", "materialize": "1"}]
        assert "--force" in stop["commands"][0]["command"]
    finally:
        shown.finish()
    part = reader.get("/process/waits?part=live").text
    assert "succeeded" in part
    assert "data-poll" not in part
    assert reader.get("/table/waiting/base.json").json["total"] == 6
