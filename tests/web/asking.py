"""Raw requests to a server of the page."""

from __future__ import annotations

import json
from dataclasses import dataclass
from http.client import HTTPConnection, HTTPMessage
from urllib.parse import parse_qs, urlencode, urlsplit

from waiting import PATIENCE

FORM = "application/x-www-form-urlencoded"


@dataclass(frozen=True)
class Answer:
    """A response."""

    status: int
    headers: HTTPMessage
    body: bytes

    @property
    def text(self) -> str:
        return self.body.decode()

    @property
    def json(self):
        return json.loads(self.body)


class Client:
    """Sends requests exactly as they are given.

    Parameters
    ----------
    url
        The address that the server printed.
    """

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        self.port = parts.port
        self.host = f"127.0.0.1:{parts.port}"
        self.origin = f"http://{self.host}"
        self.token = parse_qs(parts.query)["token"][0]
        self.bearer = {"Authorization": f"Bearer {self.token}"}

    def send(
        self, method: str, path: str, headers: dict[str, str], body: bytes = b"", host: str | None = None
    ) -> Answer:
        """Send a request with these headers and no others, but `Host`; `host=""` leaves that out, too."""
        connection = HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE)
        try:
            connection.putrequest(method, path, skip_host=True, skip_accept_encoding=True)
            wanted = self.host if host is None else host
            if wanted:
                connection.putheader("Host", wanted)
            for name, value in headers.items():
                connection.putheader(name, value)
            if body and "Content-Length" not in headers and "Transfer-Encoding" not in headers:
                connection.putheader("Content-Length", str(len(body)))
            connection.endheaders(body or None)
            response = connection.getresponse()
            return Answer(response.status, response.headers, response.read())
        finally:
            connection.close()

    def get(self, path: str, **headers: str) -> Answer:
        """Read a page, with the token."""
        return self.send("GET", path, {**self.bearer, **headers})

    def post(self, path: str, **fields: str) -> Answer:
        """Send a form as the page's own forms do."""
        body = urlencode(fields).encode()
        headers = {**self.bearer, "Origin": self.origin, "Content-Type": FORM, "Content-Length": str(len(body))}
        return self.send("POST", path, headers, body)
