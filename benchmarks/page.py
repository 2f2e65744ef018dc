"""Pages of large vaults, the first page in a browser, and a followed run (S5, S6, S7)."""

from __future__ import annotations

import contextlib
import http.server
import shutil
import statistics
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd
import psutil

from benchmarks import rows, vaults
from benchmarks.measuring import Result, Samples, Way, empty_folder, interleaved
from tablevault import TableVault

FEW = 10
"""Tables, instances and rows of the small vault."""
_REQUESTS = 20
"""Of each page in a round."""
_LONGEST = 0.1
"""Seconds until a page of a large vault is there."""
_POLLING = 3
"""Pages that poll once a second."""


class _Client:
    """Asks a server for pages."""

    def __init__(self, url: str) -> None:
        self.root, _, self._token = url.partition("/?token=")

    def get(self, path: str) -> bytes:
        """Return a page."""
        request = urllib.request.Request(self.root + path, headers={"Authorization": f"Bearer {self._token}"})
        with urllib.request.urlopen(request) as answer:
            content: bytes = answer.read()
            return content


@contextmanager
def _served(vault: TableVault) -> Iterator[_Client]:
    server = vault.serve(block=False)
    try:
        yield _Client(server.url)
    finally:
        server.close()


# --- S5 -----------------------------------------------------------------------------------------------------------


def large_vaults(count: int, rows_of_frame: int, rounds: int) -> list[Result]:
    """Pages of a vault with many tables, instances and rows (S5).

    The baseline is a vault with ten of each.
    """
    with empty_folder() as folder:
        few, many = _vault(folder / "few", FEW, FEW), _vault(folder / "many", count, rows_of_frame)
        places = {
            "/": ("/", "/"),
            "table": ("/table/listed", "/table/listed"),
            "row": (f"/table/frame/base/row/{FEW - 1}", f"/table/frame/base/row/{rows_of_frame * 9 // 10}"),
        }
        with _served(few) as small, _served(many) as large:
            ways: dict[str, Way] = {}
            for name, (one, other) in places.items():
                ways[f"{name} few"] = partial(_fetched, small, one)
                ways[f"{name} many"] = partial(_fetched, large, other)
            samples = interleaved(ways, rounds)
    texts = {
        "/": f"page of 100 of {count:,} tables, against one of {FEW}",
        "table": f"page of 100 of {count:,} instances, against one of {FEW}",
        "row": f"row at 90 % of {rows_of_frame:,}, against one of {FEW}",
    }
    return [_grown(text, samples[f"{name} many"], samples[f"{name} few"]) for name, text in texts.items()]


def _grown(what: str, many: Samples, few: Samples) -> Result:
    ratio = many.median / few.median
    is_reached = ratio <= 3 and many.median <= _LONGEST
    measured, baseline = f"{many.median * 1e3:.1f} ms", f"{few.median * 1e3:.1f} ms"
    return Result("S5", what, measured, baseline, ratio, "≤ 3 ×, 100 ms", is_reached, many.spread)


def _fetched(client: _Client, path: str, _: Path) -> float:
    taken = []
    for _number in range(_REQUESTS):
        start = time.perf_counter()
        client.get(path)
        taken.append(time.perf_counter() - start)
    return statistics.median(taken)


def _vault(folder: Path, count: int, rows_of_frame: int) -> TableVault:
    folder.mkdir()
    vault = vaults.new_vault(folder)
    vault.create_table("listed")
    for number in range(count):
        vault.create_table(f"table{number:05}")
        vault.write("listed", pd.DataFrame({"x": [number]}))
    numbers = range(rows_of_frame)
    texts = [f"text {number}" for number in numbers]
    vault.write("frame", pd.DataFrame({"key": numbers, "text": texts, "half": [number / 2 for number in numbers]}))
    return vault


# --- S6 -----------------------------------------------------------------------------------------------------------


