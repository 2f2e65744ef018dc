"""Accepted and refused requests.

Every request passes the same checks, in the same order.
"""

from __future__ import annotations

import queue
import socket

import pytest
from asking import FORM, Client

from tablevault import TableVaultWarning, tv_errors

OTHER_SITE = {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "document"}


@pytest.mark.parametrize("path", ["/", "/static/page.css", "/nowhere", "/index.json"])
def test_each_check_refuses_before_the_next(reader, path):
    bad_site = {"Sec-Fetch-Site": "same-site"}
    for method in ("GET", "HEAD", "POST", "PUT", "OPTIONS"):
        assert reader.send(method, path, bad_site, host="evil.example").status == 421
        assert reader.send(method, path, {**reader.bearer, **bad_site}).status == 403
        # Without a token a form from elsewhere is told of its origin, not of the token.
        assert reader.send(method, path, {}).status == (401 if method in ("GET", "HEAD") else 403)
    own = {**reader.bearer, "Origin": reader.origin, "Content-Type": FORM}
    for method in ("PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "PROPFIND"):
        assert reader.send(method, path, own).status == 405


@pytest.mark.parametrize(
    "host",
    ["evil.example", "evil.example:{port}", "localhost", "127.0.0.1", "localhost:1", "127.0.0.1:{port}.evil", ""],
)
def test_other_hosts_are_refused(reader, host):
    answer = reader.send("GET", "/", reader.bearer, host=host.format(port=reader.port))
    # A request of HTTP/1.1 without Host is none at all.
    assert answer.status == (421 if host else 400)
    assert "tables" not in answer.text.lower()


@pytest.mark.parametrize("host", ["localhost:{port}", "LOCALHOST:{port}", "127.0.0.1:{port}", "[::1]:{port}"])
def test_the_names_of_this_machine_pass(reader, host):
    assert reader.send("GET", "/", reader.bearer, host=host.format(port=reader.port)).status == 200


def test_two_hosts_are_refused(reader):
    with socket.create_connection(("127.0.0.1", reader.port), timeout=60) as connection:
        lines = [
            "GET / HTTP/1.0",
            f"Host: {reader.host}",
            "Host: evil",
            f"Authorization: Bearer {reader.token}",
            "",
            "",
        ]
        connection.sendall("\r\n".join(lines).encode())
        assert connection.recv(200).split()[1] in (b"400", b"421")


@pytest.mark.parametrize("site", ["same-site", "cross-site", "anything"])
def test_requests_from_other_sites_are_refused(reader, site):
    for more in ({}, {"Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "document"}, {"Sec-Fetch-Mode": "no-cors"}):
        assert reader.send("GET", "/", {**reader.bearer, "Sec-Fetch-Site": site, **more}).status == 403


def test_a_link_with_the_token_may_come_from_another_site(reader):
    answer = reader.send("GET", f"/table/stories?token={reader.token}&before=", OTHER_SITE)
    assert answer.status == 200
    assert 'http-equiv="refresh" content="0;url=/table/stories' in answer.text
    assert answer.headers["Set-Cookie"].startswith(f"tablevault_{reader.port}={reader.token};")
    assert reader.send("GET", "/?token=wrong", OTHER_SITE).status == 403
    assert reader.send("GET", "/", OTHER_SITE).status == 403
    assert reader.send("HEAD", f"/?token={reader.token}", OTHER_SITE).status == 403
    for name, value in (("Sec-Fetch-Dest", "iframe"), ("Sec-Fetch-Dest", "image"), ("Sec-Fetch-Mode", "cors")):
        assert reader.send("GET", f"/?token={reader.token}", {**OTHER_SITE, name: value}).status == 403


def test_an_address_with_the_token_leads_to_one_without(reader):
    answer = reader.send("GET", f"/processes?status=paused&token={reader.token}", {})
    assert (answer.status, answer.headers["Location"]) == (303, "/processes?status=paused")
    cookie = answer.headers["Set-Cookie"]
    assert cookie == f"tablevault_{reader.port}={reader.token}; HttpOnly; SameSite=Strict; Path=/"
    assert reader.send("GET", "/", {"Cookie": cookie.partition(";")[0]}).status == 200
    # A token that is wrong is not put into a cookie, whatever else the request shows.
    assert reader.send("GET", "/?token=wrong", reader.bearer).headers["Set-Cookie"] is None


@pytest.mark.parametrize(
    "path", ["//evil.example/", "///evil.example", "/\\evil.example", "/%5cevil.example", "/%2Fevil"]
)
def test_the_address_without_the_token_is_on_this_server(reader, path):
    location = reader.send("GET", f"{path}?token={reader.token}", {}).headers["Location"]
    assert location.startswith("/")
    assert not location.startswith(("//", "/\\"))


def test_tokens_are_compared_whole(reader, writer):
    for text in ("", reader.token[:-1], f"{reader.token}x", reader.token.lower(), writer.token, "ü", "\u2028"):
        headers = {"Authorization": f"Bearer {text}".encode()}
        assert reader.send("GET", "/", headers).status == 401
        cookie = {"Cookie": f"tablevault_{reader.port}={text}".encode()}
        assert reader.send("GET", "/", cookie).status == 401
    other_name = {"Cookie": f"tablevault_{writer.port}={reader.token}"}
    assert reader.send("GET", "/", other_name).status == 401
    assert reader.send("GET", "/", {"Cookie": f"a=b; tablevault_{reader.port}={reader.token}; c"}).status == 200
    assert len(reader.token) >= 43  # 256 bits


def test_the_answer_without_a_token_is_one_line_of_help(reader):
    answer = reader.send("GET", "/table/stories", {})
    assert answer.text.count("\n") == 1
    assert "tablevault serve" in answer.text
    assert "stories" not in answer.text


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Origin": "null"},
        {"Origin": "http://evil.example"},
        {"Origin": "http://127.0.0.1:1"},
        {"Origin": "https://{host}"},
        {"Origin": "http://localhost:{port}"},
        {"Origin": "http://{host}", "Content-Type": "text/plain"},
        {"Origin": "http://{host}", "Content-Type": "multipart/form-data; boundary=x"},
        {"Origin": "http://{host}", "Content-Type": ""},
    ],
)
def test_forms_of_other_origins_and_types_are_refused(writer, headers):
    given = {name: text.format(host=writer.host, port=writer.port) for name, text in headers.items()}
    answer = writer.send("POST", "/process/broken.json/stop", {**writer.bearer, "Content-Type": FORM, **given})
    assert answer.status == 403


def test_bodies_are_bounded(writer):
    own = {**writer.bearer, "Origin": writer.origin, "Content-Type": FORM}
    large = b"x=" + b"a" * 70_000
    assert writer.send("POST", "/process/broken.json/stop", own, large).status == 413
    assert writer.send("GET", "/", {**writer.bearer, "Content-Length": "10000000"}).status == 413
    chunks = b"11170\r\n" + b"a" * 0x11170 + b"\r\n0\r\n\r\n"
    assert writer.send("POST", "/nowhere", {**own, "Transfer-Encoding": "chunked"}, chunks).status == 413


def raw(client, lines, rest=b""):
    """Send lines and bytes, and return the complete response.

    It is complete when no more bytes arrive, or the connection is closed.
    """
    given = [line.format(host=client.host, token=client.token, origin=client.origin) for line in lines]
    with socket.create_connection(("127.0.0.1", client.port), timeout=60) as connection:
        connection.sendall("\r\n".join([*given, "Connection: close", "", ""]).encode() + rest)
        received = b""
        try:
            while part := connection.recv(65_536):
                received += part
        except ConnectionResetError:
            # What it did not read was in the way of its answer.
            pass
    return received


FORM_LINES = (
    "POST /nowhere HTTP/1.1", "Host: {host}", "Authorization: Bearer {token}", "Origin: {origin}", f"Content-Type: {FORM}",
)  # fmt: skip


@pytest.mark.parametrize(
    "lines",
    [
        ("Content-Length: 4", "Transfer-Encoding: chunked"),
        ("Transfer-Encoding: chunked", "Content-Length: 60"),
        ("Content-Length: 0", "Content-Length: 40"),
        ("Content-Length: 0, 40",),
        ("Transfer-Encoding: xchunked",),
        ("Transfer-Encoding: chunked, identity",),
        ("Transfer-Encoding : chunked",),
        ("Content-Length: +4",),
        ("X: a\rContent-Length: 4",),
    ],
)
def test_a_request_inside_the_body_of_another_is_not_answered(writer, lines):
    hidden = f"0\r\n\r\nGET /index.json HTTP/1.1\r\nHost: {writer.host}\r\nAuthorization: Bearer {writer.token}\r\n\r\n"
    answer = raw(writer, [*FORM_LINES, *lines], hidden.encode())
    assert answer.startswith(b"HTTP/1.1 400")
    assert answer.count(b"HTTP/1.1 ") == 1
    assert b"stories" not in answer


@pytest.mark.parametrize(
    ("lines", "status"),
    [
        (("GET http://{host}/ HTTP/1.1", "Host: evil.example", "Authorization: Bearer {token}"), b"421"),
        (("GET / HTTP/1.1", "Host: {host}", " .evil.example", "Authorization: Bearer {token}"), b"421"),
        (("GET / HTTP/1.1", "Host: {host}", "Host: {host}", "Authorization: Bearer {token}"), b"400"),
        (("GET / HTTP/1.1", "Host : {host}", "Authorization: Bearer {token}"), b"400"),
        (("GET / HTTP/1.1", "Host: {host}", "X-Forwarded-Host: evil.example", "Upgrade: websocket"), b"401"),
        (("GET /table/\0 HTTP/1.1", "Host: {host}", "Authorization: Bearer {token}"), b"400"),
        (("CONNECT evil.example:80 HTTP/1.1", "Host: {host}", "Authorization: Bearer {token}"), b"403"),
        (("PRI * HTTP/2.0", "", "SM"), b"421"),
    ],
)
def test_requests_of_other_forms_are_refused(reader, lines, status):
    answer = raw(reader, lines)
    assert answer.split()[1] == status
    assert b"stories" not in answer


def test_huge_headers_and_slow_clients_leave_the_others_alone(reader):
    huge = raw(reader, ("GET / HTTP/1.1", "Host: {host}", "Authorization: Bearer {token}", f"X: {'a' * 300_000}"))
    assert huge == b"" or huge.startswith(b"HTTP/1.1 400")
    slow = [socket.create_connection(("127.0.0.1", reader.port), timeout=60) for _ in range(40)]
    try:
        for number, connection in enumerate(slow):
            # Half a request, or one whose answer is not read.
            end = f"Host: {reader.host}\r\nAuthorization: Bearer {reader.token}\r\n\r\n" if number % 2 else "Host:"
            connection.sendall(f"GET /table/hostile/base/row/6 HTTP/1.1\r\n{end}".encode())
        assert reader.get("/index.json").status == 200
    finally:
        for connection in slow:
            connection.close()


@pytest.mark.parametrize(
    "path", ["/table/stories/base/row/" + "9" * 5000, "/table/stories/base/row/-1", "/table/stories/base/row/1e3"]
)
def test_numbers_are_bounded(reader, path):
    assert reader.get(path).status == 404
    assert reader.get(f"/table/stories/base?row={'9' * 5000}").status == 400
    assert reader.send("GET", "/", {**reader.bearer, "Content-Length": "9" * 5000}).status in (400, 413)


def test_site_that_is_named_twice_is_refused(reader):
    with socket.create_connection(("127.0.0.1", reader.port), timeout=60) as connection:
        lines = [
            "GET / HTTP/1.1",
            f"Host: {reader.host}",
            f"Authorization: Bearer {reader.token}",
            "Sec-Fetch-Site: none",
            "Sec-Fetch-Site: cross-site",
        ]
        connection.sendall("\r\n".join([*lines, "", ""]).encode())
        assert connection.recv(200).split()[1] == b"403"


def test_every_answer_has_the_headers_of_a_page(reader):
    refused = reader.send("GET", "/", {}, host="evil.example")
    for answer in (
        reader.get("/"),
        reader.get("/index.json"),
        reader.get("/nowhere"),
        refused,
        reader.send("GET", "/", {}),
    ):
        policy = answer.headers["Content-Security-Policy"]
        assert policy == (
            "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; media-src 'self'; "
            "connect-src 'self'; frame-src 'self'; object-src 'self'; form-action 'self'; frame-ancestors 'none'; "
            "base-uri 'none'"
        )
        assert answer.headers["X-Content-Type-Options"] == "nosniff"
        assert answer.headers["Referrer-Policy"] == "same-origin"
        assert answer.headers["Cross-Origin-Resource-Policy"] == "same-origin"
        assert answer.headers["Cross-Origin-Opener-Policy"] == "same-origin"
        assert answer.headers["Cache-Control"] == "private"
        assert not [name for name in answer.headers if name.lower().startswith("access-control")]
        assert answer.headers["Server"] is None


def test_allowed_hosts_are_answered_with_and_without_a_port(shown):
    server = shown.vault.serve(block=False, allow_hosts=["Box.example"])
    try:
        client = Client(server.url)
        for host in ("box.example", "BOX.example:8443"):
            assert client.send("GET", "/", client.bearer, host=host).status == 200
        form = {**client.bearer, "Content-Type": FORM, "Origin": "https://box.example"}
        # It passes the gate, and is refused for want of actions.
        refused = client.send("POST", "/process/broken.json/stop", form, host="box.example")
        assert "allow-writes" in refused.text
        assert (
            "another origin" in client.send("POST", "/", {**form, "Origin": "https://other"}, host="box.example").text
        )
        for host in ("box.example.evil", "evil-box.example", "box.example:x", "box.example:"):
            assert client.send("GET", "/", client.bearer, host=host).status == 421
    finally:
        server.close()


def test_other_machines_need_an_allowed_host(shown):
    with pytest.raises(tv_errors.TVArgumentError, match="allow_hosts"):
        shown.vault.serve(host="0.0.0.0", block=False)
    with pytest.raises(tv_errors.TVArgumentError, match="no browser sends"):
        shown.vault.serve(allow_hosts=["http://box"], block=False)
    with pytest.warns(TableVaultWarning, match="without encryption"):
        server = shown.vault.serve(host="0.0.0.0", allow_hosts=["box.example"], block=False)
    server.close()
    assert server.url.startswith("http://box.example:")


def test_a_server_that_is_closed_takes_its_token_along(shown):
    first = shown.vault.serve(block=False)
    client = Client(first.url)
    first.close()
    second = shown.vault.serve(client.port, block=False)
    try:
        assert client.get("/").status == 401
        assert Client(second.url).get("/").status == 200
        with pytest.raises(OSError, match="in use"):
            shown.vault.serve(client.port, block=False)
    finally:
        second.close()


def test_browser_is_opened_at_the_address(shown, monkeypatch):
    opened = queue.Queue()
    monkeypatch.setattr("webbrowser.open", opened.put)
    server = shown.vault.serve(block=False, open_browser=True)
    server.close()
    assert opened.get(timeout=60) == server.url
