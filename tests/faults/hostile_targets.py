"""Targets of hostile input.

Each takes bytes, and returns the problem or an empty text.
"""

from __future__ import annotations

import contextlib
import io
import lzma
import os
import shutil
import tarfile
import tempfile
from collections.abc import Callable
from pathlib import Path

from hostile_guard import Guard
from hostile_mutations import OUTSIDE, Choices, mutate_bytes
from hostile_vaults import ReceivedVault, read

from tablevault import TableVault, TableVaultError, decompress_vault
from tablevault.builders.document import read_document
from tablevault.builders.spec import build_spec
from tablevault.references import Placement, check_placement, dependencies, find_references

Target = Callable[[bytes], str]
CORPUS = Path(__file__).with_name("corpus")


class Sandbox:
    """A folder that hostile input may change, beside one that it must not touch."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.inside = folder / "received"
        self.temporary = self.inside / "temporary"
        self.outside = folder / "outside"
        self.outside.mkdir()
        (self.outside / "kept.txt").write_text("kept")
        self._guard = Guard()

    def watched(self, call: Callable[[], object]) -> str:
        """Run a call; say what it touched outside, ran, or raised beside errors of ours."""
        with self._guard.watching(self.inside) as found:
            try:
                call()
            except TableVaultError:
                pass
            except Exception as error:
                found.append(f"{type(error).__name__}: {error!s:.300}")
        names = [path.name for path in self.outside.iterdir()] if self.outside.is_dir() else []
        if names != ["kept.txt"] or (self.outside / "kept.txt").read_text() != "kept":
            found.append(f"something outside was touched: {names}")
        return "; ".join(found)


def references(sandbox: Sandbox) -> Target:
    """The parser of references."""

    def parse(text: str) -> None:
        find_references(text)
        dependencies(text)
        for where in Placement:
            with contextlib.suppress(TableVaultError):
                check_placement(text, where=where)

    return lambda data: sandbox.watched(lambda: parse(data.decode("utf-8", "surrogateescape")))


def builders(sandbox: Sandbox) -> Target:
    """Builder files with hostile YAML or hostile content."""

    def build(text: str) -> None:
        build_spec(read_document(text, "draw.yaml"), "draw", lambda value: value)

    return lambda data: sandbox.watched(lambda: build(data.decode("utf-8", "surrogateescape")))


def archives(sandbox: Sandbox) -> Target:
    """Archives of vaults, unpacked and imported from."""
    sandbox.temporary.mkdir(parents=True)
    tempfile.tempdir = str(sandbox.temporary)
    vault = sandbox.inside / "vault"
    archive = sandbox.inside / "vault.tar.xz"
    own = TableVault(sandbox.inside / "own", create=True, author="eve")
    kept = {"own", "temporary"}

    def take(data: bytes) -> str:
        choice = Choices(data)
        archive.write_bytes(made_archive(choice))
        if choice.random() < 0.2:
            problem = sandbox.watched(lambda: own.import_instances(archive))
            problem += "; it was imported" if own.get_tables() else ""
        else:
            problem = sandbox.watched(lambda: decompress_vault(vault))
        left = {path.name for path in sandbox.inside.iterdir()} - kept
        if left not in ({"vault", "vault.tar.xz"}, {"vault.tar.xz"}) or any(sandbox.temporary.iterdir()):
            problem += f"; it left {sorted(left)} and {[path.name for path in sandbox.temporary.iterdir()]}"
        for path in vault.rglob("*"):
            if path.is_symlink() and not Path(os.path.realpath(path)).is_relative_to(os.path.realpath(vault)):
                problem += f"; the link {path} leads out"
        for path in sandbox.inside.iterdir():
            if path.name not in kept:
                _remove(path)
        return problem

    return take


def vaults(sandbox: Sandbox) -> Target:
    """Vaults received from others."""
    received = ReceivedVault(sandbox.folder)
    sandbox.temporary.mkdir()
    tempfile.tempdir = str(sandbox.temporary)

    def open_and_read(data: bytes) -> str:
        choice = Choices(data)
        received.restore()
        what = received.mutate(choice)
        faults: list[str] = []
        problem = sandbox.watched(lambda: faults.extend(read(received.folder, choice)))
        problem = "; ".join([*faults, *([problem] if problem else [])])
        names = sorted(path.name for path in sandbox.inside.iterdir())
        if not set(names) <= {"temporary", "vault"}:
            problem += f"; beside the vault are {names}"
        return f"{what}: {problem}" if problem else ""

    return open_and_read


def requests(sandbox: Sandbox) -> Target:
    """Requests to the web page."""
    from hostile_requests import HostileRequests

    sandbox.temporary.mkdir(parents=True)
    tempfile.tempdir = str(sandbox.temporary)
    hostile = HostileRequests(sandbox.inside)

    def send(data: bytes) -> str:
        faults: list[str] = []
        problem = sandbox.watched(lambda: faults.append(hostile.send(data)))
        return "; ".join(filter(None, [*faults, problem]))

    return send


def calls(sandbox: Sandbox) -> Target:
    """Calls of agents' tools."""
    sandbox.temporary.mkdir(parents=True)
    tempfile.tempdir = str(sandbox.temporary)
    from hostile_calls import HostileCalls

    hostile = HostileCalls(sandbox.inside)

    def call(data: bytes) -> str:
        faults: list[str] = []
        problem = sandbox.watched(lambda: faults.append(hostile.call(data)))
        return "; ".join(filter(None, [*faults, problem]))

    return call


