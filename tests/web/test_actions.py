"""Actions of the page, which need a flag."""

from __future__ import annotations

import contextlib
import re
import warnings
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace

import pandas as pd
import pytest
from asking import Client
from shown_vault import column_builder, index_builder
from waiting import PATIENCE

from tablevault import TableVault
from tablevault.presentation import process_ids

CODE = """
from pathlib import Path


def numbers(count):
    return list(range(count))


def fragile(number, gate):
    with Path(gate).with_name("calls").open("a") as calls:
        calls.write(f"{number}\\n")
    if (number in (2, 4) or number >= 5) and not Path(gate).exists():
        raise ValueError(f"not yet {number}")
    return number * 2


def more(doubled):
    return doubled + 1
"""


class Acted:
    """A vault with actions, whose function fails until the gate is open."""

    def __init__(self, folder) -> None:
        self.gate = folder / "gate"
        self.vault = TableVault(folder / "vault", author="ada", create=True)
        self.vault.create_code_module("shown", text=CODE)
        self.server = self.vault.serve(block=False, allow_writes=True)
        self.client = Client(self.server.url)

    def make(self, table_name: str, rows: int = 6, has_side_effects: bool = False, **policies: object) -> None:
        """Make a table that is ready to be executed."""
        self.vault.create_table(table_name, has_side_effects=has_side_effects)
        doubled = column_builder("fragile", "doubled", arguments={"gate": str(self.gate)}, **policies)
        self.vault.create_instance(
            table_name,
            builders={
                f"{table_name}_index": index_builder(rows),
                "doubled": doubled,
                "more": column_builder("more", "more", needs="doubled"),
            },
        )

    def calls(self) -> list[str]:
        """Return the numbers that the function was called with since, and forget them."""
        path = self.gate.with_name("calls")
        called = path.read_text().split() if path.exists() else []
        path.write_text("")
        return called

    def clicked(self, path: str, **fields: str) -> str:
        """Send a form as a click does; return where it leads."""
        answer = self.client.post(path, **fields)
        assert answer.status == 303, answer.text
        return answer.headers["Location"]

    def ended(self, process_id: str) -> str:
        """Wait for a process; return its status."""
        with contextlib.suppress(ValueError):
            self.vault.wait_process(process_id, timeout=PATIENCE)
        return self.vault.get_process(process_id).status


@pytest.fixture(scope="module")
def acted(tmp_path_factory):
    made = Acted(tmp_path_factory.mktemp("acted"))
    yield made
    made.server.close()


@pytest.mark.slow
def test_execute_pauses_and_resume_goes_on(acted):
    acted.gate.unlink(missing_ok=True)
    acted.make("runs")
    page = acted.client.get("/table/runs/TEMP_base/execute")
    assert "Execute it in the background" in page.text
    place = acted.clicked("/table/runs/TEMP_base/execute")
    process_id = place.removeprefix("/process/")
    assert re.fullmatch(r"page-\d{8}T\d{6}Z", process_id)
    assert acted.ended(process_id) == "paused"
    info = acted.vault.get_process(process_id)
    assert (info.author, info.operation) == ("ada via page", "execute_instance")
    # Nothing else is done with it meanwhile.
    assert acted.client.post("/table/runs/TEMP_base/execute").status == 409
    assert f'action="/process/{process_id}/resume"' in acted.client.get(place).text
    acted.gate.touch()
    assert acted.calls() == ["0", "1", "2"]
    assert acted.clicked(f"/process/{process_id}/resume") == place
    assert acted.ended(process_id) == "succeeded"
    assert acted.calls() == ["2", "3", "4", "5"]
    assert acted.client.post(f"/process/{process_id}/resume").status == 409
    assert list(acted.vault.read("runs")["more"]) == [1, 3, 5, 7, 9, 11]


@pytest.mark.slow
def test_retry_computes_the_failed_rows_only(acted):
    acted.gate.unlink(missing_ok=True)
    acted.make("kept", rows=40, on_error="collect", max_failures="100%", max_consecutive_failures=100)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        acted.vault.execute_instance("kept")
    acted.calls()
    instance = acted.vault.get_table_instances("kept")[0]
    errors = acted.client.get("/table/kept/base/errors.json").json
    assert [(kind["kind"], kind["rows"]) for kind in errors["kinds"]] == [("failed", 37), ("skipped", 37)]
    assert "37 failed and 37 skipped rows" in acted.client.get(f"/table/kept/{instance}/retry").text
    acted.gate.touch()
    process_id = acted.clicked(f"/table/kept/{instance}/retry").removeprefix("/process/")
    assert acted.ended(process_id) == "succeeded"
    assert sorted(map(int, acted.calls())) == [2, *range(4, 40)]
    data = acted.client.get("/table/kept/base.json").json
    assert data["facts"]["line"]["failed_cells"] == 0
    assert acted.client.post(f"/table/kept/{data['facts']['line']['instance_id']}/retry").status == 409


