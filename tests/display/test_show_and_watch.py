"""`show` and `watch` in notebooks.

One shows a page of a frame with its artifacts, the other a process of another interpreter, live.
"""

from __future__ import annotations

import base64
import re
import threading
import warnings

import pandas as pd
import pytest
from jupyter_client.manager import start_new_kernel
from waiting import PATIENCE, until

from tablevault import TableVault, TVArgumentError, tv_errors

DOT = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
)
CODE = f"""
import time
from pathlib import Path
import pandas as pd

DOT = {DOT!r}


def numbers(count):
    return pd.DataFrame({{"n": range(count), "note": ["<b>bold</b>"] * count}})


def picture(n, folder):
    if n == 2:
        raise ValueError("no picture of 2")
    name = f"{{n}}.png" if n else "page.html"
    (Path(folder) / name).write_bytes(DOT + bytes(300_000 if n == 3 else 0))
    return name


def slow(n):
    time.sleep(0.1)
    return n


def held(n, gate):
    while n == 10 and not Path(gate).exists():
        time.sleep(0.02)
    return n
"""
INDEX = """
builder_type: IndexBuilder
changed_columns: [n, note]
python_function: numbers
code_module: job
is_custom: true
arguments: {count: %d}
"""
PICTURE = """
builder_type: ColumnBuilder
changed_columns: [picture]
dtypes: {picture: artifact_string}
python_function: picture
code_module: job
is_custom: true
return_type: row-wise
on_error: collect
max_failures: 1
arguments: {n: "<<self.n[index]>>", folder: ~ARTIFACT_FOLDER~}
"""
SLOW = """
builder_type: ColumnBuilder
changed_columns: [slow]
python_function: slow
code_module: job
is_custom: true
return_type: row-wise
arguments: {n: "<<self.n[index]>>"}
"""


@pytest.fixture
def vault(tmp_path):
    return TableVault(tmp_path / "vault", author="ada", create=True)


def make(vault, count, **builders):
    vault.create_code_module("job", text=CODE)
    vault.create_table("shown")
    vault.create_instance("shown", builders={"shown_index": INDEX % count, **builders})


@pytest.fixture
def pictures(vault):
    make(vault, 4, picture=PICTURE)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        vault.execute_instance("shown")
    return vault


def test_a_page_of_a_frame_has_small_pictures_inside(pictures):
    html = pictures.show("shown")._repr_html_()
    assert f"data:image/png;base64,{base64.b64encode(DOT).decode()}" in html
    assert html.count("<img") == 1
    assert "3.png" in html
    assert "page.html" in html
    assert "&lt;b&gt;bold&lt;/b&gt;" in html
    assert not re.search(r"<(script|b|iframe|link)\b|https?:", html)


def test_failed_cells_say_why(pictures):
    view = pictures.show("shown")
    assert "failed (ValueError: no picture of 2)" in repr(view)
    assert "failed (ValueError: no picture of 2)" in view._repr_html_()


def test_a_page_is_read_by_rows_and_columns(vault):
    vault.write("many", pd.DataFrame({"a": range(100), "b": ["x" * 1_000] * 100}))
    text = repr(vault.show("many", rows=2, offset=40, columns=["a"]))
    assert "rows 40 to 41 of 100" in text
    assert text.splitlines()[-2:] == ["40  40", "41  41"]
    assert max(map(len, repr(vault.show("many")).splitlines())) < 200
    with pytest.raises(TVArgumentError, match="rows from 1"):
        vault.show("many", rows=0)
    with pytest.raises(TVArgumentError, match="did you mean 'many'"):
        vault.show("manny")
    with pytest.raises(tv_errors.TVTableError, match="no column .c."):
        vault.show("many", columns=["a", "c"])


@pytest.mark.slow
def test_a_running_instance_shows_the_cells_computed_so_far(vault):
    make(vault, 30, slow=SLOW)
    vault.execute_instance("shown", process_id="night", background=True)
    until(lambda: "not computed" in repr(vault.show("shown", "TEMP_base", rows=30)))
    assert vault.watch("night").status == "succeeded"


@pytest.mark.slow
def test_watch_returns_at_a_pause_and_leaves_a_running_process_alone(vault):
    make(vault, 3, slow=SLOW.replace("slow\ncode", "missing\ncode"))
    with pytest.raises(tv_errors.TVBuilderError):
        vault.execute_instance("shown", process_id="night")
    with pytest.raises(tv_errors.TVProcessError):
        vault.watch("day")
    vault.create_builder_file("shown", "slow", text=SLOW)
    vault.execute_instance("shown", process_id="later", background=True)
    found = []
    thread = threading.Thread(target=lambda: found.append(vault.watch("later")))
    thread.start()
    thread.join(PATIENCE)
    assert found[0].status == "succeeded"


NOTEBOOK = """
from tablevault import TableVault
vault = TableVault({folder!r})
vault.execute_instance("shown", process_id="night", background=True)
vault.watch("night")
"""
HELD = SLOW.replace("slow", "held").replace("folder", "gate").replace(']>>"}', ']>>", gate: GATE}')


@pytest.mark.slow
def test_notebook_follows_a_process_in_one_output_until_interrupted(vault, tmp_path):
    gate = tmp_path / "gate"
    make(vault, 20, held=HELD.replace("GATE", str(gate)))
    manager, client = start_new_kernel(kernel_name="python3")
    shown = []

    def note(message):
        if message["msg_type"] in ("display_data", "update_display_data"):
            content = message["content"]
            shown.append((message["msg_type"], content["transient"]["display_id"], content["data"]["text/html"]))
            # It waits at a row.
            if not gate.exists() and "10" in content["data"]["text/html"]:
                manager.interrupt_kernel()

    try:
        reply = client.execute_interactive(NOTEBOOK.format(folder=vault.db_dir), output_hook=note, timeout=120)
        assert reply["content"]["ename"] == "KeyboardInterrupt"
        status = vault.get_process("night").status
        shown.clear()
        gate.touch()
        reply = client.execute_interactive("vault.watch('night')", output_hook=note, timeout=120)
    finally:
        gate.touch()
        client.stop_channels()
        manager.shutdown_kernel(now=True)
    assert status == "running"
    assert reply["content"]["status"] == "ok"
    identities = {identity for _, identity, html in shown if "night" in html}
    assert len(identities) == 1
    assert "succeeded" in shown[-1][2]


@pytest.mark.slow
def test_nbconvert_shows_a_frame_with_pictures_without_a_network(pictures, tmp_path):
    import nbformat
    from nbconvert import HTMLExporter
    from nbconvert.preprocessors import ExecutePreprocessor

    cell = f"from tablevault import TableVault\nTableVault({pictures.db_dir!r}).show('shown')"
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell)])
    ExecutePreprocessor(timeout=120, kernel_name="python3").preprocess(notebook, {"metadata": {"path": str(tmp_path)}})
    (output,) = notebook.cells[0].outputs
    assert not re.search(r"<(script|link)|https?:", output.data["text/html"])
    page, _ = HTMLExporter(template_name="basic").from_notebook_node(notebook)
    assert f"data:image/png;base64,{base64.b64encode(DOT).decode()}" in page
    assert "failed (ValueError: no picture of 2)" in page
