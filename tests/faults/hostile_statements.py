"""Hostile SQL statements for `query`.

None may change a file, reach one that it does not name, or end the interpreter.
"""

from __future__ import annotations

import contextlib
import gc
import hashlib
import os
import random
import re
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import duckdb
import pandas as pd
import polars as pl
import pyarrow as pa
from hostile_mutations import Choices, mutate_bytes

from tablevault import TableVault, TableVaultError

KNOWN = Path(__file__).parents[1] / "sql" / "hostile-statements.sql"
"""One a line; `{folder}` and `{frame}` stand for the vault and for one of its frame files."""
SECRET = "kept-from-every-statement"
"""Stands in files that no statement may read, and in no table."""
USER = 2001
"""Number of the ordinary user, and of the group, that root becomes."""

_BETWEEN_DIGESTS = 500
"""Statements; what the system says of files is compared after each."""
_SECONDS = 2.0
_MAXIMUM_ROWS = 20
_MEMORY = "300MiB"
_CATALOG = frozenset({"catalog.db", "catalog.db-wal", "catalog.db-shm"})
"""Files that reading may touch."""
_SELECTS = re.compile(r"\s*(SELECT|FROM|WITH|VALUES|TABLE|DESCRIBE|SUMMARIZE|\()", re.IGNORECASE)
_WORDS = re.compile(r"\s+|\w+|'[^']*'|\"[^\"]*\"|.", re.DOTALL)

