"""Forms that call methods of the vault and redirect to the page of the result."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from urllib.parse import parse_qs

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from tablevault.errors import TVArgumentError, TVProcessError
from tablevault.presentation.actions import plan_execution, plan_retry, plan_stop, plan_tag
from tablevault.presentation.instances import instance_address
from tablevault.presentation.processes import read_process
from tablevault.web.rendering import Links, Shown
from tablevault.web.site import Site

_MAXIMUM_FIELDS = 20
_links = Links()

# --- pages that ask -----------------------------------------------------------------------------------------------


def ask_to_stop(site: Site, request: Request) -> Shown:
    """Show the consequences of stopping a process."""
    return Shown("action.html", plan_stop(site.vault, request.path_params["process_id"], site.rates))


def ask_to_execute(site: Site, request: Request) -> Shown:
    """Show the plan of an execution."""
    address = instance_address(request.path_params["table"], request.path_params["instance"])
    return Shown("action.html", plan_execution(site.vault, address))


def ask_to_retry(site: Site, request: Request) -> Shown:
    """Show the number of rows that a retry would compute."""
    address = instance_address(request.path_params["table"], request.path_params["instance"])
    return Shown("action.html", plan_retry(site.vault, address))


def ask_to_tag(site: Site, request: Request) -> Shown:
    """Show the form for a tag."""
    address = instance_address(request.path_params["table"], request.path_params["instance"])
    return Shown("action.html", plan_tag(site.vault, address))


# --- forms ---------------------------------------------------------------------------------------------------------


def resume(site: Site, request: Request, form: Mapping[str, str]) -> Response:
    """Resume a paused process in a background worker."""
    process = read_process(site.vault, request.path_params["process_id"], site.rates)
    if not process.resumable_id:
        raise TVProcessError(
            f"Process '{process.line.process_id}' ({process.line.operation}) is {process.line.status} and cannot be "
            "resumed by a background worker; its page lists the available commands."
        )
    whole = site.vault.get_process(process.resumable_id)
    acting = site.acting()
    method = getattr(acting, whole.operation)
    taken = inspect.signature(method).parameters
    given = {name: value for name, value in whole.arguments.items() if name in taken}
    if whole.operation == "run":
        # Use the recorded source; reading the file would run its code here.
        given["source"] = ""
    method(**{**given, "process_id": whole.process_id, "background": True})
    return _to_process(whole.process_id)


def stop(site: Site, request: Request, form: Mapping[str, str]) -> Response:
    """Stop a process."""
    process_id = request.path_params["process_id"]
    site.acting().stop_process(process_id, force="force" in form, materialize="materialize" in form)
    return _to_process(process_id)


def execute(site: Site, request: Request, form: Mapping[str, str]) -> Response:
    """Execute a temporary instance in a background worker."""
    address = instance_address(request.path_params["table"], request.path_params["instance"])
    action = plan_execution(site.vault, address)
    if not action.choices:
        raise TVArgumentError(action.sentences[0])
    facts = site.vault._instance_details().facts(address)
    process_id = site.process_ids.take()
    site.acting().execute_instance(facts.table_name, facts.line.version, process_id=process_id, background=True)
    return _to_process(process_id)


def retry(site: Site, request: Request, form: Mapping[str, str]) -> Response:
    """Retry the failed rows of an instance in a background worker."""
    address = instance_address(request.path_params["table"], request.path_params["instance"])
    action = plan_retry(site.vault, address)
    if not action.choices:
        raise TVArgumentError(action.sentences[0])
    process_id = site.process_ids.take()
    site.acting().retry_failed(action.table_name, action.instance_id, process_id=process_id, background=True)
    return _to_process(process_id)


def tag(site: Site, request: Request, form: Mapping[str, str]) -> Response:
    """Tag an instance."""
    address = instance_address(request.path_params["table"], request.path_params["instance"])
    action = plan_tag(site.vault, address)
    site.acting().create_tag(
        form.get("tag", ""),
        {action.table_name: action.instance_id},
        move="move" in form,
        description=form.get("description", ""),
    )
    return RedirectResponse(_links.instance(action.table_name, action.instance_id), 303)


def read_form(body: bytes) -> dict[str, str]:
    """Return the fields of a form; the last one of a name wins."""
    try:
        fields = parse_qs(body.decode("ascii"), keep_blank_values=True, max_num_fields=_MAXIMUM_FIELDS, errors="strict")
    except ValueError as error:
        raise HTTPException(400, "The form cannot be read.") from error
    return {name: values[-1] for name, values in fields.items()}


def _to_process(process_id: str) -> Response:
    return RedirectResponse(_links.process(process_id), 303)
