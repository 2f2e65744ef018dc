"""Security checks of every request before any other code sees it; they cannot be disabled."""

from __future__ import annotations

from dataclasses import dataclass
from html import escape
from urllib.parse import parse_qsl, quote, urlencode

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from tablevault.web.tokens import Token

MAXIMUM_BODY_BYTES = 64 * 1024
"""Maximum size of a request body, in bytes."""
_MAXIMUM_NUMBER_LENGTH = 20
"""Maximum number of digits of a number in a request, exclusive."""
_LOOPBACK = ("127.0.0.1", "localhost", "[::1]")
_READING = ("GET", "HEAD")
_METHODS = (*_READING, "POST")
_FORM = "application/x-www-form-urlencoded"
_UNSET = "none"

PAGE_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; media-src 'self'; connect-src 'self'; "
    "frame-src 'self'; object-src 'self'; form-action 'self'; frame-ancestors 'none'; base-uri 'none'"
)
HEADERS = {
    "content-security-policy": PAGE_POLICY,
    "x-content-type-options": "nosniff",
    # With `no-referrer`, browsers send `Origin: null` with the page's own forms.
    "referrer-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
    "cache-control": "private",
}
"""Default headers of every response."""


@dataclass(frozen=True)
class Refusal:
    """The answer to a rejected request."""

    status: int
    text: str