_READING = (
    "SELECT * FROM stories",
    "FROM stories",
    'FROM "stories@paper"',
    'FROM "stories(v2)"',
    "TABLE reviews",
    "VALUES (1, 'a')",
    "SELECT author, count(*) FROM stories GROUP BY author ORDER BY 2 LIMIT 3",
    "SELECT * FROM stories JOIN reviews USING (title)",
    "WITH RECURSIVE n AS (SELECT 1 AS x UNION ALL SELECT x + 1 FROM n WHERE x < 5) FROM n",
    "DESCRIBE stories",
    "SUMMARIZE stories",
    "UNPIVOT reviews ON stars",
    "FROM vault.instances",
    "FROM provenance.stories",
    "FROM errors.stories",
    "SELECT title, row_number() OVER (ORDER BY title) FROM stories QUALIFY true",
    "SELECT list_transform([1, 2], lambda x: x + 1)",
    "FROM range(5) t(i) POSITIONAL JOIN stories",
    "SELECT COLUMNS('t.*') FROM stories",
    "SELECT $$text$$, E'\\x41', x'00', 1::DECIMAL(38, 3)",
)
_AROUND = (
    "{0}; {1}",
    "{1}; {0}",
    "({0})",
    "SELECT * FROM ({0}) AS x",
    "SELECT ({0})",
    "WITH x AS ({0}) FROM x",
    "WITH x AS MATERIALIZED ({0}) SELECT * FROM x, ({1}) y",
    "WITH RECURSIVE x AS ({0} UNION ALL {1}) FROM x",
    "{0} UNION ALL {1}",
    "{0} EXCEPT {1}",
    "{0} INTERSECT {1}",
    "SELECT 1 WHERE EXISTS ({0})",
    "SELECT title FROM stories WHERE title IN ({0})",
    "SELECT CASE WHEN ({0}) IS NULL THEN ({1}) END",
    "FROM stories, LATERAL ({0}) l",
    "SELECT * FROM stories ORDER BY ({0})",
    "SELECT list_transform([1], lambda x: ({0}))",
    "SELECT count(*) FILTER (WHERE EXISTS ({0})) FROM stories",
    "SELECT first(title ORDER BY ({0})) FROM stories",
    "SELECT sum(stars) OVER (PARTITION BY ({0})) FROM reviews",
    "FROM stories LIMIT ({0})",
    "FROM stories TABLESAMPLE ({0})",
    "SELECT {{'a': ({0})}}, [({1})], MAP {{1: ({0})}}",
    "EXPLAIN {0}",
    "EXPLAIN ANALYZE {0}",
    "DESCRIBE {0}",
    "SUMMARIZE {0}",
    "PREPARE p AS {0}",
    "COPY ({0}) TO '{{out}}'",
    "COPY ({0}) TO '{{frame}}' (FORMAT parquet)",
    "COPY ({0}) TO '{{frame}}' (FORMAT parquet, USE_TMP_FILE false)",
    "COPY ({0}) TO '{{folder}}' (FORMAT parquet, PARTITION_BY (1), OVERWRITE)",
    "CREATE OR REPLACE TABLE vault.t AS {0}",
    "CREATE TEMP VIEW stories AS {0}",
    "CREATE MACRO f() AS TABLE {0}",
    "INSERT INTO stories {0}",
    "MERGE INTO stories USING ({0}) x ON true WHEN MATCHED THEN DELETE",
    "PIVOT ({0}) ON title",
    "UNPIVOT ({0}) ON COLUMNS(*)",
    "/* {0} */ {1}",
    "-- {0}\n{1}",
    "{0} -- {1}",
    "FROM query('{0}')",
    "SELECT json_serialize_sql('{0}')",
    "FROM json_execute_serialized_sql(json_serialize_sql('{0}'))",
)
"""`{0}` and `{1}` are other statements."""
_ARGUMENTS = (
    "'{secret}'", "'{frame}'", "'{folder}/**'", "'{out}'", "'{catalog}'", "'/etc/passwd'", "'stories'", "stories",
    "title", "*", "1", "-1", "NULL", "''", "[1, 2]", "{{'a': 1}}", "true", "x'00'", "INTERVAL 1 DAY", "'FROM {secret}'",
    "(SELECT '{secret}')", "lambda x: x", "filename := true", "?", "$1", "'a\\nb'", "1e308", "'{frame}'::VARCHAR",
    "'SELECT 1'", "'COPY stories TO ''{out}'''", "DATE '2026-01-01'", "9223372036854775807",
)  # fmt: skip
_OF_TYPES = {
    "VARCHAR": (
        "'{secret}'",
        "'{frame}'",
        "'{folder}/*'",
        "'{out}'",
        "'stories'",
        "title",
        "'SELECT 1'",
        "'a,b'",
        "'{{\"a\": 1}}'",
        "'%s'",
        "'.*'",
    ),
    "BIGINT": ("1", "0", "-1", "stars", "length(title)"),
    "INTEGER": ("1", "0", "-1", "100"),
    "DOUBLE": ("1.5", "'nan'::DOUBLE", "-1e300", "0"),
    "BOOLEAN": ("true", "false", "NULL"),
    "DATE": ("DATE '2026-01-01'", "'infinity'::DATE"),
    "TIMESTAMP": ("TIMESTAMP '2026-01-01'", "now()::TIMESTAMP"),
    "INTERVAL": ("INTERVAL 1 DAY", "INTERVAL 1 MONTH"),
    "BLOB": ("x'00ff'", "title::BLOB"),
    "JSON": ("'{{\"a\": [1]}}'::JSON", "to_json(title)"),
    "LAMBDA": ("lambda x: x", "lambda x: read_text('{secret}')"),
}
"""Arguments of types of parameters."""
_SOURCES = (
    "'{secret}'", '"{secret}"', "'{frame}'", '"{frame}"', "'{catalog}'", "'{folder}/*/*/table.parquet'", "'https://x/y.csv'",
    "main.stories", "temp.stories", "memory.main.stories", "system.main.duckdb_settings", "information_schema.tables",
    "sqlite_master", "pg_catalog.pg_class", "vault.tables", "errors.'{secret}'", 'provenance."{secret}"', "vault.secrets",
    '"stories(TEMP_base)"', '"stories@no"', '"../stories"', '"stories(base"', "stories AT (VERSION => 1)", '"' + "x" * 300 + '"',
    "frame", "given_0", "made_0", "duckdb_views", '""', "\u202estories", "stories\u0000",
)  # fmt: skip
_SETTINGS = (
    "enable_external_access", "allowed_paths", "allowed_directories", "lock_configuration", "temp_directory", "home_directory",
    "extension_directory", "python_enable_replacements", "log_query_path", "profiling_output", "enable_logging", "threads",
)  # fmt: skip
_OF_SETTINGS = (
    "SET {} = {}",
    "SET GLOBAL {} = {}",
    "PRAGMA {} = {}",
    "RESET {}",
    "PRAGMA {}('{}')",
    "SET VARIABLE {} = {}",
)


