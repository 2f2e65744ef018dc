"""Location of definitions in a file's syntax tree, and the file's text without them."""

from __future__ import annotations

import ast
import copy
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from tablevault.code.scopes import global_names
from tablevault.definitions.source_files import SourceFile
from tablevault.errors import TVBuilderError

DEFINE = "tablevault.define"
_PACKAGE, _MODULE = DEFINE.split(".")
_TABLE, _SERVICE = "Table", "Service"
_METHODS = ("index", "column")

Function = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef


@dataclass(frozen=True)
class BuilderCall:
    """A valid call of `index` or `column`."""

    table: str
    """The name of the `Table` in the file."""
    call: ast.Call
    function: Function | None
    """The decorated function or class; `None` for a separate statement, as required by `rows_of`."""

    @property
    def line(self) -> int:
        """The line of the call."""
        return self.call.lineno


@dataclass(frozen=True)
class DefinedTables:
    """The names of tables in a file, from its text."""

    own: Mapping[str, ast.stmt]
    """Names assigned a `Table`."""
    imported: Mapping[str, tuple[str, str]]
    """Imported names, with their module and name there."""


@dataclass(frozen=True)
class FileDefinitions:
    """The definitions of one file."""

    file: SourceFile
    tables: DefinedTables
    services: Mapping[str, ast.stmt]
    """Names assigned a `Service`."""
    calls: tuple[BuilderCall, ...]
    """Calls in order of the text."""
    text: str
    """The file's text, with empty lines in place of definitions to keep line numbers."""


def read_definitions(sources: Mapping[str, SourceFile]) -> dict[str, FileDefinitions]:
    """Return the definitions of files that may import tables from one another, by module.

    Raises
    ------
    TVBuilderError
        If a definition is misplaced, or a `Table` is used elsewhere; names file and line.
    """
    names = {module: _Names(file) for module, file in sources.items()}
    tables = _all_tables(names)
    return {
        module: _FileReader(found, DefinedTables(found.tables, tables[module])).read()
        for module, found in names.items()
    }


def _all_tables(names: Mapping[str, _Names]) -> dict[str, dict[str, tuple[str, str]]]:
    """Return the tables that each file imports from others, directly or indirectly."""
    found: dict[str, dict[str, tuple[str, str]]] = {module: {} for module in names}
    grows = True
    while grows:
        grows = False
        for module, own in names.items():
            for node, alias, origin in own.imports(names):
                is_table = alias.name in names[origin].tables or alias.name in found[origin]
                local = alias.asname or alias.name
                if is_table and local not in found[module]:
                    found[module][local] = (origin, alias.name)
                    own.table_imports[id(node)] = node
                    grows = True
    return found


class _Names:
    """The top-level names of one file that are relevant to definitions.

    Parameters
    ----------
    file
        The file.
    """

    def __init__(self, file: SourceFile) -> None:
        self.file = file
        self.define: dict[str, str] = {}
        """Names imported from `tablevault.define`, with their names there."""
        self.define_imports: dict[int, ast.stmt] = {}
        self.table_imports: dict[int, ast.ImportFrom] = {}
        """Statements that import a table of another file, by identity."""
        self.tables: dict[str, ast.stmt] = {}
        self.services: dict[str, ast.stmt] = {}
        for node in file.tree.body:
            if isinstance(node, ast.ImportFrom) and node.module == DEFINE and node.level == 0:
                self._import(node)
        self._check_imports()
        for node in file.tree.body:
            self._assign(node)

    def imports(self, names: Mapping[str, _Names]) -> Iterator[tuple[ast.ImportFrom, ast.alias, str]]:
        """Yield the statement, name and module of each top-level import from other files."""
        for node in self.file.tree.body:
            if (
                isinstance(node, ast.ImportFrom)
                and node.level <= 1
                and node.module is not None
                and node.module in names
            ):
                for alias in node.names:
                    yield node, alias, node.module

    def _import(self, node: ast.ImportFrom) -> None:
        self.define_imports[id(node)] = node
        for alias in node.names:
            if alias.name == "*":
                raise self._wrong_import(node)
            self.define[alias.asname or alias.name] = alias.name

    def _check_imports(self) -> None:
        for node in ast.walk(self.file.tree):
            match node:
                case ast.Import(aliases) if any(alias.name == DEFINE for alias in aliases):
                    raise self._wrong_import(node)
                case ast.ImportFrom(module, aliases, 0) if module == _PACKAGE and any(
                    alias.name == _MODULE for alias in aliases
                ):
                    raise self._wrong_import(node)
                case ast.ImportFrom(module, _, 0) if module == DEFINE and id(node) not in self.define_imports:
                    raise self._wrong_import(node)

    def _wrong_import(self, node: ast.AST) -> TVBuilderError:
        return self.file.error(
            node, f"write 'from {DEFINE} import Table' with the names that are used, at the top level of the file."
        )

    def _assign(self, node: ast.stmt) -> None:
        target, value = _assignment(node)
        if not (isinstance(value, ast.Call) and isinstance(value.func, ast.Name)):
            return
        kind = self.define.get(value.func.id)
        if kind not in (_TABLE, _SERVICE):
            return
        if target is None:
            raise self.file.error(node, f"assign {kind}(…) to one name.")
        known = self.tables if kind == _TABLE else self.services
        if target in self.tables or target in self.services:
            raise self.file.error(node, f"'{target}' is a {kind} already; choose another name.")
        known[target] = node


