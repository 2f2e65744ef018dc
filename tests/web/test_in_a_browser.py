"""The page in Chromium.

The tests cover its appearance, its defences, and its live updates.
"""

from __future__ import annotations

import datetime
import os
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pandas as pd
import pytest
from asking import Client
from browsing import REBOUND, Visit, chromium_path, opened_browser
from playwright.sync_api import expect
from shown_vault import HOSTILE, column_builder, index_builder

import tablevault
from tablevault import TableVault

pytestmark = [
    pytest.mark.browser,
    pytest.mark.slow,
    # Where it has to be there, its absence is an error.
    pytest.mark.skipif(chromium_path() is None and os.environ.get("CI") != "true", reason="Chromium is not installed"),
]

PATHS = (
    "/",
    "/table/stories",
    "/table/empty",
    "/table/stories/base",
    "/table/answers/base",
    "/table/media/base",
    "/table/hostile/base",
    "/table/stories/TEMP_base",
    "/table/broken/TEMP_base",
    "/table/answers/base/row/7",
    "/table/media/base/row/0",
    "/table/hostile/base/row/3",
    "/table/answers/base/errors",
    "/diff?before=stories@paper&after=stories",
    "/lineage/answers/base",
    "/lineage/answers/base?column=words",
    "/processes",
    "/process/broken.json",
    "/process/broken.json/stop",
    "/table/stories/TEMP_base/execute",
    "/table/answers/base/retry",
    "/table/stories/base/tag",
    "/sql",
    "/sql?q=SELECT+*+FROM+answers",
    "/graph",
    "/nowhere",
)


ONE_OF_EACH = [path for path in PATHS if path not in (
    "/table/empty", "/table/hostile/base", "/table/broken/TEMP_base", "/table/media/base/row/0",
    "/table/hostile/base/row/3", "/lineage/answers/base", "/process/broken.json/stop", "/table/answers/base/retry", "/sql",
)]  # fmt: skip
"""One path of each template."""


@pytest.fixture
def browser():
    """A separate browser for each test.

    One that crashes fails no other test.
    """
    with opened_browser() as opened:
        yield opened


@contextmanager
def visiting(browser, client, **options):
    """Open a page that has the cookie of a server."""
    context = browser.new_context(**options)
    visit = Visit(context.new_page())
    visit.page.goto(f"{client.origin}/?token={client.token}")
    visit.root = client.origin
    try:
        yield visit
    finally:
        context.close()


def test_pages_are_accessible_and_fit_a_telephone(browser, writer):
    with visiting(browser, writer, viewport={"width": 360, "height": 740}) as visit:
        found = {}
        for path in PATHS:
            visit.page.goto(visit.root + path, wait_until="load")
            wrong = visit.violations() if path in ONE_OF_EACH else []
            if visit.overflow() > 0:
                wrong.append(f"{visit.overflow()} pixels too wide")
            if wrong:
                found[path] = wrong
        assert found == {}


def test_long_names_fit_a_telephone_and_stay_in_their_columns(browser, tmp_path):
    vault = TableVault(tmp_path / "vault", create=True)
    name, column, tag = "t" * 128, "c" * 300, "g" * 64
    vault.write(name, pd.DataFrame({column: [1], "list": [list(range(100))], "day": [datetime.date(2026, 1, 31)]}))
    vault.create_tag(tag, [name])
    server = vault.serve(block=False)
    try:
        with visiting(browser, Client(server.url), viewport={"width": 360, "height": 740}) as visit:
            for path in (
                f"/table/{name}/base",
                f"/table/{name}",
                f"/lineage/{name}/base",
                f"/lineage/{name}/base?column=day",
            ):
                visit.page.goto(visit.root + path)
                assert visit.overflow() <= 0, path
            visit.page.goto(f"{visit.root}/table/{name}/base")
            header = visit.page.locator(".frame th", has_text=column)
            assert header.evaluate("cell => getComputedStyle(cell).overflowX") == "hidden"
            cells = visit.page.locator(".frame td")
            heights = [
                cells.nth(place).evaluate("cell => cell.firstElementChild.getClientRects().length") for place in (2, 3)
            ]
            assert heights[0] < 12
            assert heights[1] == 1
    finally:
        server.close()


