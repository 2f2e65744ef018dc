"""The web server, with its socket, thread, and address with token."""

from __future__ import annotations

import ipaddress
import logging
import socket
import threading
import webbrowser
from collections.abc import Iterable
from typing import TYPE_CHECKING

import uvicorn

from tablevault.errors import TVArgumentError
from tablevault.system.warnings import warn
from tablevault.web.application import make_application
from tablevault.web.gate import Gate
from tablevault.web.tokens import Token

if TYPE_CHECKING:
    from tablevault.vault import TableVault

_BACKLOG = 128
_LOOKS = 0.2
"""Seconds between two polls of the waiting thread, so that Ctrl-C can interrupt it."""
_SECONDS_TO_CLOSE = 5


class Server:
    """A running server of one vault's page.

    Parameters
    ----------
    url
        The address, with its token.
    server
        The HTTP server.
    thread
        The thread that runs it.
    """

    def __init__(self, url: str, server: uvicorn.Server, thread: threading.Thread) -> None:
        self.url = url
        """The address to open, with the token that is valid until the server ends."""
        self._server = server
        self._thread = thread

    def __repr__(self) -> str:
        return f"Server({self.url!r})"

    def close(self) -> None:
        """Stop answering requests."""
        self._server.should_exit = True
        self._thread.join(_SECONDS_TO_CLOSE)
        if self._thread.is_alive():
            # A media player may keep its connection open.
            self._server.force_exit = True
            self._thread.join(_SECONDS_TO_CLOSE)

    def wait(self) -> None:
        """Print the address; return when the server is closed, or on Ctrl-C, which closes it."""
        try:
            # From here on, the user knows of the server and may end it.
            print(self.url, flush=True)
            while self._thread.is_alive():
                self._thread.join(_LOOKS)
        except KeyboardInterrupt:
            self.close()


def start(
    vault: TableVault, host: str, port: int, allow_writes: bool, allow_hosts: Iterable[str], open_browser: bool
) -> Server:
    """Start a server for a vault.

    Parameters
    ----------
    vault
        The vault.
    host
        The address to listen on.
    port
        The port; 0 for any free one.
    allow_writes
        Whether pages offer actions.
    allow_hosts
        Further values of `Host` that are accepted.
    open_browser
        Whether to open the address in a browser.

    Raises
    ------
    TVArgumentError
        If other machines could connect and no host is allowed, or an allowed host is invalid.
    OSError
        If the port is taken, or the address is not one of this machine.
    """
    hosts = frozenset(map(_checked_host, allow_hosts))
    is_loopback = _is_loopback(host)
    if not is_loopback and not hosts:
        raise TVArgumentError(
            f"host {host!r} can be reached from other machines: list the host names that they use in allow_hosts "
            "(--allow-host)."
        )
    listening = _listen(host, port)
    actual = int(listening.getsockname()[1])
    token = Token(actual)
    address = _in_url(host) if is_loopback else ""
    gate = Gate(make_application(vault, allow_writes), token, actual, address, hosts)
    name = address or sorted(hosts)[0]
    place = name if not is_loopback and _has_port(name) else f"{name}:{actual}"
    if not is_loopback:
        warn(f"The page of {vault.db_dir} is served to other machines, without encryption: the token can be read.")
    server = Server(f"http://{place}/?token={token.text}", *_serve(gate, listening))
    if open_browser:
        # A browser in the terminal returns only when it is closed.
        threading.Thread(target=webbrowser.open, args=(server.url,), daemon=True).start()
    return server


def _serve(gate: Gate, listening: socket.socket) -> tuple[uvicorn.Server, threading.Thread]:
    config = uvicorn.Config(
        gate,
        loop="asyncio",
        http="h11",
        ws="none",
        interface="asgi3",
        lifespan="off",
        log_config=None,
        log_level=logging.CRITICAL,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        timeout_graceful_shutdown=1,
    )
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]}, name="tablevault page", daemon=True)
    thread.start()
    return server, thread


def _listen(host: str, port: int) -> socket.socket:
    """Return a socket that accepts connections from now on."""
    family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    listening = socket.socket(family, kind, protocol)
    try:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind(address)
        listening.listen(_BACKLOG)
    except OSError:
        listening.close()
        raise
    return listening


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host.lower() == "localhost"


def _in_url(host: str) -> str:
    return f"[{host}]" if ":" in host else host.lower()


def _has_port(host: str) -> bool:
    return host.rpartition(":")[2].isdigit() and not host.endswith("]")


def _checked_host(host: str) -> str:
    if not host or any(character in host for character in "/@?#\\,; \t\r\n") or not host.isascii():
        raise TVArgumentError(f"allow_hosts names {host!r}, which no browser sends as Host; write a name or name:port.")
    return host.lower()