class Gate:
    """Passes requests to an application, or rejects them.

    Parameters
    ----------
    application
        Sees only requests that have passed.
    token
        Authenticates requests.
    port
        The server's port.
    address
        The loopback address that the server listens on; empty if other machines can connect.
    hosts
        Further values of `Host` that are accepted, with or without a port.
    """

    def __init__(self, application: ASGIApp, token: Token, port: int, address: str, hosts: frozenset[str]) -> None:
        self._application = application
        self._token = token
        own = {*_LOOPBACK, address} if address else {*_LOOPBACK}
        # Browsers omit the default port of HTTP.
        self._own = {f"{name}:{port}" for name in own} | (own if port == 80 else set())
        self._allowed = hosts

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            # No other protocol is served.
            return
        send = _with_headers(send)
        headers = Headers(scope=scope)
        given = dict(parse_qsl(scope["query_string"].decode("latin-1"), keep_blank_values=True)).get("token")
        has_valid_token = given is not None and self._token.is_valid(given)
        refusal = (
            self._check_host(headers)
            or self._check_site(scope["method"], headers, has_valid_token)
            or self._check_origin(scope["method"], headers)
            or (None if has_valid_token else self._check_token(headers))
        )
        if refusal is not None:
            await _answer(send, scope["method"], refusal)
        elif scope["method"] not in _METHODS:
            await _answer(send, scope["method"], Refusal(405, "Only GET, HEAD and POST are answered."))
        elif given is not None and scope["method"] in _READING:
            await self._continue(scope, headers, send, has_valid_token)
        else:
            await self._pass(scope, headers, receive, send)

    # --- checks ---------------------------------------------------------------------------------------------------

    def _check_host(self, headers: Headers) -> Refusal | None:
        hosts = headers.getlist("host")
        host = hosts[0].lower() if len(hosts) == 1 else ""
        if host in self._own or self._is_allowed(host):
            return None
        return Refusal(421, "This host is not allowed. Allow it with tablevault serve --allow-host NAME.")

    def _check_site(self, method: str, headers: Headers, has_valid_token: bool) -> Refusal | None:
        if all(site in ("same-origin", _UNSET) for site in headers.getlist("sec-fetch-site")):
            return None
        is_navigation = headers.get("sec-fetch-mode") == "navigate" and headers.get("sec-fetch-dest") == "document"
        if method == "GET" and is_navigation and has_valid_token:
            return None
        return Refusal(403, "A request from another site is refused. Open the address that tablevault serve printed.")

    def _check_origin(self, method: str, headers: Headers) -> Refusal | None:
        if method in _READING:
            return None
        host = headers["host"].lower()
        expected = {f"http://{host}"} | ({f"https://{host}"} if self._is_allowed(host) else set())
        if headers.getlist("origin") != [headers.get("origin")] or headers["origin"].lower() not in expected:
            return Refusal(403, "A form from another origin is refused.")
        if headers.get("content-type", "").partition(";")[0].strip().lower() != _FORM:
            return Refusal(403, f"The body of a request has to be {_FORM}.")
        return None

    def _check_token(self, headers: Headers) -> Refusal | None:
        scheme, _, bearer = headers.get("authorization", "").partition(" ")
        shown = [bearer.strip()] if scheme.lower() == "bearer" else []
        for line in headers.getlist("cookie"):
            for pair in line.split(";"):
                name, _, value = pair.strip().partition("=")
                if name == self._token.cookie_name:
                    shown.append(value)
        if any(map(self._token.is_valid, shown)):
            return None
        return Refusal(401, "Open the address that tablevault serve printed when it started; it contains the token.")

    def _is_allowed(self, host: str) -> bool:
        name, colon, port = host.rpartition(":")
        return host in self._allowed or (bool(colon) and port.isascii() and port.isdigit() and name in self._allowed)

    # --- forwarding -----------------------------------------------------------------------------------------------

    async def _continue(self, scope: Scope, headers: Headers, send: Send, sets_cookie: bool) -> None:
        """Redirect to the address without the token, which the cookie carries from then on."""
        kept = [pair for pair in parse_qsl(scope["query_string"].decode("latin-1")) if pair[0] != "token"]
        # Two slashes at the beginning would name another host.
        path = "/" + quote(scope["path"].lstrip("/\\"), safe="/@()~")
        target = f"{path}?{urlencode(kept)}" if kept else path
        own = [("set-cookie", self._token.cookie)] if sets_cookie else []
        if headers.get("sec-fetch-site", _UNSET) == _UNSET:
            await _respond(send, scope["method"], 303, "", [*own, ("location", target)])
            return
        # After a link from another site, a browser follows a redirect without the cookie.
        body = f'<!doctype html><meta charset="utf-8"><meta http-equiv="refresh" content="0;url={escape(target)}">'
        await _respond(send, scope["method"], 200, f"{body}<title>TableVault</title>", own, "text/html; charset=utf-8")

    async def _pass(self, scope: Scope, headers: Headers, receive: Receive, send: Send) -> None:
        """Let the application answer, with a body of limited size."""
        if "transfer-encoding" in headers and "content-length" in headers:
            # A proxy may see another end of the body and treat the rest as a separate request.
            await _answer(send, scope["method"], _TWO_LENGTHS, [("connection", "close")])
            return
        declared = headers.get("content-length", "0")
        is_number = declared.isascii() and declared.isdigit() and len(declared) < _MAXIMUM_NUMBER_LENGTH
        if not is_number or int(declared) > MAXIMUM_BODY_BYTES:
            await _answer(send, scope["method"], _TOO_LARGE)
            return
        body = b""
        while True:
            message = await receive()
            if message["type"] != "http.request":
                return
            body += message.get("body", b"")
            if len(body) > MAXIMUM_BODY_BYTES:
                await _answer(send, scope["method"], _TOO_LARGE)
                return
            if not message.get("more_body"):
                break
        is_read = False

        async def replayed() -> Message:
            nonlocal is_read
            if is_read:
                return await receive()
            is_read = True
            return {"type": "http.request", "body": body, "more_body": False}

        await self._application(scope, replayed, send)


_TWO_LENGTHS = Refusal(400, "The length of a request's body is given twice.")
_TOO_LARGE = Refusal(413, f"The body of a request has at most {MAXIMUM_BODY_BYTES:,} bytes.")


def _with_headers(send: Send) -> Send:
    async def sent(message: Message) -> None:
        if message["type"] == "http.response.start":
            headers = MutableHeaders(scope=message)
            for name, value in HEADERS.items():
                headers.setdefault(name, value)
        await send(message)

    return sent


async def _answer(send: Send, method: str, refusal: Refusal, headers: list[tuple[str, str]] | None = None) -> None:
    await _respond(send, method, refusal.status, f"{refusal.text}\n", headers)


async def _respond(
    send: Send,
    method: str,
    status: int,
    text: str,
    headers: list[tuple[str, str]] | None = None,
    content_type: str = "text/plain; charset=utf-8",
) -> None:
    body = text.encode()
    fields = [("content-type", content_type), ("content-length", str(len(body))), *(headers or [])]
    raw = [(name.encode(), value.encode("latin-1")) for name, value in fields]
    await send({"type": "http.response.start", "status": status, "headers": raw})
    await send({"type": "http.response.body", "body": b"" if method == "HEAD" else body})
