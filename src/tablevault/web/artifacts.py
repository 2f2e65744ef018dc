"""Delivery of artifacts, which are untrusted and shown only if their type is allowed."""

from __future__ import annotations

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import FileResponse, Response

from tablevault.errors import TVFileError
from tablevault.presentation.content_types import OTHER, PDF, content_type
from tablevault.presentation.instances import instance_address
from tablevault.web.site import Site

_POLICY = "sandbox; default-src 'none'; frame-ancestors 'self'"
# PDF viewers do not work in a sandbox.
_POLICY_OF_PDF = "default-src 'none'; frame-ancestors 'self'"


def show_artifact(site: Site, request: Request) -> Response:
    """Send one artifact, inline if its type is in the allow list, else as a download."""
    address = instance_address(request.path_params["table"], request.path_params["instance"])
    name = request.path_params["name"]
    try:
        path = site.vault._instance_details().artifacts(address, [name]).get(name)
    except TVFileError:
        # A link, which may point anywhere.
        path = None
    if path is None:
        raise HTTPException(404)
    kind = content_type(path)
    headers = {"content-security-policy": _POLICY_OF_PDF if kind == PDF else _POLICY, "content-type": kind}
    # An explicit type prevents guessing from the suffix.
    if kind == OTHER:
        return FileResponse(path, headers=headers, media_type=kind, filename=path.name)
    return FileResponse(path, headers=headers, media_type=kind)
