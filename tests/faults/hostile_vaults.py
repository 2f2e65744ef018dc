"""Received vaults with every kind of file, their mutations, and reads of all of it."""

from __future__ import annotations

import contextlib
import datetime
import gc
import hashlib
import os
import shutil
import sqlite3
import tempfile
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from checkpoint_files import parts_in, write_segment, write_sqlite_segment
from hostile_mutations import OUTSIDE, Choices, hostile_value, mutate_bytes, mutate_json, mutate_value

from tablevault import TableVault, TableVaultError
from tablevault.storage.checksums import seal
from tablevault.storage.files import remove_tree

CODE = """
from pathlib import Path

import numpy as np
import pandas as pd


def index():
    return pd.DataFrame({"x": [0, 1, 2]})


def measure(x):
    return np.arange(64, dtype="float32") + x, np.arange(x * 8) / 7, np.arange(6).reshape(2, 3) * x


def draw(x, folder):
    if Path(__file__).parents[4].joinpath("fail").exists() and x == 2:
        raise RuntimeError("told to")
    Path(folder, f"{x}.txt").write_text(f"drawing {x}")
    return f"{x}.txt"
"""

INDEX = """
builder_type: IndexBuilder
changed_columns: [x]
python_function: index
code_module: drawing
is_custom: true
primary_key: [x]
"""

DRAW = """
builder_type: ColumnBuilder
changed_columns: [picture]
python_function: draw
code_module: drawing
is_custom: true
return_type: row-wise
dtypes: {picture: artifact_string}
arguments: {x: "<<self.x[index]>>", folder: ~ARTIFACT_FOLDER~}
"""

MEASURE = """
builder_type: ColumnBuilder
changed_columns: [v, w, t]
python_function: measure
code_module: drawing
is_custom: true
return_type: row-wise
dtypes: {v: "vector<float32, 64>", w: "vector<float64>", t: "tensor<int16, 2, 3>"}
arguments: {x: "<<self.x[index]>>"}
"""


CATALOG_TABLES = (
    *("tables", "instances", "processes", "reads", "locks", "tidying", "counters", "tags", "confirmed"),
    *("creates", "vault"),
)
"""Tables of the catalog whose rows are changed."""


def make_vault(folder: Path) -> Path:
    """Make a vault with instances of every kind.

    They are written, executed, reverted, paused and deleted. Its code leaves a trace if it runs.
    """
    vault = TableVault(folder, author="ada", create=True)
    vault.create_code_module("drawing", text=CODE)
    vault.create_table("plain", allow_multiple_artifacts=True)
    for rows in (1, 3):
        vault.create_instance("plain", external_edit=True)
        frame = pd.DataFrame({"n": range(rows), "t": pd.Categorical([f"text {n}" for n in range(rows)])})
        vault.write_instance(frame, "plain")
    vault.delete_instance(vault.get_table_instances("plain")[0], "plain")
    vault.create_tag("paper", "plain")
    for table in ("pictures", "paused"):
        vault.create_table(table)
        vault.create_instance(table, builders={f"{table}_index": INDEX, "arrays": MEASURE, "draw": DRAW})
    vault.execute_instance("pictures")
    vault.create_instance("pictures", copy=True)
    (folder / "fail").touch()
    for table, process_id in (("pictures", ""), ("paused", "mine")):
        with contextlib.suppress(RuntimeError):
            vault.execute_instance(table, process_id=process_id, force_execute=True)
    (folder / "fail").unlink()
    assert vault.get_process("mine").status == "paused"
    return folder


