"""Rendering of pages as JSON, and as HTML with every text escaped and neutralised."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import lru_cache
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup, escape
from starlette.responses import Response

from tablevault.display.processes import usage_text
from tablevault.presentation.graphs import Graph, GraphNode
from tablevault.presentation.json_text import as_json
from tablevault.texts.plain import duration, in_line, shown

_FOLDER = Path(__file__).parent
STATIC = _FOLDER / "static"


@dataclass(frozen=True)
class Shown:
    """A page with its value and template."""

    template: str
    value: object
    status: int = 200
    beside: Mapping[str, object] = field(default_factory=dict)
    """Values that only the template needs, such as the layout of a drawing."""


class Rendering:
    """Renders pages into responses.

    Parameters
    ----------
    facts
        Facts about the server that every template gets.
    """

    def __init__(self, facts: Mapping[str, object]) -> None:
        environment = Environment(
            loader=FileSystemLoader(_FOLDER / "templates"),
            autoescape=True,
            undefined=StrictUndefined,
            finalize=_harmless,
            trim_blocks=True,
            lstrip_blocks=True,
            auto_reload=False,
        )
        environment.globals.update(facts)
        environment.globals["link"] = Links()
        environment.globals["origins"] = _origins
        environment.filters.update(
            moment=_moment,
            count=_count,
            duration=duration,
            usage=usage_text,
            line=in_line,
            instant=_instant,
            compact=_compact,
            fit=_fit,
        )
        # Blocks rendered alone see globals, but not the imports of a template.
        environment.globals["parts"] = environment.get_template("parts.html").module
        environment.globals["drawings"] = environment.get_template("drawing.html").module
        self._environment = environment

    def html(self, page: Shown, etag: str | None, part: str, warnings: Sequence[str] = ()) -> Response:
        """Return a page, or one block of its template, as HTML.

        Parameters
        ----------
        page
            The page.
        etag
            The tag of the browser's cached response, which is not sent again if it is unchanged.
        part
            The block; empty for the whole page.
        warnings
            Warnings of the action that led to the page.
        """
        template = self._environment.get_template(page.template)
        values = {"page": page.value, "warnings": warnings, **page.beside}
        if part:
            context = template.new_context(values)
            text = "".join(template.blocks[part](context)).strip()
        else:
            text = template.render(values)
        return _tagged(text.encode(), "text/html; charset=utf-8", page.status, etag)

    def has_part(self, page: Shown, part: str) -> bool:
        """Return whether a page's template has a block that can be fetched alone."""
        return part.startswith("live") and part in self._environment.get_template(page.template).blocks


def static_paths() -> dict[str, str]:
    """Return a content-dependent path for each static file, so that browsers can cache it."""
    return {path.name: f"/static/{path.name}?{_digest(path.read_bytes())[:8]}" for path in STATIC.iterdir()}


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def json_response(page: Shown, etag: str | None) -> Response:
    """Return the value of a page as JSON."""
    return _tagged(as_json(page.value), "application/json", page.status, etag)


def _tagged(body: bytes, content_type: str, status: int, etag: str | None) -> Response:
    tag = f'"{_digest(body)[:32]}"'
    if etag == tag:
        return Response(status_code=304, headers={"etag": tag})
    return Response(body, status, {"etag": tag, "content-type": content_type})


class Links:
    """Paths of pages, with every name quoted."""

    def table(self, table_name: str, **query: str) -> str:
        """Return the path of a table."""
        return _path("table", table_name, **query)

    def instance(self, table_name: str, instance: str, *more: str, **query: object) -> str:
        """Return the path of an instance, or of a page below it."""
        return _path("table", table_name, instance, *more, **query)

    def artifact(self, table_name: str, instance: str, name: str) -> str:
        """Return the path of an artifact."""
        return f"{_path('artifact', table_name, instance)}/{quote(name, safe='')}"

    def process(self, process_id: str, *more: str, **query: str) -> str:
        """Return the path of a process."""
        return _path("process", process_id, *more, **query)

    def processes(self, **query: object) -> str:
        """Return the path of the history."""
        return _path("processes", **query)

    def lineage(self, table_name: str, instance: str, **query: object) -> str:
        """Return the path of a lineage."""
        return _path("lineage", table_name, instance, **query)

    def at(self, address: str) -> str:
        """Return the path that redirects to the page of an address."""
        return _path("at", address)

    def diff(self, before: str, after: str) -> str:
        """Return the path of a difference."""
        return _path("diff", before=before, after=after)

    def node(self, node: GraphNode) -> str:
        """Return the path of a node; empty for a deleted instance."""
        if node.state == "deleted":
            return ""
        if not node.instance_id:
            return self.table(node.table_name)
        if node.column and node.column != "*":
            return self.lineage(node.table_name, node.instance_id, column=node.column)
        return self.instance(node.table_name, node.instance_id)

    def sql(self, statement: str) -> str:
        """Return the path of a statement with its result."""
        return _path("sql", q=statement)

    def draft(self, statement: str) -> str:
        """Return the path of a statement that is not run yet."""
        return _path("sql", draft=statement)


def _path(*parts: str, **query: object) -> str:
    path = "/" + "/".join(map(_segment, parts))
    given = {name: str(value) for name, value in query.items() if value not in ("", None)}
    return f"{path}?{urlencode(given)}" if given else path


@lru_cache(maxsize=4_096)
def _segment(part: str) -> str:
    """Return a name quoted for a path."""
    return quote(part, safe="@()~")


def _harmless(value: Any) -> Any:
    """Return a text with control and direction characters escaped, which browsers would otherwise obey."""
    if type(value) is not str or (value.isascii() and value.isprintable()):
        return value
    return shown(value, max(len(value), 1))


def _moment(when: datetime) -> Markup:
    """Return the markup of a time in the server's time zone."""
    local = when.astimezone()
    exact, text = when.astimezone(UTC).isoformat(timespec="seconds"), f"{local:%Y-%m-%d %H:%M:%S}"
    return Markup(f'<time datetime="{exact}" title="{text} {escape(local.tzname())}">{text}</time>')


def _instant(text: str) -> Markup:
    """Return the markup of a time in ISO 8601."""
    return _moment(datetime.fromisoformat(text))


def _fit(text: str, most: int) -> str:
    """Shorten a text to fit a box, but keep its end.

    The end is the most telling part of ids.
    """
    line = in_line(text)
    if len(line) <= most:
        return line
    end = most // 4
    return f"{line[: most - end - 1]}…{line[-end:]}"


def _origins(graph: Graph) -> frozenset[tuple[str, str]]:
    return frozenset((edge.source, edge.target) for edge in graph.edges if edge.is_origin)


def _compact(value: object) -> str:
    """Return a value as JSON in one line."""
    return as_json(value).decode()


def _count(value: float | None) -> str:
    return "?" if value is None else f"{value:,}"
