"""Vaults with more tables, instances and rows than a page has, and all links of one."""

from __future__ import annotations

import re
from html import unescape

import pandas as pd
import pytest
from asking import Client

from tablevault import TableVault
from tablevault.web import pages

TABLES = 205


@pytest.fixture(scope="module")
def many(tmp_path_factory):
    """A vault with many tables, one of which has many instances; and a client."""
    vault = TableVault(tmp_path_factory.mktemp("many") / "vault", author="ada", create=True)
    for number in range(TABLES - 1):
        vault.create_table(f"t{number:03}")
    for number in range(3):
        vault.write("Written", pd.DataFrame({"x": range(250 if number == 2 else number), "y": "<b>"}))
    server = vault.serve(block=False)
    yield Client(server.url)
    server.close()


def test_tables_are_listed_a_page_at_a_time(many, monkeypatch):
    names, path = [], "/index.json"
    while path:
        data = many.get(path).json
        names += [table["table_name"] for table in data["tables"]]
        path = f"/index.json?after={data['after']}" if data["after"] else ""
    assert names == [*(f"t{number:03}" for number in range(TABLES - 1)), "Written"]
    assert "/?after=t099" in many.get("/").text
    graph = many.get("/graph.json").json
    assert len(graph["graph"]["nodes"]) == 200
    assert len(many.get(f"/graph.json?after={graph['after']}").json["graph"]["nodes"]) == 5
    monkeypatch.setattr(pages, "PAGE", 2)
    first = many.get("/table/Written.json").json
    rest = many.get(f"/table/Written.json?before={first['before']}").json
    assert [item["rows"] for item in [*first["instances"], *rest["instances"]]] == [250, 1, 0]
    assert rest["before"] == ""


@pytest.mark.slow
def test_every_link_leads_somewhere_and_every_page_is_json_too(many):
    seen, waiting, pages_read = {"/"}, ["/"], 0
    while waiting:
        path = waiting.pop()
        answer = many.get(path)
        assert answer.status in (200, 303), path
        if answer.status == 303 or not answer.headers["Content-Type"].startswith("text/html"):
            continue
        pages_read += 1
        assert "token" not in answer.text
        # Pages of tables are all alike.
        if pages_read % 10 == 1 or "/t" not in path:
            place, _, query = path.partition("?")
            data = many.get(f"{'/index' if place == '/' else place}.json?{query}")
            assert data.status == 200, path
            shown = unescape(answer.text)
            assert [text for text in _ids(data.json) if text not in shown] == [], path
        for link in re.findall(r'(?:href|src|action)="([^"]+)"', answer.text):
            target = unescape(link).partition("#")[0]
            if target and target not in seen:
                seen.add(target)
                waiting.append(target)
    assert pages_read > 2 * TABLES


def _ids(data):
    """Yield the ids and names in what a page says as JSON."""
    if isinstance(data, dict):
        for name, value in data.items():
            if name in ("instance_id", "process_id", "table_name", "author") and isinstance(value, str):
                # Some are whole only in the title of an element.
                yield value
            else:
                yield from _ids(value)
    elif isinstance(data, list):
        for item in data:
            yield from _ids(item)