def _assignment(node: ast.stmt) -> tuple[str | None, ast.expr | None]:
    """Return the name and value of an assignment to a single name."""
    match node:
        case ast.Assign([ast.Name(name)], value):
            return name, value
        case ast.Assign(_, value):
            return None, value
        case ast.AnnAssign(ast.Name(name), _, value, 1):
            return name, value
    return None, None


class _FileReader:
    """Reads the definitions of one file.

    Parameters
    ----------
    names
        The file's names.
    tables
        The names of tables.
    """

    def __init__(self, names: _Names, tables: DefinedTables) -> None:
        self._names = names
        self._file = names.file
        self._tables = tables
        self._known = {*tables.own, *tables.imported}
        self._calls: list[BuilderCall] = []
        self._blank: list[tuple[int, int]] = []
        """First and last line of each block to blank."""
        self._kept: list[ast.stmt] = []
        """The remaining statements, without decorators of tables."""
        self._statements = Counter(line for node in self._file.tree.body for line in _lines(node))
        """Number of top-level statements on each line."""

    def read(self) -> FileDefinitions:
        """Return the file's definitions."""
        body = self._file.tree.body
        for node in body:
            if self._is_definition(node):
                self._blank.append((node.lineno, node.end_lineno or node.lineno))
                self._check_alone(node)
            elif _is_main_block(node):
                self._blank.append((node.lineno, node.end_lineno or node.lineno))
            else:
                self._kept.append(self._without_decorators(node))
        self._check_uses()
        self._check_functions()
        return FileDefinitions(self._file, self._tables, self._names.services, tuple(self._calls), self._blanked())

    def _is_definition(self, node: ast.stmt) -> bool:
        if id(node) in self._names.define_imports:
            return True
        if id(node) in self._names.table_imports:
            assert isinstance(node, ast.ImportFrom)
            for alias in node.names:
                if (alias.asname or alias.name) not in self._tables.imported:
                    raise self._file.error(
                        node,
                        f"this imports a Table and '{alias.name}'; import each in a statement of its own.",
                    )
            return True
        target, _ = _assignment(node)
        if target is not None and node in (self._names.tables.get(target), self._names.services.get(target)):
            return True
        if isinstance(node, ast.Expr) and (found := self._builder_call(node.value)) is not None:
            if not any(keyword.arg == "rows_of" for keyword in found.keywords):
                raise self._file.error(
                    node, "this is not a decorator; write it with '@' before a function, or pass rows_of."
                )
            self._calls.append(BuilderCall(_table_of(found), found, None))
            return True
        return False

    def _builder_call(self, node: ast.expr) -> ast.Call | None:
        """Return a node if it is a call of a table's method."""
        match node:
            case ast.Call(ast.Attribute(ast.Name(table), method)) if table in self._known and method in _METHODS:
                return node
        return None

    def _without_decorators(self, node: ast.stmt) -> ast.stmt:
        """Strip and record the decorators of tables."""
        if not isinstance(node, Function):
            return node
        kept: list[ast.expr] = []
        for decorator in node.decorator_list:
            call = self._builder_call(decorator)
            if call is None:
                kept.append(decorator)
                self._check_called(decorator)
                continue
            if any(keyword.arg == "rows_of" for keyword in call.keywords):
                raise self._file.error(decorator, "rows_of takes the place of a function; write it without '@'.")
            self._calls.append(BuilderCall(_table_of(call), call, node))
            self._blank.append((decorator.lineno, decorator.end_lineno or decorator.lineno))
        if len(kept) == len(node.decorator_list):
            return node
        self._check_alone(node)
        bare = copy.copy(node)
        bare.decorator_list = kept
        return bare

    def _check_called(self, decorator: ast.expr) -> None:
        match decorator:
            case ast.Attribute(ast.Name(table), method) if table in self._known and method in _METHODS:
                raise self._file.error(decorator, f"write @{table}.{method}() with parentheses.")
            case ast.Call(ast.Attribute(ast.Name(table), method)) if table in self._known:
                raise self._file.error(
                    decorator, f"a Table has no decorator '{method}'; write @{table}.column(…) or @{table}.index(…)."
                )

    def _check_alone(self, node: ast.stmt) -> None:
        """Reject a definition that shares a line with another statement."""
        if any(self._statements[line] > 1 for line in _lines(node)):
            raise self._file.error(
                node, "a definition cannot share a line with another statement; put it on its own line."
            )

    def _check_uses(self) -> None:
        """Reject uses of definitions in the remaining statements."""
        watched = {*self._names.define, *self._known, *self._names.services}
        for node in self._kept:
            for name in sorted(watched & global_names([node])):
                place = next((part for part in ast.walk(node) if _names(part, name)), node)
                raise self._file.error(place, self._misuse(name))

    def _misuse(self, name: str) -> str:
        kind = self._names.define.get(name)
        if kind in (_TABLE, _SERVICE):
            return f"{kind}(…) is assigned to one name, at the top level of the file, in a statement of its own."
        if kind is not None:
            return (
                f"'{name}' of {DEFINE} can only be used in decorators, and is not part of the code module; move it "
                "into the decorator."
            )
        kind = _SERVICE if name in self._names.services else _TABLE
        return (
            f"the {kind} '{name}' may be used in decorators of the file's top level only; remove this use, or choose "
            "another name here."
        )

    def _check_functions(self) -> None:
        """Reject decorated functions with a rebound name, which cannot be called by name."""
        for call in self._calls:
            if call.function is None:
                continue
            for node in self._kept:
                same = isinstance(node, Function) and node.lineno == call.function.lineno
                if not same and call.function.name in _bound(node):
                    raise self._file.error(
                        node,
                        f"'{call.function.name}' is the name of a decorated function (line {call.function.lineno}); "
                        "choose another name.",
                    )

    def _blanked(self) -> str:
        """Return the text with empty lines in place of definitions."""
        lines = self._file.text.split("\n")
        for first, last in self._blank:
            lines[first - 1 : last] = [""] * (last - first + 1)
        text = "\n".join(lines).rstrip()
        text = f"{text}\n" if text else ""
        expected = ast.Module(self._kept, type_ignores=[])
        # Ensures that only the definitions are removed and all other nodes keep their positions in any layout.
        if not _is_same(text, expected):
            first = self._blank[0][0] if self._blank else 1
            raise self._file.error(
                first, "definitions cannot be separated from the rest of the file; put each on lines of its own."
            )
        return text