class ReceivedVault:
    """One vault in a sandbox, changed for each case and then put back."""

    def __init__(self, sandbox: Path) -> None:
        self._template = make_vault(sandbox / "template")
        with contextlib.closing(sqlite3.connect(self._template / "metadata" / "catalog.db")) as connection:
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        self.folder = sandbox / "received" / "vault"
        self.folder.parent.mkdir()
        self.files = [path.relative_to(self._template) for path in sorted(self._template.rglob("*")) if path.is_file()]
        self._seen: dict[str, tuple[int, int, int, int]] = {}
        self.files = [path for path in self.files if not path.name.endswith(("-wal", "-shm"))]

    def restore(self) -> None:
        """Make the vault what it was."""
        now = _look(self.folder) if self.folder.is_dir() else {}
        changed = [name for name, status in self._seen.items() if status != now.get(name)]
        if not now or now.keys() != self._seen.keys() or not all((self._template / name).is_file() for name in changed):
            # A connection that is still open would take the new catalog for the old one.
            gc.collect()
            _remove(self.folder)
            shutil.copytree(self._template, self.folder, symlinks=True)
        else:
            for name in changed:
                _remove(self.folder / name)
                shutil.copy2(self._template / name, self.folder / name, follow_symlinks=False)
        self._seen = _look(self.folder)

    def mutate(self, choice: Choices) -> str:
        """Change one thing; return what, for people."""
        ways: tuple[Callable[[Choices], str], ...] = (
            self._change_bytes,
            self._change_row,
            self._change_row,
            self._change_document,
            self._change_checkpoint,
            self._change_parquet,
            self._change_place,
        )
        return choice.choice(ways)(choice)

    def _change_bytes(self, choice: Choices) -> str:
        path = choice.choice(self.files)
        write(self.folder / path, mutate_bytes((self.folder / path).read_bytes(), choice))
        return f"bytes of {path}"

    def _change_row(self, choice: Choices) -> str:
        """Put a value into the catalog that TableVault never would."""
        with contextlib.closing(sqlite3.connect(self.folder / "metadata" / "catalog.db")) as connection:
            allow_null(connection)
            table = choice.choice(CATALOG_TABLES)
            if table == "tidying" or choice.random() < 0.1:
                return _add_tidying(connection, choice)
            columns = [row[1] for row in connection.execute(f"PRAGMA table_info({table})")]
            quoted = ", ".join(f'"{column}"' for column in columns)
            rows = connection.execute(f"SELECT rowid, {quoted} FROM {table}").fetchall()
            if not rows:
                return "nothing"
            row = choice.choice(rows)
            place = choice.randrange(len(columns))
            value = _hostile_cell(row[1 + place], choice)
            with contextlib.suppress(sqlite3.Error, OverflowError):
                statement = f'UPDATE {table} SET "{columns[place]}" = ? WHERE rowid = ?'
                connection.execute(statement, (value, row[0]))
                connection.commit()
            return f"{table}.{columns[place]} = {value!r:.60}"

    def _change_document(self, choice: Choices) -> str:
        path = choice.choice([path for path in self.files if path.suffix in (".json", ".yaml", ".txt", "")])
        content = (self.folder / path).read_bytes()
        lines = content.split(b"\n") if path.name == "logs.txt" else [content]
        place = choice.randrange(len(lines))
        changed = mutate_bytes if path.suffix == ".yaml" else mutate_json
        lines[place] = changed(lines[place], choice)
        write(self.folder / path, b"\n".join(lines))
        self._agree(path, choice)
        return f"content of {path}"

    def _change_checkpoint(self, choice: Choices) -> str:
        """Change what a checkpoint says, and its digest with it; or give it in the format of earlier versions."""
        path = choice.choice(
            [path for path in self.files if path.name.startswith("segment-") and path.suffix == ".log"]
        )
        segment = self.folder / path
        parts = list(parts_in(segment.parent))
        if parts:
            place = choice.randrange(len(parts))
            builder, content = parts[place]
            fields = mutate_value(msgspec.msgpack.decode(content), choice)
            with contextlib.suppress(OverflowError, TypeError, msgspec.MsgspecError):
                content = msgspec.msgpack.encode(fields)
            parts[place] = builder, content
        if choice.random() < 0.3:
            segment.unlink()
            segment.with_suffix(".end").unlink()
            write_sqlite_segment(segment.with_suffix(".db"), parts)
        else:
            write_segment(segment, parts, is_closed=choice.random() < 0.5)
        return f"a part of {path}"

    def _change_parquet(self, choice: Choices) -> str:
        """Change a Parquet file, and its checksums with it."""
        path = choice.choice([path for path in self.files if path.suffix == ".parquet"])
        target = self.folder / path
        if choice.random() < 0.5:
            table = pq.read_table(target)
            column = choice.randrange(table.num_columns)
            values = [hostile_value(value, choice) for value in table.column(column).to_pylist()]
            with contextlib.suppress(pa.ArrowException, TypeError, OverflowError):
                table = table.set_column(column, table.field(column), pa.array(values, table.field(column).type))
            content = _written(table, pq.read_metadata(target).metadata, choice)
        else:
            content = mutate_bytes(target.read_bytes(), choice)
        with contextlib.suppress(Exception):
            content = _sealed(content)
        write(target, content)
        self._agree(path, choice)
        return f"values of {path}"

    def _change_place(self, choice: Choices) -> str:
        """Put something else where a file or folder is expected."""
        folders = {parent for path in self.files for parent in path.parents if parent.name}
        path = choice.choice([*self.files, *sorted(folders)])
        target = self.folder / path
        _make_writable(target.parent)
        _remove(target)
        outside = self.folder.parents[1] / "outside"
        match choice.randrange(6):
            case 0:
                target.symlink_to(outside)
            case 1:
                target.symlink_to(outside / "kept.txt")
            case 2:
                target.symlink_to(choice.choice((".", "..", target.name, "/")))
            case 3:
                target.write_bytes(b"")
            case 4 if target.name not in ("catalog.db", "catalog.db-shm", "catalog.db-wal"):
                # SQLite names such a catalog itself.
                os.mkfifo(target)
            case _:
                pass
        return f"place of {path}"

    def _agree(self, path: Path, choice: Choices) -> None:
        is_sealed = len(path.parts) >= 3 and (self.folder / Path(*path.parts[:2]) / "manifest.json").is_file()
        if is_sealed and choice.random() >= 0.2:
            agree(self.folder, path)


