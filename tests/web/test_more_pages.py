"""Pages of errors, statements, lineage and the graph of tables."""

from __future__ import annotations

import threading
from datetime import UTC, datetime
from http.client import HTTPConnection
from urllib.parse import quote

import pytest
from asking import Client
from waiting import PATIENCE

from tablevault import TableVault
from tablevault.presentation import statements
from tablevault.presentation.errors import read_errors
from tablevault.presentation.graphs import graph_of_lineage
from tablevault.presentation.instances import instance_address
from tablevault.records import Lineage, LineageStep
from tablevault.web import application, pages, site
from tablevault.web.layered_graph import HEIGHT, WIDTH, lay_out


def test_errors_are_counted_by_kind(reader):
    data = reader.get("/table/answers/base/errors.json").json
    kinds = [(kind["kind"], kind["error"], kind["rows"]) for kind in data["kinds"]]
    assert kinds == [("failed", "ValueError", 3), ("failed", "KeyError", 1), ("skipped", "answer.answer", 4)]
    assert [row["index"] for row in data["rows"] if row["kind"] == "failed"] == [7, 47, 87, 90]
    text = reader.get("/table/answers/base/errors").text
    assert "&lt;b&gt;no answer&lt;/b&gt; to 87" in text
    assert reader.get("/table/stories/base/errors.json").json["total"] == 0


def test_errors_are_read_by_key(shown, reader):
    address = instance_address("answers", "base")
    first = read_errors(shown.vault, address, "", 3)
    rest = read_errors(shown.vault, address, first.after, 100)
    assert first.after == "answer:87"
    assert [row.index for row in (*first.rows, *rest.rows)] == [7, 47, 87, 90] * 2
    assert rest.after == ""
    for text in ("answer:8", "answer", "x:7", "answer:-7", "answer:99999999999999999999"):
        answer = reader.get(f"/table/answers/base/errors?after={quote(text)}")
        assert answer.status == 404
        assert "answer:17" in answer.text


def test_statement_shows_rows_and_inputs(shown, reader):
    sql = "SELECT number, title FROM stories WHERE number >= 228 ORDER BY number"
    data = reader.get(f"/sql.json?q={quote(sql)}").json
    assert [[cell["text"] for cell in row["cells"]] for row in data["frame"]["rows"]] == [
        ["228", "story 228"],
        ["229", "story 229"],
    ]
    assert data["instances"] == {"stories": shown.name}
    assert not data["is_cut"]
    assert "story 229" in reader.get(f"/sql?q={quote(sql)}").text


def test_statement_returns_a_thousand_rows_at_most(reader):
    data = reader.get(f"/sql.json?q={quote('SELECT * FROM range(1500) t(n)')}").json
    assert len(data["frame"]["rows"]) == 1000
    assert data["is_cut"]


@pytest.mark.parametrize(
    ("sql", "told"),
    [
        ("SELEC 1", "syntax error"),
        ("FROM storis", "stories"),
        ("DROP TABLE stories", "refused"),
        ("COPY stories TO '/tmp/x'", "refused"),
        ("SELECT * FROM read_text('/etc/passwd')", "read_text"),
        ("SELECT " + "1, " * 3000 + "1", "at most 8,000 characters"),
    ],
)
def test_statement_that_fails_is_told_why(reader, sql, told):
    answer = reader.get(f"/sql?q={quote(sql)}")
    assert answer.status == 400
    assert told in answer.text


def test_statements_run_one_at_a_time(shown, monkeypatch):
    monkeypatch.setattr(site, "_PATIENCE", 0.05)
    shown_site = site.Site(shown.vault, allow_writes=False)
    with shown_site.alone(), pytest.raises(site.Busy, match="still running"), shown_site.alone():
        pass
    with shown_site.alone():
        pass


def test_statement_that_takes_too_long_is_ended(reader, monkeypatch):
    monkeypatch.setattr(statements, "_SECONDS", 0.2)
    endless = "SELECT sum(a.n * b.n) FROM range(10000000) a(n), range(10000000) b(n)"
    answer = reader.get(f"/sql?q={quote(endless)}")
    assert answer.status == 400
    assert "took longer" in answer.text


def test_statements_that_wait_leave_the_other_pages_alone(shown, monkeypatch):
    monkeypatch.setattr(application, "_MAXIMUM_SECONDS", 5.0)
    gate = threading.Event()
    monkeypatch.setattr(
        pages, "run_statement", lambda vault, statement: gate.wait(PATIENCE) and statements.unrun(statement)
    )
    server = shown.vault.serve(block=False)
    client = Client(server.url)
    waiting = [HTTPConnection("127.0.0.1", client.port, timeout=PATIENCE) for _ in range(60)]
    try:
        for connection in waiting:
            connection.request("GET", "/sql?q=SELECT+1", headers=client.bearer)
        assert client.get("/processes").status == 200
    finally:
        gate.set()
        for connection in waiting:
            assert connection.getresponse().status in (200, 503)
            connection.close()
        server.close()


def test_page_that_takes_too_long_is_given_up(reader, monkeypatch):
    monkeypatch.setattr(application, "_MAXIMUM_SECONDS", 0.2)
    monkeypatch.setattr(statements, "_SECONDS", 1.0)
    endless = quote("SELECT sum(a.n * b.n) FROM range(10000000) a(n), range(10000000) b(n)")
    answer = reader.get(f"/sql?q={endless}")
    assert answer.status == 503
    assert "took longer" in answer.text
    # The next one waits for the statement that is still running.
    monkeypatch.setattr(application, "_MAXIMUM_SECONDS", 60.0)
    monkeypatch.setattr(site, "_PATIENCE", 60.0)
    assert reader.get(f"/sql?q={quote('SELECT count(*) FROM stories')}").status == 200