def test_records_of_a_notebook_fit_a_narrow_cell_in_whole_words(browser, shown):
    plan = shown.vault.plan_gc(keep_last=1)._repr_html_()
    context = browser.new_context(viewport={"width": 360, "height": 740})
    try:
        visit = Visit(context.new_page())
        visit.page.set_content(plan)
        assert visit.overflow() <= 0
        kept = visit.page.locator("td", has_text="keep").first
        lines = kept.evaluate(
            "cell => { const all = document.createRange(); all.selectNodeContents(cell); "
            "return new Set([...all.getClientRects()].map(line => Math.round(line.bottom / 8))).size; }"
        )
        assert lines == 1
    finally:
        context.close()


def test_pages_are_the_same_without_javascript(browser, writer):
    with (
        visiting(browser, writer, java_script_enabled=False) as plain,
        visiting(browser, writer, viewport={"width": 640, "height": 450}, device_scale_factor=2) as zoomed,
    ):
        for path in PATHS:
            plain.page.goto(plain.root + path)
            zoomed.page.goto(zoomed.root + path)
            assert zoomed.overflow() <= 0
            headings = [visit.page.locator("h1, h2").all_inner_texts() for visit in (plain, zoomed)]
            # Scripts add buttons that copy, and nothing else.
            assert headings[0] == [text.replace("copy", "") for text in headings[1]]
        # Forms and links do all that scripts would.
        plain.page.goto(plain.root + "/table/stories/base/tag")
        plain.page.fill("input[name=tag]", "by-form")
        plain.page.get_by_role("button", name="Tag it").click()
        assert "@by-form" in plain.page.inner_text("main")
        # The states of tables are not known any more, and nothing fetches them.
        plain.page.goto(plain.root + "/")
        plain.page.get_by_role("link", name="look").first.click()
        assert "Which tables read which" in plain.page.inner_text("h1")


def test_hostile_texts_stay_texts(browser, shown, reader):
    with visiting(browser, reader) as visit:
        visit.complaints.clear()
        for path in PATHS[:-1]:
            visit.page.goto(visit.root + path)
            assert "owned" not in visit.page.title()
            assert not visit.page.query_selector("main script, main [onerror], main [onload], main b b")
        refused = [text for text in visit.complaints if "Content Security Policy" in text or "Refused" in text]
        assert refused == []
        visit.page.goto(visit.root + "/table/hostile/base")
        text = visit.page.inner_text("main")
        for hostile in (
            HOSTILE[0],
            HOSTILE[1],
            HOSTILE[2],
            HOSTILE[4],
            HOSTILE[5],
            "\\u202egnp.exe",
            "\\x00 \\x1b[31m",
        ):
            assert hostile in text


def test_artifacts_never_reach_the_page(browser, reader):
    with visiting(browser, reader, accept_downloads=True) as visit:
        for name in ("page.html", "drawing.svg", "evil.png"):
            with visit.page.expect_download() as downloading:
                visit.page.evaluate(f"location.href = '/artifact/media/base/{name}'")
            assert downloading.value.suggested_filename == name
        visit.page.goto(visit.root + "/artifact/media/base/notes.txt")
        assert "<script>" in visit.page.inner_text("body")
        assert visit.page.evaluate("self.origin") == "null"
        visit.page.goto(visit.root + "/table/media/base")
        visit.page.wait_for_load_state("networkidle")
        loaded = visit.page.locator("img").evaluate_all(
            "images => images.map(image => [image.alt, image.naturalWidth])"
        )
        assert dict(loaded)["picture.png"] == 48
        assert "evil.png" not in dict(loaded)
        for position in (7, 12, 13):
            visit.page.goto(visit.root + f"/table/media/base/row/{position}")
            visit.page.wait_for_timeout(200)
            assert "owned" not in visit.page.title()