def allow_null(connection: sqlite3.Connection) -> None:
    """Let all columns of a catalog be null, as those of a zeroed sector are."""
    connection.execute("PRAGMA writable_schema = ON")
    connection.execute("UPDATE sqlite_master SET sql = replace(sql, ' NOT NULL', '') WHERE type = 'table'")
    connection.commit()
    connection.execute("PRAGMA writable_schema = RESET")


def agree(vault: Path, path: Path) -> None:
    """Let manifest and catalog agree with a changed file of an instance, as who deceives would."""
    folder = vault / Path(*path.parts[:2])
    manifest = folder / "manifest.json"
    data = (vault / path).read_bytes()
    if path.name != manifest.name:
        records = msgspec.json.decode(manifest.read_bytes())
        for record in records:
            if record["path"] == "/".join(path.parts[2:]):
                record.update(size=len(data), sha256=hashlib.sha256(data).hexdigest())
        write(manifest, msgspec.json.encode(records))
    digest = hashlib.sha256(manifest.read_bytes()).hexdigest()
    with contextlib.closing(sqlite3.connect(vault / "metadata" / "catalog.db")) as connection:
        connection.execute("UPDATE instances SET manifest = ? WHERE folder = ?", (digest, folder.name))
        connection.commit()


def read(folder: Path, choice: Choices | None = None) -> Iterator[str]:
    """Call all or some reading methods.

    Yields the calls that raise anything but an error of TableVault.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        faults: list[str] = []
        vault = _tried(faults, lambda: TableVault(folder, author="eve"))
        if vault is not None:
            calls = [*_calls(vault, faults), *([vault.verify] * 4)]
            for call in choice.sample(calls, 4) if choice is not None else calls:
                _tried(faults, call)
        yield from faults


def _calls(vault: TableVault, faults: list[str]) -> Iterator[Callable[[], object]]:
    yield vault.verify
    yield vault.get_descriptions
    yield vault.get_history
    yield vault.get_active_processes
    yield vault.get_tags
    yield vault.get_code_modules_list
    yield lambda: vault.get_code_module_str("drawing")
    yield lambda: vault.get_file_tree(metadata_files=True, artifact_files=True)
    yield lambda: vault.get_process("mine")
    for table in _tried(faults, vault.get_tables) or []:
        instances = _tried(faults, lambda table=table: vault.get_table_instances(table, "", include_temp=True)) or []
        yield lambda table=table: vault.get_descriptions(table_name=table)
        for instance in instances[-3:]:
            yield from _calls_of_instance(vault, table, instance)
    yield lambda: vault.read("plain@paper")
    yield lambda: vault.get_dataframe("plain", "@paper", full_artifact_path=False)
    yield lambda: vault.get_dataframe("pictures", as_of=datetime.datetime.now(datetime.UTC))
    yield lambda: vault.query('SELECT * FROM "plain@paper" POSITIONAL JOIN pictures', format="arrow", timeout=20)
    yield lambda: vault.query("SELECT * FROM vault.instances LEFT JOIN vault.tags USING (instance_id)", format="arrow")
    yield lambda: vault.query(
        "FROM vault.reads POSITIONAL JOIN vault.columns POSITIONAL JOIN vault.processes", format="arrow"
    )
    yield lambda: vault.plan_instance("pictures")
    yield vault.get_status
    yield vault.plan_refresh
    yield lambda: vault.plan_gc(keep_last=1)
    yield lambda: _import(Path(vault.db_dir))
    yield lambda: vault.verify(repair=True)


def _calls_of_instance(vault: TableVault, table: str, instance: str) -> Iterator[Callable[[], object]]:
    yield lambda: vault.get_dataframe(table, instance, version="", active_only=False)
    yield lambda: vault.get_dataframe(table, instance, version="", full_artifact_path=False, rows=2)
    yield lambda: vault.read(f"{table}({instance})", rows=2)
    yield lambda: vault.get_frame_path(table, instance)
    yield lambda: vault.scan(table, instance, format="arrow", full_artifact_path=False)[0].to_table()
    yield lambda: vault.get_lineage(table, instance)
    yield from (
        lambda schema=schema: vault.query(f'FROM {schema}"{table}({instance})"', format="arrow", timeout=20)
        for schema in ("", "artifacts.", "provenance.", "errors.")
    )
    yield lambda: vault.diff_instances(table, after=instance).frame()
    yield from (
        lambda column=column: vault.trace_cell(table, "0", column, instance) for column in ("name", "picture", "x")
    )
    yield lambda: _export(lambda folder: vault.export_vault(folder / "made", f"{table}({instance})"))
    yield lambda: _export(lambda folder: vault.export_table(table, folder / "made", instance, format="dataset"))
    yield lambda: vault.get_descriptions(instance, table)
    yield lambda: vault.get_artifact_folder(table, instance)
    yield lambda: vault.get_builders_list(table, instance)
    yield lambda: vault.get_builder_str(table, "draw", instance)


def _import(received: Path) -> None:
    """Import a received vault into one of our own, which is whole afterwards, whatever was imported."""

    def imported(folder: Path) -> None:
        own = TableVault(folder / "own", create=True, author="eve")
        try:
            own.import_instances(received)
        finally:
            problems = own.verify().problems
            if problems:
                raise RuntimeError(f"an import has left {problems}")

    _export(imported)


def _export(write: Callable[[Path], object]) -> None:
    """Write into a new folder, which is removed."""
    folder = Path(tempfile.mkdtemp())
    try:
        write(folder)
    finally:
        remove_tree(folder)


def _tried(faults: list[str], call: Callable[[], Any]) -> Any:
    try:
        return call()
    except TableVaultError:
        return None
    except Exception as error:
        faults.append(f"{type(error).__name__}: {error!s:.300} at {_origin(error)}")
        return None


def _origin(error: BaseException) -> str:
    places = []
    trace = error.__traceback__
    while trace is not None:
        code = trace.tb_frame.f_code
        places.append(f"{Path(code.co_filename).name}:{trace.tb_lineno} {code.co_name}")
        trace = trace.tb_next
    return " < ".join(reversed(places[-6:]))


def _add_tidying(connection: sqlite3.Connection, choice: Choices) -> str:
    """Add a step on disk to the catalog.

    Its process is finished or unfinished.
    """
    actions = ("remove", "put file", "move folder", "replace folder", "prune", "link", "unlink")
    places = (
        "",
        ".",
        "..",
        "/",
        OUTSIDE,
        f"{OUTSIDE}/kept.txt",
        "/etc/hosts",
        "plain",
        "code_functions/drawing.py",
        "a/../..",
    )
    step = (choice.choice(actions), choice.choice(places), choice.choice(places))
    (serial,) = connection.execute("SELECT max(serial) FROM processes").fetchone()
    statement = "INSERT INTO tidying (serial, action, source, target) VALUES (?, ?, ?, ?)"
    connection.execute(statement, (serial, *step))
    status, attempt = choice.choice((("committing", 0), ("succeeded", 0), ("running", 0), ("paused", 0)))
    connection.execute("UPDATE processes SET status = ?, finished = ? WHERE serial = ?", (status, attempt, serial))
    connection.commit()
    return f"tidying {step}"


def _hostile_cell(value: Any, choice: Choices) -> Any:
    if isinstance(value, str) and value.startswith(("{", "[")) and choice.random() < 0.8:
        return (
            mutate_json(value.encode(), choice).decode("utf-8", "surrogateescape").encode("utf-8", "replace").decode()
        )
    changed = hostile_value(value, choice)
    return changed if isinstance(changed, int | float | str | bytes | None) else str(changed)


def _written(table: pa.Table, metadata: dict[bytes, bytes] | None, choice: Choices) -> bytes:
    described = (metadata or {}).get(b"tablevault", b"{}")
    if choice.random() < 0.3:
        described = mutate_json(described, choice)
    sink = pa.BufferOutputStream()
    with pq.ParquetWriter(sink, table.schema.remove_metadata()) as writer:
        writer.write_table(table.replace_schema_metadata(None))
        writer.add_key_value_metadata({b"tablevault": described})
    return sink.getvalue().to_pybytes()


def _sealed(content: bytes) -> bytes:
    """Return a Parquet file of any content with valid checksums.

    The checksum of each column is that of no bytes.
    """
    import io

    metadata = pq.read_metadata(io.BytesIO(content))
    file = io.BytesIO(content)
    seal(file, [[(0, 0)] * metadata.num_columns] * metadata.num_row_groups)
    return file.getvalue()


def _look(folder: Path) -> dict[str, tuple[int, int, int, int]]:
    """Return what tells whether a file was changed, for each below a folder."""
    found = {}
    waiting = [folder]
    while waiting:
        with os.scandir(waiting.pop()) as entries:
            for entry in entries:
                status = entry.stat(follow_symlinks=False)
                place = str(Path(entry.path).relative_to(folder))
                is_folder = entry.is_dir(follow_symlinks=False)
                # That something was put into a folder and taken away again is no change of the folder.
                times = (0, 0) if is_folder else (status.st_mtime_ns, status.st_ino)
                found[place] = (status.st_mode, 0 if is_folder else status.st_size, *times)
                if is_folder:
                    waiting.append(Path(entry.path))
    return found


def write(path: Path, content: bytes) -> None:
    """Replace a file's content, whatever its mode."""
    path.chmod(0o644)
    path.write_bytes(content)


def _make_writable(folder: Path) -> None:
    folder.chmod(0o755)


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        for folder, _, _ in os.walk(path):
            os.chmod(folder, 0o755)
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def change_owner(folder: Path, process_id: str, owner: str, status: str) -> None:
    """Let a process of a closed vault have another status, and the owner of this name."""
    with contextlib.closing(sqlite3.connect(folder / "metadata" / "catalog.db")) as connection:
        statement = "UPDATE processes SET owner_lock = ?, status = ? WHERE process_id = ?"
        connection.execute(statement, (owner, status, process_id))
        connection.commit()