@pytest.mark.parametrize("materialize", [False, True])
def test_stop_names_the_lost_rows_and_can_keep_them(acted, materialize):
    acted.gate.unlink(missing_ok=True)
    name = f"stopped{materialize:d}"
    acted.make(name)
    with pytest.raises(ValueError, match="not yet"):
        acted.vault.execute_instance(name, process_id=f"{name}-1")
    text = acted.client.get(f"/process/{name}-1/stop").text
    assert "8 computed cells would be lost" in text
    assert "make it an instance" in text
    acted.clicked(f"/process/{name}-1/stop", **({"materialize": "1"} if materialize else {}))
    assert acted.vault.get_process(f"{name}-1").status == "stopped"
    assert len(acted.vault.get_table_instances(name)) == materialize
    assert acted.vault.get_history(operation="stop_process")[0].author == "ada via page"
    assert "has ended (stopped): there is nothing to stop" in acted.client.get(f"/process/{name}-1/stop").text


@pytest.mark.filterwarnings("default::tablevault.TableVaultWarning")
def test_warnings_of_an_action_are_on_the_page_that_it_leads_to(acted):
    acted.gate.unlink(missing_ok=True)
    acted.make("edited")
    with pytest.raises(ValueError, match="not yet"):
        acted.vault.execute_instance("edited", process_id="edited-1")
    path = Path(acted.vault.db_dir) / "edited" / "TEMP_base" / "builders" / "doubled.yaml"
    path.write_text(path.read_text() + "# <b>changed</b> meanwhile\n")
    place = acted.clicked("/process/edited-1/stop", materialize="1")
    told = "did not run; they are kept in"
    assert told not in acted.client.get("/").text
    assert "warnings" not in acted.client.get(f"{place}.json").json
    assert acted.client.get(place).text.count(told) == 1
    # Who looks again sees the page as it is.
    assert told not in acted.client.get(place).text


def test_stop_of_a_retry_loses_its_cells(acted):
    acted.gate.unlink(missing_ok=True)
    acted.make("retried", rows=4, on_error="collect", max_failures="100%")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        acted.vault.execute_instance("retried")
        with pytest.raises(ValueError, match="not yet"):
            acted.vault.retry_failed("retried", process_id="retry-1", policies={"doubled": {"on_error": "pause"}})
    data = acted.client.get("/process/retry-1/stop.json").json
    assert [choice["fields"] for choice in data["choices"]] == [{}]
    assert "reuse_partial" not in " ".join(data["sentences"])
    acted.clicked("/process/retry-1/stop")
    assert acted.vault.get_process("retry-1").status == "stopped"


def test_table_with_side_effects_cannot_be_read_while_it_executes(acted):
    acted.gate.touch()
    acted.make("mails", rows=3, has_side_effects=True)
    told = "its instances cannot be read"
    assert told in acted.client.get("/table/mails/TEMP_base/execute").text
    acted.vault.execute_instance("mails")
    (first,) = acted.vault.get_table_instances("mails")
    acted.gate.unlink()
    acted.vault.create_instance("mails", copy=True)
    with pytest.raises(ValueError, match="not yet"):
        acted.vault.execute_instance("mails", process_id="mails-1", force_execute=True)
    for path in (first, "TEMP_base", f"{first}/row/0", f"{first}/errors", "TEMP_base/execute"):
        answer = acted.client.get(f"/table/mails/{path}")
        assert answer.status == 409
        assert "cannot be read before its execution has ended" in answer.text
        assert 'href="/table/mails"' in answer.text
    assert "used by the paused process" in acted.client.get("/sql?q=FROM+mails").text
    # What may go on is shown and offered.
    page = acted.client.get("/table/mails").text
    assert "has side effects" in page
    assert 'href="/process/mails-1"' in page
    assert 'action="/process/mails-1/resume"' in acted.client.get("/process/mails-1").text
    assert "make it an instance" in acted.client.get("/process/mails-1/stop").text
    acted.clicked("/process/mails-1/stop")
    assert len(acted.client.get(f"/table/mails/{first}.json").json["frame"]["rows"]) == 3


def test_tags_are_created_and_moved(acted):
    for number in range(2):
        acted.vault.write("tagged", pd.DataFrame({"x": [number]}))
    first, second = acted.vault.get_table_instances("tagged")
    assert acted.clicked(f"/table/tagged/{first}/tag", tag="paper", description="as <b>sent</b>").endswith(first)
    assert "@paper" in acted.client.get(f"/table/tagged/{first}").text
    refused = acted.client.post(f"/table/tagged/{second}/tag", tag="paper")
    assert refused.status == 409
    assert "paper" in refused.text
    acted.clicked(f"/table/tagged/{second}/tag", tag="paper", move="1")
    assert [(tag.instance_id, tag.author) for tag in acted.vault.get_tags()] == [(second, "ada via page")]
    for wrong in ("", "newest", "../x", "a b"):
        assert acted.client.post(f"/table/tagged/{second}/tag", tag=wrong).status == 409