def _is_same(text: str, expected: ast.Module) -> bool:
    try:
        found = ast.parse(text)
    except (SyntaxError, ValueError):
        return False
    return ast.dump(found, include_attributes=True) == ast.dump(expected, include_attributes=True)


def _table_of(call: ast.Call) -> str:
    assert isinstance(call.func, ast.Attribute)
    assert isinstance(call.func.value, ast.Name)
    return call.func.value.id


def _lines(node: ast.stmt) -> range:
    """Return the lines of a statement, including decorators."""
    decorators = node.decorator_list if isinstance(node, Function) else []
    first = min([node.lineno, *(decorator.lineno for decorator in decorators)])
    return range(first, (node.end_lineno or node.lineno) + 1)


def _is_main_block(node: ast.stmt) -> bool:
    """Return whether a statement is the block that runs only in a script."""
    match node:
        case ast.If(ast.Compare(left, [ast.Eq()], [right]), _, []):
            sides = {ast.unparse(left), ast.unparse(right)}
            return sides == {"__name__", "'__main__'"}
    return False


def _names(node: ast.AST, name: str) -> bool:
    """Return whether a node uses or binds a name."""
    return getattr(node, "id", None) == name or getattr(node, "name", None) == name


def _bound(node: ast.stmt) -> set[str]:
    """Return the names bound by a statement in the module."""
    if isinstance(node, Function):
        return {node.name}
    bound: set[str] = set()
    waiting: list[ast.AST] = [node]
    while waiting:
        part = waiting.pop()
        if isinstance(part, Function):
            bound.add(part.name)
            continue
        if isinstance(part, ast.Name) and isinstance(part.ctx, ast.Store | ast.Del):
            bound.add(part.id)
        elif isinstance(part, ast.Import | ast.ImportFrom):
            bound.update(alias.asname or alias.name.partition(".")[0] for alias in part.names)
        if not isinstance(part, ast.Lambda):
            waiting.extend(ast.iter_child_nodes(part))
    return bound
