"""The interpreter's single connection to a Ray cluster, shared by all vaults.

A cluster started here is shut down with the last vault that uses it. Ray is imported on demand.
"""

from __future__ import annotations

import os
import signal
import socket
import threading
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from tablevault.builders.policies import Policies
from tablevault.errors import TVArgumentError
from tablevault.system.extras import imported
from tablevault.values.clusters import RayOptions

ROWS_PER_ASYNC_WORKER = 16
"""Default number of concurrent rows in a worker that runs an async function."""
_ENOUGH_SECONDS = 2.0
"""Seconds in which a live cluster accepts a connection."""

_lock = threading.RLock()
_users: set[int] = set()
"""Ids of the options of vaults that use the cluster started here."""


@dataclass(frozen=True)
class RayCluster:
    """The cluster that this interpreter is connected to."""

    ray: Any
    """The module `ray`."""
    address: str
    """Address of its head."""

    @property
    def is_connected(self) -> bool:
        """Whether this interpreter is still connected to it."""
        return bool(self.ray.is_initialized()) and _address(self.ray) == self.address

    @property
    def is_reachable(self) -> bool:
        """Whether its head accepts a connection."""
        return _accepts(self.address)

    def disconnect(self) -> None:
        """Disconnect from a lost cluster; otherwise Ray would exit this interpreter after a minute."""
        with _lock, _signals_kept():
            if self.is_connected:
                self.ray.shutdown()

    def workers(self, policies: Policies) -> int:
        """Return the maximum number of workers of a builder."""
        if policies.max_workers is not None:
            return policies.max_workers
        total = self.ray.cluster_resources()
        needed = policies.resources.amounts or {"CPU": 1.0}
        return max(1, policies.min_workers, int(min(total.get(name, 0) // amount for name, amount in needed.items())))

    def places(self, policies: Policies, is_async: bool) -> int:
        """Return the maximum number of concurrent rows of a builder."""
        places = self.workers(policies) * rows_per_worker(policies, is_async)
        return places if policies.max_concurrency is None else min(places, policies.max_concurrency)


def rows_per_worker(policies: Policies, is_async: bool) -> int:
    """Return the number of concurrent rows of a builder in one worker."""
    return policies.rows_per_worker or (ROWS_PER_ASYNC_WORKER if is_async else 1)


def connect(options: RayOptions) -> RayCluster:
    """Connect to the cluster of a vault, or start one if it has no address.

    Raises
    ------
    TVArgumentError
        If Ray is not installed, or if the interpreter is connected to another cluster.
    ConnectionError
        If there is no cluster at the address.
    """
    ray = imported("ray", "'executor: ray'", "ray")
    address = options.address or os.environ.get("RAY_ADDRESS", "")
    with _lock:
        if ray.is_initialized():
            _check_same(ray, options.address)
        else:
            _users.clear()
            _start(ray, address)
            if not address:
                _users.add(0)
        if _users and id(options) not in _users:
            _users.add(id(options))
            weakref.finalize(options, _release, ray, id(options), os.getpid()).atexit = False
        return RayCluster(ray, _address(ray))


def _start(ray: Any, address: str) -> None:
    """Connect to the cluster at an address.

    If the address is empty, starts a cluster on this machine.
    """
    if address.startswith("ray://"):
        raise TVArgumentError(
            f"RAY_ADDRESS is {address!r}, which is a Ray Client address; run this on a machine of the cluster"
        )
    if ":" in address and not _accepts(address):
        # Ray itself would retry for a minute and then exit this interpreter.
        raise ConnectionError(
            f"'executor: ray' found no Ray cluster at {address!r}: the address does not accept connections"
        )
    own = {} if address else {"include_dashboard": False}
    try:
        with _signals_kept():
            ray.init(address=address or "local", logging_level="WARNING", **own)
    except (ConnectionError, ValueError, RuntimeError) as error:
        where = f"at {address!r}" if address else "on this machine"
        raise ConnectionError(f"'executor: ray' found no Ray cluster {where}: {error}") from error


def _check_same(ray: Any, address: str) -> None:
    """Raise `TVArgumentError` if an address differs from that of the connected cluster."""
    if _is_client(ray):
        raise TVArgumentError(
            "this interpreter is connected to Ray through Ray Client; run it on a machine of the cluster, with "
            "ray.init(address='auto')"
        )
    own = _address(ray)
    if address in ("", "auto") or (address != "local" and _resolved(address) == _resolved(own)):
        return
    raise TVArgumentError(
        f"this interpreter is already connected to the Ray cluster at {own}, but the vault names {address!r}. Use "
        "ray={'address': 'auto'} for the connected cluster, or call ray.shutdown() first."
    )


def _accepts(address: str) -> bool:
    """Return whether a head accepts a connection."""
    host, _, port = address.rpartition(":")
    try:
        socket.create_connection((host.strip("[]"), int(port)), _ENOUGH_SECONDS).close()
    except (OSError, ValueError):
        return False
    return True


def _address(ray: Any) -> str:
    return str(ray.get_runtime_context().gcs_address)


def _is_client(ray: Any) -> bool:
    client = getattr(ray.util, "client", None)
    return client is not None and bool(client.ray.is_connected())


def _resolved(address: str) -> tuple[str, str]:
    """Return the host and port of an address, with one name for this machine."""
    host, _, port = address.rpartition(":")
    try:
        found = socket.gethostbyname(host.strip("[]"))
        own = {"127.0.0.1", socket.gethostbyname(socket.gethostname())}
    except OSError:
        return host, port
    return "127.0.0.1" if found in own or _is_own(found) else found, port


def _is_own(host: str) -> bool:
    """Return whether a host is this machine, which can only bind its own addresses."""
    with socket.socket() as probe:
        try:
            probe.bind((host, 0))
        except OSError:
            return False
    return True


def _release(ray: Any, user: int, process: int) -> None:
    """Shut down the cluster started here once no vault uses it."""
    if os.getpid() != process:
        return
    with _lock:
        _users.discard(user)
        if _users == {0}:
            _users.clear()
            with _signals_kept():
                ray.shutdown()


@contextmanager
def _signals_kept() -> Iterator[None]:
    """Restore the handlers of SIGINT and SIGTERM afterwards, since Ray replaces them."""
    numbers = (signal.SIGINT, signal.SIGTERM)
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    handlers = {number: signal.getsignal(number) for number in numbers}
    try:
        yield
    finally:
        for number, handler in handlers.items():
            if handler is not None:
                signal.signal(number, handler)