class HostileStatements:
    """A vault that is queried with hostile statements, beside files that none of them may reach.

    Parameters
    ----------
    folder
        An empty folder.
    as_user
        Whether root goes on as an ordinary user, for good.
    """

    def __init__(self, folder: Path, as_user: bool = False) -> None:
        self._folder = folder / "queried"
        self._places = {name: self._folder / name for name in ("vault", "home", "here", "beside")}
        for place in self._places.values():
            place.mkdir(parents=True)
        vault = TableVault(self._places["vault"], create=True, author="ada")
        _fill(vault)
        (self._places["vault"] / "code_functions" / "secret.py").write_text(f"# {SECRET}\n")
        (self._places["beside"] / "secret.csv").write_text(f"a,b\n1,{SECRET}\n")
        self._texts = {
            "folder": vault.db_dir,
            "frame": vault.get_frame_path("stories"),
            "catalog": f"{vault.db_dir}/metadata/catalog.db",
            "secret": str(self._places["beside"] / "secret.csv"),
            "out": str(self._places["beside"] / "out.parquet"),
        }
        self._known = [line for line in KNOWN.read_text().splitlines() if line]
        with duckdb.connect() as connection:
            # Names of functions, each with the types of its arguments.
            self._functions = connection.execute(
                "SELECT DISTINCT function_name, parameter_types FROM duckdb_functions() ORDER BY ALL"
            ).fetchall()
        os.environ["HOME"] = str(self._places["home"])
        os.chdir(self._places["here"])
        # Libraries are imported before anything is watched, and before their folder may be out of reach.
        self._vault = vault
        self._counted()
        if as_user and os.geteuid() == 0:
            del self._vault, vault
            gc.collect()
            _become_user(folder)
            self._vault = TableVault(self._places["vault"], author="eve")
        self._number = 0
        self._seen, self._digest = self._look(), self._content()
        self._counted()

    def query(self, data: bytes) -> str:
        """Run the statement that bytes stand for; return what is wrong, or nothing."""
        choice = Choices(data)
        statement = self.statement(choice)
        parameters = choice.choice(
            (None, None, None, [self._texts["secret"]], {"1": self._texts["frame"]}, [self._texts["out"], 1])
        )
        form = choice.choice(("pandas", "arrow", "polars"))
        found = self._raised(lambda: self._answer(statement, parameters, form))
        now = self._look()
        if now != self._seen:
            changed = {name for name, _ in set(now.items()) ^ set(self._seen.items())}
            found = f"{found} files were changed: {sorted(changed)[:5]}"
        self._seen = now
        self._number += 1
        if found or self._number % _BETWEEN_DIGESTS == 0:
            content = self._content()
            found += " the content of files has changed" if content != self._digest else ""
            found += self._raised(self._counted)
            self._digest = content
        return f"{statement!r:.600}: {found}" if found else ""

    def statement(self, choice: random.Random) -> str:
        """Return a statement."""
        made = self._nested(choice, choice.choice((0, 0, 1, 1, 2, 3)))
        with_places = made
        for name, text in self._texts.items():
            with_places = with_places.replace(f"{{{name}}}", text)
        if choice.random() < 0.15:
            content = mutate_bytes(with_places.encode("utf-8", "surrogatepass"), choice)
            with_places = content.decode("utf-8", choice.choice(("replace", "surrogateescape")))
        return with_places

    def _nested(self, choice: random.Random, depth: int) -> str:
        if depth == 0:
            ways = (self._known_one, self._reading_one, self._call, self._call, _source, _setting, self._spliced)
            return choice.choice(ways)(choice)
        around = choice.choice(_AROUND)
        inner = [self._inner(choice, depth - 1), self._inner(choice, 0)]
        if "'{0}'" in around:
            inner = [text.replace("'", "''") for text in inner]
        return around.replace("{{", "{").replace("}}", "}").replace("{0}", inner[0]).replace("{1}", inner[1])

    def _inner(self, choice: random.Random, depth: int) -> str:
        """Return a statement for a place inside another one.

        Most kinds of statements are syntax errors there.
        """
        for _ in range(4):
            made = self._nested(choice, depth)
            if _SELECTS.match(made):
                break
        return made

    def _known_one(self, choice: random.Random) -> str:
        return choice.choice(self._known)

    def _reading_one(self, choice: random.Random) -> str:
        return choice.choice(_READING)

    def _call(self, choice: random.Random) -> str:
        """Return a call of any function of the engine, as a table or as a value."""
        name, types = choice.choice(self._functions)
        if not name.isidentifier() or choice.random() < 0.2:
            name = f'"{name}"'
        name = f"{choice.choice(('main.', 'system.main.', 'pg_catalog.'))}{name}" if choice.random() < 0.1 else name
        if types and choice.random() < 0.7:
            arguments = ", ".join(choice.choice(_OF_TYPES.get(kind, _ARGUMENTS)) for kind in types)
        else:
            arguments = ", ".join(choice.choice(_ARGUMENTS) for _ in range(choice.randrange(4)))
        call = f"{name}({arguments})".replace("{{", "{").replace("}}", "}")
        shapes = ("SELECT {}", "FROM {}", "CALL {}", "SELECT {} FROM stories", "PRAGMA {}", "FROM stories, {} x")
        return choice.choice(shapes).replace("{}", call)

    def _spliced(self, choice: random.Random) -> str:
        """Return a known statement in which some words are those of another one."""
        words = _WORDS.findall(choice.choice((*self._known, *_READING)))
        others = _WORDS.findall(choice.choice((*self._known, *_READING)))
        for _ in range(choice.randint(1, 4)):
            place, other = choice.randrange(len(words) + 1), choice.randrange(len(others))
            length = choice.choice((0, 1, 1, 2, 4))
            words[place : place + length] = others[other : other + choice.choice((0, 1, 1, 2, 4, 9))]
        return "".join(words)

    # --- asking, and looking --------------------------------------------------------------------------------------

    def _answer(self, statement: str, parameters: Any, form: str) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            frame, _ = self._vault.query(
                statement, parameters, format=form, rows=_MAXIMUM_ROWS, timeout=_SECONDS, memory_limit=_MEMORY
            )
        if SECRET in _text(frame):
            raise RuntimeError("it has read a file that it must not")

    def _raised(self, call: Callable[[], object]) -> str:
        """Return an error that is none of the documented ones."""
        try:
            call()
        except (TableVaultError, TimeoutError) as error:
            return f"it told the secret: {error}" if SECRET in str(error) else ""
        except Exception as error:
            return f"{type(error).__name__}: {error!s:.300}"
        return ""

    def _counted(self) -> None:
        """Raise an error if a simple statement has another answer than before."""
        statement = "SELECT count(*), min(title) FROM stories JOIN reviews USING (title)"
        (row,) = self._vault.query(statement, format="polars", memory_limit=_MEMORY)[0].rows()
        if row != (3, "Fox"):
            raise RuntimeError(f"the frames are others: {row}")

    def _look(self) -> dict[str, tuple[int, ...]]:
        """Return what the system says of each file and folder; its times change with any change."""
        found: dict[str, tuple[int, ...]] = {}
        waiting = [str(self._folder)]
        while waiting:
            place = waiting.pop()
            with os.scandir(place) as entries:
                for entry in entries:
                    facts = entry.stat(follow_symlinks=False)
                    is_folder = entry.is_dir(follow_symlinks=False)
                    if entry.name not in _CATALOG:
                        size = 0 if is_folder else facts.st_size
                        times = (0, 0) if entry.name == "metadata" else (facts.st_mtime_ns, facts.st_ctime_ns)
                        found[entry.path] = (facts.st_mode, facts.st_uid, facts.st_ino, size, *times)
                    if is_folder:
                        waiting.append(entry.path)
        return found

    def _content(self) -> str:
        digest = hashlib.sha256()
        for path in sorted(self._folder.rglob("*")):
            if path.name not in _CATALOG:
                digest.update(f"{path} {path.lstat().st_mode}".encode())
                digest.update(path.read_bytes() if path.is_file() else b"")
        return digest.hexdigest()