class _Elsewhere(BaseHTTPRequestHandler):
    """A site on another port, which attacks the page in every way that a site has."""

    target = ""

    def do_GET(self):
        page = f"""<!doctype html><title>elsewhere</title>
        <img src="{self.target}/"><script src="{self.target}/index.json"></script>
        <link rel="stylesheet" href="{self.target}/static/page.css">
        <iframe src="{self.target}/"></iframe><iframe src="{self.target}/artifact/media/base/notes.txt"></iframe>
        <object data="{self.target}/"></object><video src="{self.target}/artifact/media/base/tone.wav"></video>
        <form id="form" method="post" action="{self.target}/process/broken.json/stop" target="there">
        <input name="force" value="1"></form><iframe name="there"></iframe>
        <iframe sandbox="allow-forms allow-scripts" srcdoc='<form method="post"
          action="{self.target}/process/broken.json/stop"></form><script>document.forms[0].submit()</script>'></iframe>
        <a id="link" href="{self.target}/?token=TOKEN">open the page</a>
        <a id="wrong" href="{self.target}/?token=wrong">a wrong token</a>
        <a id="none" href="{self.target}/">no token</a>
        <script>
        document.getElementById("link").href = document.getElementById("link").href
            .replace("TOKEN", new URLSearchParams(location.search).get("t"));
        for (const mode of ["no-cors", "cors"])
          for (const method of ["GET", "POST"])
            fetch("{self.target}/process/broken.json/stop", {{method, mode, credentials: "include",
              headers: {{"Content-Type": "application/x-www-form-urlencoded"}},
              body: method === "POST" ? "force=1" : undefined}}).catch(() => 0);
        document.getElementById("form").submit();
        </script>""".encode()
        self.send_response(200)
        self.send_header("Content-Type", "text/html")
        self.end_headers()
        self.wfile.write(page)

    def log_message(self, *arguments):
        pass


@contextmanager
def elsewhere(target):
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Elsewhere", (_Elsewhere,), {"target": target}))
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def test_other_sites_reach_nothing(browser, shown, writer):
    before = len(shown.vault.get_history(limit=10_000))
    with visiting(browser, writer) as visit, elsewhere(writer.origin) as other:
        # Answers to the vault's own page may still be on their way.
        visit.page.goto("about:blank")
        visit.answers.clear()
        visit.page.goto(f"{other}/?t=x")
        visit.page.wait_for_load_state("networkidle")
        answers = [status for status, url in visit.answers if url.startswith(writer.origin)]
        asked = [url for url in visit.requests if url.startswith(writer.origin)]
        assert len(asked) >= 10
        assert answers
        assert set(answers) == {403}
        # A site whose name leads here, later on, shares neither the host nor the cookie.
        for path in ("/", f"/?token={writer.token}", "/index.json", "/static/page.js"):
            answer = visit.page.goto(f"http://{REBOUND}:{writer.port}{path}")
            assert answer.status == 421
            assert "hostile" not in visit.page.content()
        # The page's own forms work in the same browser.
        visit.page.goto(f"{writer.origin}/table/hostile/base/tag")
        visit.page.fill("input[name=tag]", "own")
        visit.page.get_by_role("button", name="Tag it").click()
        assert "@own" in visit.page.inner_text("main")
    assert shown.vault.get_process("broken.json").status == "paused"
    assert len(shown.vault.get_history(limit=10_000)) == before + 1


def test_link_with_the_token_opens_from_another_port(browser, reader):
    context = browser.new_context()
    local = reader.origin.replace("127.0.0.1", "localhost")
    with elsewhere(local) as other:
        page = context.new_page()
        start = f"{other.replace('127.0.0.1', 'localhost')}/?t={reader.token}"
        page.goto(start)
        for name in ("#none", "#wrong"):
            with page.expect_navigation() as going:
                page.click(name)
            assert going.value.status == 403
            page.goto(start)
        page.click("#link")
        page.wait_for_url(f"{local}/")
        assert "Tables" in page.inner_text("main")
        assert "token" not in page.url
        page.reload()
        page.get_by_role("link", name="stories", exact=True).first.click()
        page.wait_for_selector("h1:has-text('stories')")
    context.close()


CODE = """
import time
from pathlib import Path

def numbers(count):
    return list(range(count))

def slow(number, gate):
    if number == 7000 and not Path(gate).exists():
        raise ValueError("<b>stop here</b>")
    if number % 20 == 0:
        time.sleep(0.008)
    while number == 9950 and not Path(gate).with_name("end").exists():
        time.sleep(0.02)
    return number
"""


FAILING = """
from pathlib import Path

def numbers(count):
    return list(range(count))

def fragile(number, folder):
    with Path(folder, "calls").open("a") as calls:
        calls.write(f"{number}\\n")
    if (number == 2 or number >= 4) and not Path(folder, "gate").exists():
        raise ValueError(f"not yet {number}")
    return number * 2

def more(doubled):
    return doubled + 1
"""