@pytest.mark.slow
def test_runs_are_resumed_without_their_source(acted, tmp_path):
    source = tmp_path / "doubles.py"
    text = (
        "from pathlib import Path\nfrom tablevault.define import Table\ndoubles = Table('doubles')\n"
        "@doubles.index()\ndef number():\n    return [1, 2]\n"
        f"@doubles.column()\ndef half(number):\n    return 1 / len(list(Path({str(tmp_path)!r}).glob('open')))\n"
    )
    source.write_text(text)
    with pytest.raises(ZeroDivisionError):
        acted.vault.run(source, process_id="doubles-1")
    source.write_text("raise SystemExit('it was read')")
    (tmp_path / "open").touch()
    # The page of the step leads to the whole run.
    assert 'action="/process/doubles-1/resume"' in acted.client.get("/process/doubles-1.doubles").text
    acted.clicked("/process/doubles-1.doubles/resume")
    assert acted.ended("doubles-1") == "succeeded"
    assert list(acted.vault.read("doubles")["half"]) == [1.0, 1.0]


def test_operations_of_other_kinds_show_the_command(acted):
    acted.vault.create_table("waits_for_frame")
    acted.vault.create_instance("waits_for_frame", external_edit=True)
    assert acted.client.post("/table/waits_for_frame/TEMP_base/execute").status == 409
    page = acted.client.get("/table/waits_for_frame/TEMP_base/execute").text
    assert "write_instance" in page
    assert "<form" not in page


def test_ids_of_the_page_are_numbered_within_a_second(acted, monkeypatch):
    moment = datetime(2026, 11, 28, 3, 48, 12, tzinfo=UTC)
    monkeypatch.setattr(process_ids, "datetime", SimpleNamespace(now=lambda zone: moment))
    ids, base = process_ids.ProcessIds(acted.vault, "page"), "page-20261128T034812Z"
    # Neither of a process, nor given to another request whose process has not begun.
    acted.vault.create_table("second", process_id=f"{base}-2")
    assert [ids.take() for _ in range(3)] == [base, f"{base}-3", f"{base}-4"]


def test_actions_on_missing_objects_are_refused(acted):
    for path in (
        "/table/none/TEMP_base/execute",
        "/table/none/base/retry",
        "/process/none/stop",
        "/process/none/resume",
    ):
        assert acted.client.post(path).status == 409
    for path in ("/", "/processes", "/table/x", "/static/page.css", "/nowhere"):
        assert acted.client.post(path).status in (404, 405)
    assert acted.client.get("/process/none/resume").status in (404, 405)


def test_nothing_is_offered_that_would_be_refused(writer):
    page = writer.get("/table/broken/TEMP_base/execute.json").json
    assert page["sentences"] == ["Process 'broken.json' (execute_instance) is paused: resume or stop it on its page."]
    assert (page["choices"], page["commands"]) == ([], [])
    page = writer.get("/table/stories/base/retry.json").json
    assert (page["choices"], page["commands"]) == ([], [])
    answer = writer.post("/table/stories/base/tag", tag="two words")
    assert (answer.status, "Not done" in answer.text) == (409, True)


def test_forms_are_read_strictly(acted):
    own = {**acted.client.bearer, "Origin": acted.client.origin, "Content-Type": "application/x-www-form-urlencoded"}
    for body in (b"tag=%ff", b"tag=\xff", b"&".join(b"a=1" for _ in range(50))):
        answer = acted.client.send("POST", "/table/tagged/base/tag", own, body)
        assert answer.status == 400


@pytest.mark.parametrize(
    "path",
    [
        "/process/broken.json/resume",
        "/process/broken.json/stop",
        "/table/stories/TEMP_base/execute",
        "/table/answers/base/retry",
        "/table/stories/base/tag",
        "/",
        "/nowhere",
    ],
)
def test_without_the_flag_every_form_is_refused(shown, reader, path):
    before = len(shown.vault.get_history(limit=10_000))
    answer = reader.post(path, tag="x", force="1")
    assert answer.status == 403
    assert "--allow-writes" in answer.text
    assert len(shown.vault.get_history(limit=10_000)) == before


def test_without_the_flag_the_same_places_show_commands(shown, reader):
    for path, command in (
        ("/process/broken.json/stop", "stop-process broken.json"),
        ("/table/stories/TEMP_base/execute", "execute-instance stories --version base"),
        ("/table/answers/base/retry", "retry-failed answers --instance-id"),
        ("/table/stories/base/tag", "tag NAME"),
    ):
        text = reader.get(path).text
        assert command in text
        assert "<form" not in text
    assert "<button" not in reader.get("/process/broken.json").text
