"""Read-only pages, each of which reads its parameters and returns a value with its template."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from tablevault.errors import TVArgumentError
from tablevault.presentation.differences import read_difference
from tablevault.presentation.errors import read_errors
from tablevault.presentation.graphs import Graph, graph_of_tables, read_lineage
from tablevault.presentation.instances import instance_address, read_active, read_instance, read_row
from tablevault.presentation.processes import ProcessFilters, ProcessLine, read_history, read_process
from tablevault.presentation.statements import MAXIMUM_LENGTH, run_statement, unrun
from tablevault.presentation.tables import read_overview, read_table
from tablevault.records import TableStatus
from tablevault.values.addresses import parse_address
from tablevault.web.layered_graph import Drawing, lay_out
from tablevault.web.rendering import Links, Shown
from tablevault.web.site import Site

PAGE = 100
"""Number of entries of a list, or rows of a frame, per page."""
_STEPS, _MAXIMUM_STEPS = 2, 20
"""Default and maximum steps of a lineage in each direction."""
_MAXIMUM_TABLES = 200
"""Maximum number of tables in a graph."""
TRACES_PART = "live_cells"
"""The part of a large frame's page that is fetched later, because traces may be slow."""
_MAXIMUM_DIGITS = 18
PROCESSES_PART = "live_processes"
"""The part of an instance's page with its active processes, which does not read the frame."""
STATUS_PART = "live_status"
"""The part of a page that is fetched later, because the states of tables may be slow."""


def show_overview(site: Site, request: Request) -> Shown:
    """Show tables and processes."""
    overview = read_overview(site.vault, request.query_params.get("after", ""), PAGE)
    listed = [table.table_name for table in overview.tables]
    value = replace(overview, statuses=_statuses(site, request, listed))
    return Shown("overview.html", value, beside=_existing(site, (*overview.active, *overview.ended)))


def show_table(site: Site, request: Request) -> Shown:
    """Show a table with its instances."""
    before = request.query_params.get("before", "")
    detail = read_table(site.vault, request.path_params["table"], before, PAGE)
    status = _statuses(site, request, [detail.table_name]).get(detail.table_name)
    return Shown("table.html", replace(detail, status=status))


def _statuses(site: Site, request: Request, table_names: list[str]) -> dict[str, TableStatus]:
    """Return the known states of tables for a page.

    Returns all states for JSON and for the part that is fetched later.
    """
    is_asked = request.query_params.get("part") == STATUS_PART or request.url.path.endswith(".json")
    return site.statuses.of(table_names) if is_asked else site.statuses.known(table_names)


def show_instance(site: Site, request: Request) -> Shown:
    """Show an instance with a page of its frame."""
    address = instance_address(request.path_params["table"], request.path_params["instance"])
    if request.query_params.get("part") == PROCESSES_PART:
        return Shown("instance.html", read_active(site.vault, address))
    return Shown("instance.html", read_instance(site.vault, address, _whole_number(request, "row", 0), PAGE))


def show_row(site: Site, request: Request) -> Shown:
    """Show one row."""
    address = instance_address(request.path_params["table"], request.path_params["instance"])
    traces = "trace" in request.query_params or request.query_params.get("part") == TRACES_PART
    position = _number_in(request.path_params["row"])
    if position is None:
        raise HTTPException(404)
    row = read_row(site.vault, address, position, traces)
    traced = (row.traces or {}).values()
    named = [(row.facts.table_name, name) for trace in traced for name in (trace.instance_id, *trace.reused_through)]
    listings = site.vault._listings()
    processes = listings.existing_processes(trace.process_id for trace in traced)
    return Shown("row.html", row, beside={"existing": listings.existing(named), "existing_processes": processes})


def show_processes(site: Site, request: Request) -> Shown:
    """Show the history."""
    given = request.query_params
    filters = ProcessFilters(
        given.get("table", ""), given.get("author", ""), given.get("operation", ""), given.get("status", "")
    )
    history = read_history(site.vault, filters, _whole_number(request, "before", 0) or None, PAGE)
    return Shown("processes.html", history, beside=_existing(site, history.processes))