def test_run_is_followed_to_its_end_without_reload(browser, tmp_path):
    gate = tmp_path / "gate"
    vault = TableVault(tmp_path / "vault", author="ada", create=True)
    vault.create_code_module("shown", text=CODE)
    vault.create_table("long")
    vault.create_instance(
        "long",
        builders={
            "long_index": index_builder(10_000),
            "slow": column_builder("slow", "slow", arguments={"gate": str(gate)}),
        },
    )
    server = vault.serve(block=False, allow_writes=True)
    with visiting(browser, Client(server.url)) as visit:
        page = visit.page
        page.goto(f"{visit.root}/table/long/TEMP_base/execute")
        page.get_by_role("button", name="Execute").click()
        page.evaluate("window.same = true")
        seen = set()
        while page.locator("#live h1 .paused").count() == 0:
            seen.update(page.locator("progress").evaluate_all("bars => bars.map(bar => bar.value)"))
            page.wait_for_timeout(100)
        assert len(seen) > 2
        assert page.evaluate("window.same")
        text = page.inner_text("main")
        assert "ValueError: <b>stop here</b>" in text
        assert 'raise ValueError("<b>stop here</b>")' in text
        assert "stop-process page-" in text
        gate.touch()
        rows = page.context.new_page()
        page.get_by_role("button", name="Resume").click()
        page.evaluate("window.same = true")
        # A page of rows is kept up to date as well, where it is scrolled to.
        rows.goto(f"{visit.root}/table/long/TEMP_base?row=9900")
        rows.locator("#live_rows .scroll").evaluate("box => { box.scrollTop = 40; window.same = true; }")
        try:
            expect(rows.locator("#live_rows .null")).to_have_count(50, timeout=60_000)
        finally:
            gate.with_name("end").touch()
        rows.get_by_role("link", name="Go to long").wait_for(timeout=60_000)
        assert rows.evaluate("window.same")
        assert rows.locator("#live_rows .scroll").evaluate("box => box.scrollTop") == 40
        page.wait_for_selector("#live h1 .succeeded", timeout=60_000)
        assert page.evaluate("window.same")
        assert "10,000 of 10,000" in page.inner_text("main")
    server.close()
    assert len(vault.read("long")) == 10_000


def test_failed_rows_are_retried_by_a_click(browser, tmp_path):
    (tmp_path / "calls").write_text("")
    vault = TableVault(tmp_path / "vault", author="ada", create=True)
    vault.create_code_module("shown", text=FAILING)
    vault.create_table("kept")
    vault.create_instance(
        "kept",
        builders={
            "kept_index": index_builder(40),
            "doubled": column_builder(
                "fragile",
                "doubled",
                arguments={"folder": str(tmp_path)},
                on_error="collect",
                max_failures="100%",
                max_consecutive_failures=100,
            ),
            "more": column_builder("more", "more", needs="doubled"),
        },
    )
    with pytest.warns(tablevault.TableVaultWarning, match="37"):
        vault.execute_instance("kept")
    (tmp_path / "calls").write_text("")
    server = vault.serve(block=False, allow_writes=True)
    with visiting(browser, Client(server.url)) as visit:
        page = visit.page
        page.goto(f"{visit.root}/table/kept/base")
        assert page.locator("td.failed, td .failed").count() == 37
        page.goto(f"{visit.root}/table/kept/base/row/5")
        assert "ValueError: not yet 5" in page.inner_text("main")
        page.goto(f"{visit.root}/table/kept/base/errors")
        assert "37" in page.inner_text("main table")
        page.get_by_role("link", name="Retry failed rows").click()
        (tmp_path / "gate").touch()
        page.get_by_role("button", name="Retry in the background").click()
        page.wait_for_selector("#live h1 .succeeded", timeout=60_000)
    server.close()
    assert sorted(map(int, (tmp_path / "calls").read_text().split())) == [2, *range(4, 40)]
    assert list(vault.read("kept")["more"]) == [number * 2 + 1 for number in range(40)]


def test_ids_are_copied_by_a_click_and_reached_by_keyboard(browser, shown, reader):
    with visiting(browser, reader) as visit:
        visit.page.context.grant_permissions(["clipboard-read", "clipboard-write"])
        visit.page.goto(visit.root + "/process/broken.json")
        visit.page.get_by_role("button", name="Copy broken.json").click()
        assert visit.page.evaluate("navigator.clipboard.readText()") == "broken.json"
        visit.page.goto(visit.root + "/")
        visit.page.keyboard.press("Tab")
        assert visit.page.evaluate("document.activeElement.textContent") == "Skip to the content"
        visit.page.keyboard.press("Enter")
        visit.page.keyboard.press("Tab")
        assert visit.page.evaluate("document.getElementById('main').contains(document.activeElement)")
