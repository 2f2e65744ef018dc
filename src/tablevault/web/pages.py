"""Pages that show: each reads its parameters, and returns a value with its template."""

from __future__ import annotations

from dataclasses import replace

from starlette.exceptions import HTTPException
from starlette.requests import Request

from tablevault.presentation.instances import (
    instance_address,
    read_instance,
    read_overview,
    read_row,
    read_table,
)
from tablevault.presentation.processes import ProcessFilters, read_history, read_process
from tablevault.records import TableStatus
from tablevault.web.rendering import Shown
from tablevault.web.site import Site

PAGE = 100
"""Entries of a list, and rows of a frame."""
STATUS_PART = "live_status"
"""The part of a page that is fetched after it, because the states of tables may take a while."""


def show_overview(site: Site, request: Request) -> Shown:
    """Show tables and processes."""
    overview = read_overview(site.vault, request.query_params.get("after", ""), PAGE)
    listed = [table.table_name for table in overview.tables]
    return Shown("overview.html", replace(overview, statuses=_statuses(site, request, listed)))


def show_table(site: Site, request: Request) -> Shown:
    """Show a table with its instances."""
    before = request.query_params.get("before", "")
    detail = read_table(site.vault, request.path_params["table"], before, PAGE)
    status = _statuses(site, request, [detail.table_name]).get(detail.table_name)
    return Shown("table.html", replace(detail, status=status))


def _statuses(site: Site, request: Request, table_names: list[str]) -> dict[str, TableStatus]:
    """Return the states of tables: all of them for the part of a page that is fetched for that, else the known ones."""
    is_asked = request.query_params.get("part") == STATUS_PART
    return site.statuses.of(table_names) if is_asked else site.statuses.known(table_names)


def show_instance(site: Site, request: Request) -> Shown:
    """Show an instance with a page of its frame."""
    address = instance_address(request.path_params["table"], request.path_params["instance"])
    return Shown("instance.html", read_instance(site.vault, address, _whole_number(request, "row", 0), PAGE))


def show_row(site: Site, request: Request) -> Shown:
    """Show one row."""
    address = instance_address(request.path_params["table"], request.path_params["instance"])
    return Shown("row.html", read_row(site.vault, address, request.path_params["row"]))


def show_processes(site: Site, request: Request) -> Shown:
    """Show the history."""
    given = request.query_params
    filters = ProcessFilters(
        given.get("table", ""), given.get("author", ""), given.get("operation", ""), given.get("status", "")
    )
    return Shown("processes.html", read_history(site.vault, filters, given.get("before", ""), PAGE))


def show_process(site: Site, request: Request) -> Shown:
    """Show a process."""
    return Shown("process.html", read_process(site.vault, request.path_params["process_id"], site.rates))


def _whole_number(request: Request, name: str, default: int) -> int:
    """Return a parameter that is a whole number, not negative."""
    text = request.query_params.get(name, "")
    if not text:
        return default
    if not (text.isascii() and text.isdigit() and len(text) <= 18):
        raise HTTPException(400, f"{name} is a whole number, not {text[:40]!r}.")
    return int(text)