def show_process(site: Site, request: Request) -> Shown:
    """Show a process."""
    process = read_process(site.vault, request.path_params["process_id"], site.rates)
    instance = (process.line.table_name, process.line.instance_id)
    return Shown("process.html", process, beside=_existing(site, (process.line, *process.children), instance))


def _existing(site: Site, processes: Iterable[ProcessLine], *instances: tuple[str, str]) -> dict[str, object]:
    """Return the tables of processes, and the instances, that still exist and can be linked."""
    named = [*((line.table_name, "") for line in processes), *instances]
    return {"existing": site.vault._listings().existing(named)}


def show_errors(site: Site, request: Request) -> Shown:
    """Show the failed and skipped rows of an instance."""
    address = instance_address(request.path_params["table"], request.path_params["instance"])
    return Shown("errors.html", read_errors(site.vault, address, request.query_params.get("after", ""), PAGE))


def show_sql(site: Site, request: Request) -> Shown:
    """Show a statement, and its result if it is run."""
    statement = request.query_params.get("q", "")
    if not statement.strip():
        return Shown("sql.html", unrun(request.query_params.get("draft", "")[:MAXIMUM_LENGTH]))
    with site.alone():
        result = run_statement(site.vault, statement)
    return Shown("sql.html", result, 400 if result.problem else 200)


def show_lineage(site: Site, request: Request) -> Shown:
    """Show the origins and uses of an instance, or of one of its columns."""
    address = instance_address(request.path_params["table"], request.path_params["instance"])
    facts = site.vault._instance_details().facts(address)
    lineage = read_lineage(
        site.vault,
        facts.table_name,
        facts.line.instance_id,
        request.query_params.get("column", ""),
        min(_whole_number(request, "up", _STEPS), _MAXIMUM_STEPS),
        min(_whole_number(request, "down", _STEPS), _MAXIMUM_STEPS),
    )
    return Shown("lineage.html", lineage, beside={"drawing": _drawn(lineage.graph)})


def show_graph(site: Site, request: Request) -> Shown:
    """Show the dependencies between tables."""
    after = request.query_params.get("after", "")
    listed = [table.table_name for table in site.vault._listings().tables(after, _MAXIMUM_TABLES + 1)]
    shown = listed[:_MAXIMUM_TABLES]
    graph = graph_of_tables(site.statuses.of(shown), shown[-1] if len(listed) > _MAXIMUM_TABLES else "")
    return Shown("graph.html", graph, beside={"drawing": _drawn(graph.graph)})


def show_difference(site: Site, request: Request) -> Shown:
    """Show the differing rows and cells of two instances, with causes."""
    before, after = request.query_params.get("before", ""), request.query_params.get("after", "")
    beside = {"asked_before": before, "asked_after": after}
    if not after:
        return Shown("diff.html", None, beside=beside)
    with site.alone():
        named = parse_address(before) if before else None
        return Shown("diff.html", read_difference(site.vault, named, parse_address(after), PAGE), beside=beside)


def go_to_address(site: Site, request: Request) -> Response:
    """Redirect to the page, or JSON, of the instance at an address."""
    text = request.path_params["address"]
    is_data = text.endswith(".json")
    address = parse_address(text.removesuffix(".json"))
    links = Links()
    try:
        facts = site.vault._instance_details().facts(address)
        path = links.instance(facts.table_name, facts.line.instance_id)
    except TVArgumentError:
        if text.removesuffix(".json") != address.table_name or address.table_name not in site.vault.get_tables():
            raise
        # A table without an instance.
        path = links.table(address.table_name)
    return RedirectResponse(f"{path}.json" if is_data else path, 303)


def _drawn(graph: Graph) -> Drawing:
    return lay_out([node.key for node in graph.nodes], [(edge.source, edge.target) for edge in graph.edges])


def _whole_number(request: Request, name: str, default: int) -> int:
    """Return a parameter that is a non-negative integer."""
    text = request.query_params.get(name, "")
    number = _number_in(text) if text else default
    if number is None:
        raise HTTPException(400, f"{name} is a whole number, not {text[:40]!r}.")
    return number


def _number_in(text: str) -> int | None:
    """Parse a non-negative integer.

    Returns `None` if the text is invalid or too large for a position.
    """
    return int(text) if text.isascii() and text.isdigit() and len(text) <= _MAXIMUM_DIGITS else None