def first_paint(rounds: int) -> list[Result]:
    """The first contentful paint of `/` in Chromium (S6).

    The baseline is the same bytes from `python -m http.server`.
    """
    from playwright.sync_api import sync_playwright

    with empty_folder() as folder:
        vault = _vault(folder / "vault", FEW, FEW)
        plain = folder / "plain"
        plain.mkdir()
        with _served(vault) as client, _files(plain) as other, sync_playwright() as playwright:
            (plain / "static").mkdir()
            (plain / "index.html").write_bytes(client.get("/"))
            for name in ("static/page.css", "static/page.js", "favicon.ico"):
                (plain / name).write_bytes(client.get(f"/{name}"))
            browser = playwright.chromium.launch(executable_path=_chromium(), args=["--no-sandbox"])
            context = browser.new_context(extra_http_headers={"Authorization": f"Bearer {client._token}"})
            ways: dict[str, Way] = {
                "page": partial(_painted, context, f"{client.root}/"),
                "files": partial(_painted, context, f"{other}/"),
            }
            samples = interleaved(ways, max(rounds, 7))
            browser.close()
    ratio = samples["page"].median / samples["files"].median
    return [
        Result(
            "S6",
            "first contentful paint of the first page, against its bytes from http.server",
            f"{samples['page'].median * 1e3:.0f} ms",
            f"{samples['files'].median * 1e3:.0f} ms",
            ratio,
            "≤ 2 ×",
            ratio <= 2,
            samples["page"].spread,
        )
    ]


def _chromium() -> str | None:
    return next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)


def _painted(context: Any, url: str, _: Path) -> float:
    page = context.new_page()
    page.goto(url)
    painted = page.evaluate(
        """() => new Promise(resolve => {
            const find = () => performance.getEntriesByName("first-contentful-paint")[0];
            const look = () => find() ? resolve(find().startTime) : setTimeout(look, 5);
            look();
        })"""
    )
    page.close()
    return float(painted) / 1e3


@contextmanager
def _files(folder: Path) -> Iterator[str]:
    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *arguments: object) -> None:
            """Say nothing."""

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(folder)))
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


# --- S7 -----------------------------------------------------------------------------------------------------------


def followed(count: int, rounds: int) -> list[Result]:
    """A run of many rows, with and without three pages that follow it (S7)."""
    processors: dict[str, list[float]] = {"alone": [], "followed": []}
    ways: dict[str, Way] = {
        name: partial(_run, count, is_followed=name == "followed", processor=taken)
        for name, taken in processors.items()
    }
    samples: Mapping[str, Samples] = interleaved(ways, rounds)
    # The first round does not count.
    times = {name: Samples(tuple(taken[1:])) for name, taken in processors.items()}
    return [
        _of_both(f"row-wise, {count:,} rows, with {_POLLING} pages that follow it", samples, "≤ 1.02 ×"),
        _of_both("the same, in CPU time of the run and of the page's server together", times, ""),
    ]


def _of_both(what: str, samples: Mapping[str, Samples], target: str) -> Result:
    alone, followed = samples["alone"], samples["followed"]
    ratio = followed.median / alone.median
    measured, baseline = f"{followed.median:.2f} s", f"{alone.median:.2f} s"
    return Result("S7", what, measured, baseline, ratio, target, ratio <= 1.02, followed.spread)


def _run(count: int, folder: Path, is_followed: bool, processor: list[float]) -> float:
    vault = vaults.new_vault(folder)
    rows.prepare(vault, count, vaults.row_builder())
    vaults.count_calls()
    command = [sys.executable, "-c", "from benchmarks.page import follow; follow()", vault.db_dir]
    # Without followers there is an idle interpreter instead, so that both ways begin alike.
    options = ["follow"] if is_followed else []
    with subprocess.Popen([*command, *options], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as follower:
        assert follower.stdout is not None
        follower.stdout.readline()
        both = [psutil.Process(), psutil.Process(follower.pid)]
        before = sum(sum(process.cpu_times()[:2]) for process in both)
        start = time.perf_counter()
        vault.execute_instance("marks", process_id="followed")
        taken = time.perf_counter() - start
        processor.append(sum(sum(process.cpu_times()[:2]) for process in both) - before)
        follower.kill()
    return taken


def follow() -> None:
    """Serve a vault, and request pages of a run every second until killed.

    Browsers do the same.
    """
    vault = TableVault(sys.argv[1])
    with _served(vault) as client:
        # Templates are compiled once in the life of a server.
        client.get(f"/process/{vault.get_history(limit=1)[0].process_id}?part=live")
        print("ready", flush=True)
        if len(sys.argv) < 3:
            sys.stdin.read()
        while True:
            for _ in range(_POLLING):
                with contextlib.suppress(urllib.error.HTTPError):
                    client.get("/process/followed?part=live")
                # Browsers do not ask at the same moment.
                time.sleep(1 / _POLLING)