def statements(sandbox: Sandbox, as_user: bool = False) -> Target:
    """SQL statements for `query`."""
    from hostile_statements import HostileStatements

    sandbox.temporary.mkdir(parents=True)
    tempfile.tempdir = str(sandbox.temporary)
    hostile = HostileStatements(sandbox.inside, as_user)

    def query(data: bytes) -> str:
        faults: list[str] = []
        problem = sandbox.watched(lambda: faults.append(hostile.query(data)))
        return "; ".join(filter(None, [*faults, problem]))

    return query


def statements_of_user(sandbox: Sandbox) -> Target:
    """The same by an ordinary user, whom root becomes for good."""
    for folder in (sandbox.folder, *sandbox.folder.parents[:2]):
        # Which others may not enter, as it is made.
        if os.geteuid() == folder.stat().st_uid:
            folder.chmod(folder.stat().st_mode | 0o011)
    return statements(sandbox, as_user=True)


TARGETS: dict[str, Callable[[Sandbox], Target]] = {
    "references": references,
    "builders": builders,
    "archives": archives,
    "vaults": vaults,
    "requests": requests,
    "calls": calls,
    "statements": statements,
    "statements-of-user": statements_of_user,
}


def seeds(name: str) -> list[bytes]:
    """Return the stored inputs.

    They are typical ones, and those that once did harm.
    """
    return [path.read_bytes() for path in sorted(corpus(name).iterdir())]


def corpus(name: str) -> Path:
    """Return the folder with the inputs that are kept for a target."""
    return CORPUS / name.removesuffix("-of-user")


# --- archives -----------------------------------------------------------------------------------------------------

_NAMES = (
    "vault",
    "vault/a",
    "vault/a/b",
    "vault/a/b/c.txt",
    "vault/code_functions/x.py",
    "vault/metadata",
    "vault/.",
    "vault//a",
    "",
    ".",
    "..",
    "/etc/stranger",
    "vault/..",
    "vault/../../outside/kept.txt",
    "../outside/kept.txt",
    f"vault/{OUTSIDE}/x",
    "vault/" + "n" * 300,
    "vault/" + "d/" * 60 + "x",
    "vault/with\0nul",
    "vault/.tablevault",
    "vault/link",
    "vault/link/x",
    "vault/link/kept.txt",
)
_LINKS = (
    "a",
    "..",
    "../..",
    "/",
    "/etc/passwd",
    "a/../..",
    "link",
    ".",
    "",
    f"{OUTSIDE}/kept.txt",
    "vault/a",
    "vault/.tablevault",
)
_KINDS = tuple(bytes([kind]) for kind in b"0000055521234667SgxLKDMV\0A")


def made_archive(choice: Choices) -> bytes:
    """Return an archive of a small vault with members that do harm, damaged or not."""
    sink = io.BytesIO()
    form = choice.choice((tarfile.PAX_FORMAT, tarfile.GNU_FORMAT, tarfile.USTAR_FORMAT))
    with tarfile.open(fileobj=sink, mode="w", format=form) as archive:
        _add(archive, tarfile.TarInfo("vault/.tablevault"), b'{"format": 1, "vault_id": "x", "created": "x"}\n')
        _add(archive, tarfile.TarInfo("vault/metadata/catalog.db"), b"none")
        for _ in range(choice.randrange(6)):
            _add_hostile(archive, choice)
    content = sink.getvalue()
    if choice.random() < 0.3:
        content = mutate_bytes(content, choice)
    packed = lzma.compress(content, preset=0)
    return mutate_bytes(packed, choice) if choice.random() < 0.15 else packed


def _add_hostile(archive: tarfile.TarFile, choice: Choices) -> None:
    member = tarfile.TarInfo(choice.choice(_NAMES))
    member.type = choice.choice(_KINDS)
    member.linkname = choice.choice(_LINKS)
    member.mode = choice.choice((0o644, 0o755, 0o444, 0o000, 0o7777))
    if choice.random() < 0.1:
        member.pax_headers = {choice.choice(("path", "linkpath", "size", "GNU.sparse.map", "x")): choice.choice(_NAMES)}
    with contextlib.suppress(ValueError, OverflowError):
        _add(archive, member, choice.randbytes(choice.randrange(40)))


def _add(archive: tarfile.TarFile, member: tarfile.TarInfo, content: bytes) -> None:
    member.size = len(content)
    archive.addfile(member, io.BytesIO(content))


def _remove(path: Path) -> None:
    if not path.is_dir() or path.is_symlink():
        path.unlink()
        return
    for place, _, _ in os.walk(path):
        os.chmod(place, 0o755)
    shutil.rmtree(path)
