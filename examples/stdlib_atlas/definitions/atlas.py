"""An atlas of Python's standard library: one row per module, with its summary, counts, topic and chart."""

import ast
import re
import shutil
import sysconfig
import time
from collections.abc import Iterator
from pathlib import Path

from charts import draw_bars
from pretend_service import PretendService

from tablevault.define import ARTIFACT_FOLDER, Table, env

modules = Table("modules", allow_multiple_artifacts=True, description="One row per top-level module")


@modules.index(
    "module",
    "source",
    primary_key=["module"],
    return_type="generator",
    arguments={"artifact_folder": ARTIFACT_FOLDER},
    dtypes={"module": "string", "source": "artifact_string"},
)
def find_modules(artifact_folder: str) -> Iterator[tuple[str, str]]:
    """Yield the name of each top-level module and the path of its copy, relative to the artifact folder."""
    copies = Path(artifact_folder) / "sources"
    copies.mkdir(exist_ok=True)
    for source in sorted(Path(sysconfig.get_path("stdlib")).glob("*.py")):
        shutil.copyfile(source, copies / source.name)
        yield source.stem, f"sources/{source.name}"


@modules.column(dtypes={"summary": "string"})
def summary(source: str) -> str | None:
    """Return the first sentence of a module's docstring, or `None`."""
    docstring = ast.get_docstring(_parse(source))
    if not docstring:
        return None
    paragraph = " ".join(docstring.split("\n\n")[0].split())
    return re.split(r"(?<=[.!?])\s", paragraph)[0]


@modules.column("lines", "functions", "classes", "imports", builder="structure")
def count_structure(source: str) -> tuple[int, int, int, int]:
    """Return the numbers of lines, functions, classes and import statements of a module."""
    nodes = list(ast.walk(_parse(source)))
    return (
        len(Path(source).read_bytes().splitlines()),
        sum(isinstance(node, ast.FunctionDef) for node in nodes),
        sum(isinstance(node, ast.ClassDef) for node in nodes),
        sum(isinstance(node, ast.Import | ast.ImportFrom) for node in nodes),
    )


def _parse(path: str) -> ast.Module:
    return ast.parse(Path(path).read_bytes(), filename=path)


# The paid column: no call may be made twice.
@modules.column("topic", max_concurrency=4, arguments={"service": env("ATLAS_SERVICE")}, dtypes={"topic": "string"})
def ask_topic(module: str, summary: str | None, service: str) -> str:
    """Return the topic from the service; its exceptions pass through."""
    time.sleep(0.005)  # the round trip
    return PretendService(service).ask(module, f"{module} {summary or ''}")


@modules.column(
    "chart",
    arguments={"colour": "steelblue", "artifact_folder": ARTIFACT_FOLDER},
    dtypes={"chart": "artifact_string"},
)
def draw_chart(
    module: str, lines: int, functions: int, classes: int, imports: int, colour: str, artifact_folder: str
) -> str:
    """Draw a small chart of the counts; return its path relative to the artifact folder."""
    charts = Path(artifact_folder) / "charts"
    charts.mkdir(exist_ok=True)
    counts = {"lines": lines, "functions": functions, "classes": classes, "imports": imports}
    (charts / f"{module}.svg").write_text(draw_bars(module, counts, colour), encoding="utf-8")
    return f"charts/{module}.svg"