def _fill(vault: TableVault) -> None:
    vault.write("stories", pd.DataFrame({"title": ["Fox"], "author": ["ann"]}))
    vault.create_tag("paper")
    vault.write("stories", pd.DataFrame({"title": ["Fox", "Owl", "Sea"], "author": ["ann", "bob", "ann"]}))
    vault.write("stories", pd.DataFrame({"title": ["Sea"], "author": ["eve"]}), version="v2")
    vault.write("reviews", pd.DataFrame({"title": ["Fox", "Fox", "Sea"], "stars": [4, 5, 1]}))


def _text(frame: pd.DataFrame | pl.DataFrame | pa.Table) -> str:
    if isinstance(frame, pd.DataFrame):
        # pandas cannot show dates beyond those of Python, and unions.
        with contextlib.suppress(OverflowError, NotImplementedError):
            return frame.to_string(max_colwidth=None)
        return ""
    table = frame.to_arrow() if isinstance(frame, pl.DataFrame) else frame
    chunks = (chunk for column in table.columns for chunk in column.chunks)
    buffers = (buffer.to_pybytes() for chunk in chunks for buffer in chunk.buffers() if buffer is not None)
    return b" ".join(buffers).decode("latin-1")


def _become_user(folder: Path) -> None:
    """Go on as an ordinary user, who owns a folder."""
    for path in (folder, *folder.rglob("*")):
        os.chown(path, USER, USER, follow_symlinks=False)
    os.setgroups([])
    os.setgid(USER)
    os.setuid(USER)


def _source(choice: random.Random) -> str:
    shapes = (
        "FROM {}",
        "SELECT * FROM {}",
        "TABLE {}",
        "DESCRIBE {}",
        "SUMMARIZE {}",
        "FROM stories JOIN {} USING (title)",
    )
    return choice.choice(shapes).replace("{}", choice.choice(_SOURCES))


def _setting(choice: random.Random) -> str:
    value = choice.choice(("true", "false", "'{secret}'", "['{folder}']", "'/'", "1", "'{out}'"))
    return choice.choice(_OF_SETTINGS).replace("{}", choice.choice(_SETTINGS), 1).replace("{}", value)