def test_draft_is_not_run(reader):
    data = reader.get(f"/sql.json?draft={quote('SELECT * FROM stories')}").json
    assert data["frame"] is None
    assert data["statement"] == "SELECT * FROM stories"


def test_column_headers_sort_by_statements(reader):
    text = reader.get("/table/stories/@paper").text
    path = text.split('title="Sort by this column')[0].rpartition('href="')[2].partition('"')[0]
    assert path.startswith("/sql?q=")
    assert reader.get(path.replace("&amp;", "&")).status == 200


@pytest.fixture(scope="module")
def chain(tmp_path_factory):
    """Five tables, each written from the one before, the first twice; and a client."""
    vault = TableVault(tmp_path_factory.mktemp("chain") / "vault", author="ada", create=True)
    vault.write("t0", _frame(0))
    vault.write("t0", _frame(1))
    for number in range(1, 5):
        source = vault.get_table_instances(f"t{number - 1}")[-1]
        vault.write(f"t{number}", _frame(number), dependencies=[(f"t{number - 1}", source)])
    server = vault.serve(block=False)
    yield Client(server.url)
    server.close()


def _frame(number):
    import pandas as pd

    return pd.DataFrame({"x": [number], "y": [number]})


def test_lineage_follows_some_steps_and_counts_the_rest(chain):
    data = chain.get("/lineage/t2/base.json?up=1&down=1").json
    nodes = {node["table_name"]: node for node in data["graph"]["nodes"]}
    assert sorted(nodes) == ["t1", "t2", "t3"]
    assert nodes["t2"]["state"] == "asked for"
    assert (nodes["t1"]["more_inputs"], nodes["t3"]["more_users"]) == (1, 1)
    ends = {(edge["source"].partition("(")[0], edge["target"].partition("(")[0]) for edge in data["graph"]["edges"]}
    assert ends == {("t1", "t2"), ("t2", "t3")}
    html = chain.get("/lineage/t2/base?up=1&down=1").text
    assert html.count("<rect") == 3
    assert "1 more" in html
    assert len(chain.get("/lineage/t2/base.json?up=9&down=9").json["graph"]["nodes"]) == 5


def test_lineage_has_a_hundred_nodes_at_most():
    def step(name, *users):
        made = datetime(2026, 1, 1, tzinfo=UTC)
        return LineageStep(
            name, "base_1_a", "x", "", "", {}, (), None, None, "p", "ada", made, True, False, used_by=users
        )

    asked = step("asked", *(step(f"user{number}") for number in range(150)))
    graph = graph_of_lineage(Lineage("asked", "base_1_a", (asked,)), by_column=False, up=2, down=2)
    assert len(graph.nodes) == 100
    assert len(graph.edges) == 99
    assert graph.nodes[0].more_users == 51


def test_lineage_of_a_column_names_columns(reader):
    data = reader.get("/lineage/answers/base.json?column=words").json
    assert sorted(node["title"] for node in data["graph"]["nodes"]) == [
        "answers.answer", "answers.number", "answers.words",
    ]  # fmt: skip
    assert reader.get("/lineage/answers/base?column=word").status == 404
    assert reader.get("/lineage/broken/TEMP_base").status == 404


def test_graph_has_all_tables_with_their_states(reader):
    data = reader.get("/graph.json").json
    assert {node["title"]: node["state"] for node in data["graph"]["nodes"]}["hostile"] == "external"
    assert data["after"] == ""
    assert 'class="node external"' in reader.get("/graph").text


@pytest.mark.parametrize(
    ("address", "path"),
    [
        ("stories@paper", "/table/stories/{first}"),
        ("stories", "/table/stories/{newest}"),
        ("stories(TEMP_base)", "/table/stories/TEMP_base"),
        ("stories(base).json", "/table/stories/{newest}.json"),
        ("empty", "/table/empty"),
    ],
)
def test_address_leads_to_its_instance(shown, reader, address, path):
    first, newest = shown.vault.get_table_instances("stories")
    answer = reader.get(f"/at/{quote(address)}")
    assert (answer.status, answer.headers["Location"]) == (303, path.format(first=first, newest=newest))


@pytest.mark.parametrize("address", ["nothing", "stories(v9)", "stories@", "a b", "//evil.example"])
def test_address_of_nothing_is_not_found(reader, address):
    assert reader.get(f"/at/{quote(address)}").status == 404


def test_layout_has_inputs_to_the_left_and_no_overlaps():
    keys = [f"n{number}" for number in range(40)]
    edges = [(f"n{a}", f"n{b}") for a in range(40) for b in range(a + 1, 40) if (a * 7 + b * 5) % 23 == 0]
    drawing = lay_out(keys, edges)
    places = {box.key: (box.x, box.y) for box in drawing.boxes}
    assert all(places[source][0] + WIDTH < places[target][0] for source, target in edges)
    assert len(drawing.lines) == len(edges)
    boxes = list(places.values())
    for number, (x, y) in enumerate(boxes):
        assert 0 <= x <= drawing.width - WIDTH
        assert 0 <= y <= drawing.height - HEIGHT
        assert not [other for other in boxes[number + 1 :] if other[0] == x and abs(other[1] - y) < HEIGHT]


def test_layout_of_a_cycle_and_of_nothing():
    drawing = lay_out(["a", "b", "c"], [("a", "b"), ("b", "c"), ("c", "a"), ("a", "a")])
    assert len(drawing.lines) == 3
    assert len({box.x for box in drawing.boxes}) == 3
    assert lay_out([], []).boxes == ()
