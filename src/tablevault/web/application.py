"""Routes of the web page and their handlers."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

import anyio
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import FileResponse, Response
from starlette.routing import BaseRoute, Route
from starlette.types import ASGIApp, Receive, Scope, Send

from tablevault.errors import TableVaultError, TVArgumentError, TVFileError, TVLockError, TVProcessError, TVTableError
from tablevault.presentation.problems import ErrorResponse
from tablevault.presentation.process_ids import has_process
from tablevault.presentation.statements import has_sql
from tablevault.system.warnings import hear_warnings
from tablevault.web import actions, pages
from tablevault.web.actions import read_form
from tablevault.web.artifacts import show_artifact
from tablevault.web.rendering import STATIC, Rendering, Shown, json_response, static_paths
from tablevault.web.site import Busy, Site

if TYPE_CHECKING:
    from tablevault.vault import TableVault

_MAXIMUM_SECONDS = 10.0
"""Time limit of one request."""
_MAXIMUM_WAITING = 10
"""Maximum number of requests that run or await a statement, which keeps threads free for other pages."""
_JSON = ".json"
_logger = logging.getLogger("tablevault")

Show = Callable[[Site, Request], Shown | Response]
Act = Callable[[Site, Request, Mapping[str, str]], Response]
Endpoint = Callable[[Request], Awaitable[Response]]

_STATUS: Mapping[type[Exception], int] = {
    TVArgumentError: 404,
    TVProcessError: 404,
    TVTableError: 404,
    TVLockError: 409,
    TVFileError: 500,
    Busy: 503,
}
_TITLES = {
    400: "Bad request",
    403: "Refused",
    404: "Not found",
    405: "Not allowed",
    409: "Not now",
    500: "Failed",
    503: "Busy",
}

_KNOWN = {404: "This page does not exist.", 405: "This page does not accept forms."}
"""Texts for errors raised by Starlette."""


def make_application(vault: TableVault, allow_writes: bool) -> ASGIApp:
    """Return the application for a vault, which relies on the gate for security.

    Parameters
    ----------
    vault
        The vault.
    allow_writes
        Whether pages offer actions.
    """
    site = Site(vault, allow_writes)
    rendering = Rendering(
        {
            "vault_name": Path(vault.db_dir).name,
            "vault_root": vault.db_dir,
            "allow_writes": allow_writes,
            "has_sql": has_sql(),
            "static": static_paths(),
        }
    )
    answering = _Answering(site, rendering)
    handlers = {HTTPException: answering.refused, Exception: answering.failed}
    application = Starlette(routes=_routes(answering), exception_handlers=handlers)
    application.router.redirect_slashes = False
    return application if allow_writes else answering.read_only(application)


class _Answering:
    """Turns functions that return pages into endpoints.

    Parameters
    ----------
    site
        The served vault, and the state of its server.
    rendering
        Makes responses.
    """

    def __init__(self, site: Site, rendering: Rendering) -> None:
        self._site = site
        self._rendering = rendering
        self._waiting = anyio.CapacityLimiter(_MAXIMUM_WAITING)

    def page(self, show: Show) -> Endpoint:
        """Return an endpoint that answers with HTML."""
        return partial(self._answer, show, False)

    def data(self, show: Show) -> Endpoint:
        """Return an endpoint that answers with JSON."""
        return partial(self._answer, show, True)

    async def process(self, request: Request) -> Response:
        """Answer with a process.

        The answer is JSON if the path ends in `.json` and no process has that id.
        """
        process_id = request.path_params["process_id"]
        if process_id.endswith(_JSON) and not await anyio.to_thread.run_sync(has_process, self._site.vault, process_id):
            request.path_params["process_id"] = process_id.removesuffix(_JSON)
            return await self._answer(pages.show_process, True, request)
        return await self._answer(pages.show_process, False, request)

    def read_only(self, application: ASGIApp) -> ASGIApp:
        """Return an application that refuses every form."""

        async def answer(scope: Scope, receive: Receive, send: Send) -> None:
            if scope["type"] == "http" and scope["method"] == "POST":
                refused = self._problem(Request(scope), 403, "tablevault serve --allow-writes adds actions.")
                await refused(scope, receive, send)
            else:
                await application(scope, receive, send)

        return answer

    def form(self, act: Act) -> Endpoint:
        """Return an endpoint that performs an action and redirects."""
        return partial(self._act, act)

    def refused(self, request: Request, error: Exception) -> Response:
        """Answer a request rejected with an `HTTPException`."""
        assert isinstance(error, HTTPException)
        return self._problem(request, error.status_code, _KNOWN.get(error.status_code, error.detail))

    def failed(self, request: Request, error: Exception) -> Response:
        """Answer a request that raised an unexpected error."""
        _logger.error("The page %s failed", request.url.path, exc_info=error)
        return self._problem(request, 500, f"{type(error).__name__}; the log of the server has more.")

    async def _act(self, act: Act, request: Request) -> Response:
        body = await request.body()

        def acted(site: Site, request: Request) -> Response:
            heard = hear_warnings()
            try:
                leading = act(site, request, read_form(body))
                if heard:
                    site.leave_warnings(unquote(urlsplit(leading.headers["location"]).path), heard)
                return leading
            except (TableVaultError, OSError) as error:
                status = 409 if isinstance(error, TableVaultError) else 500
                return self._problem(request, status, "\n".join([str(error), *heard]))

        return await self._answer(acted, False, request)

    async def _answer(self, show: Show, is_data: bool, request: Request) -> Response:
        limiter = self._waiting if show in _ONE_AT_A_TIME else None
        with anyio.move_on_after(_MAXIMUM_SECONDS):
            return await anyio.to_thread.run_sync(
                self._shown, show, is_data, request, abandon_on_cancel=True, limiter=limiter
            )
        return self._problem(request, 503, f"This page took longer than {_MAXIMUM_SECONDS:.0f} seconds.")

    def _shown(self, show: Show, is_data: bool, request: Request) -> Response:
        try:
            page = show(self._site, request)
            if isinstance(page, Response):
                return page
            etag = request.headers.get("if-none-match")
            if is_data:
                return json_response(page, etag)
            part = request.query_params.get("part", "")
            if part and not self._rendering.has_part(page, part):
                return self._problem(request, 404, "This part of the page does not exist.")
            is_looked_at = request.method == "GET" and not part
            warnings = self._site.take_warnings(request.scope["path"]) if is_looked_at else ()
            return self._rendering.html(page, etag, part, warnings)
        except (TableVaultError, Busy) as error:
            status = next((code for kind, code in _STATUS.items() if isinstance(error, kind)), 500)
            return self._problem(request, status, str(error))
        except HTTPException as error:
            return self.refused(request, error)

    def _problem(self, request: Request, status: int, text: str) -> Response:
        # On a conflict about an instance, the page of its table shows the blocking process.
        beside = {"table_name": request.path_params.get("table", "") if status == 409 else ""}
        title = "Not done" if request.method == "POST" and status == 409 else _TITLES.get(status, "Problem")
        page = Shown("problem.html", ErrorResponse(status, title, text), status, beside)
        if request.url.path.endswith(_JSON):
            return json_response(page, None)
        return self._rendering.html(page, None, "")


def _routes(answering: _Answering) -> list[BaseRoute]:
    routes: list[BaseRoute] = [
        Route("/static/page.css", _static("page.css", "text/css")),
        Route("/static/page.js", _static("page.js", "text/javascript")),
        Route("/favicon.ico", _static("icon.svg", "image/svg+xml")),
        Route("/index.json", answering.data(pages.show_overview)),
        Route("/", answering.page(pages.show_overview)),
        Route("/process/{process_id}", answering.process),
        Route("/at/{address}", answering.page(pages.go_to_address)),
        Route("/artifact/{table}/{instance}/{name:path}", answering.page(show_artifact)),
    ]
    for path, show in _PAGES:
        routes.append(Route(path + _JSON, answering.data(show)))
        routes.append(Route(path, answering.page(show)))
    routes += [Route(path, answering.form(act), methods=["POST"]) for path, act in _FORMS]
    return routes


_PAGES: tuple[tuple[str, Show], ...] = (
    ("/table/{table}", pages.show_table),
    ("/table/{table}/{instance}", pages.show_instance),
    ("/table/{table}/{instance}/row/{row}", pages.show_row),
    ("/table/{table}/{instance}/errors", pages.show_errors),
    ("/lineage/{table}/{instance}", pages.show_lineage),
    ("/processes", pages.show_processes),
    ("/sql", pages.show_sql),
    ("/graph", pages.show_graph),
    ("/diff", pages.show_difference),
    ("/process/{process_id}/stop", actions.ask_to_stop),
    ("/table/{table}/{instance}/execute", actions.ask_to_execute),
    ("/table/{table}/{instance}/retry", actions.ask_to_retry),
    ("/table/{table}/{instance}/tag", actions.ask_to_tag),
)
"""Pages that also exist as JSON, at their path with `.json` appended."""

_ONE_AT_A_TIME = (pages.show_sql, pages.show_difference)

_FORMS: tuple[tuple[str, Act], ...] = (
    ("/process/{process_id}/resume", actions.resume),
    ("/process/{process_id}/stop", actions.stop),
    ("/table/{table}/{instance}/execute", actions.execute),
    ("/table/{table}/{instance}/retry", actions.retry),
    ("/table/{table}/{instance}/tag", actions.tag),
)


def _static(name: str, content_type: str) -> Endpoint:
    async def answer(request: Request) -> Response:
        return FileResponse(STATIC / name, media_type=content_type)

    return answer
