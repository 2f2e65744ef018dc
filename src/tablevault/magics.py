"""Magics of notebooks, registered by `%load_ext tablevault`, without importing IPython."""

from __future__ import annotations

import argparse
import shlex
from keyword import iskeyword
from typing import TYPE_CHECKING, Any, NoReturn

from tablevault.errors import TVArgumentError
from tablevault.names import DEFAULT_VERSION, nearest
from tablevault.reading.moments import parse_moment
from tablevault.vault import TableVault

if TYPE_CHECKING:
    from tablevault.records import ApplyPlan


def register(shell: Any) -> None:
    """Register the magics with an IPython shell."""
    magics = NotebookMagics(shell)
    shell.register_magic_function(magics.choose_vault, "line", "vault")
    shell.register_magic_function(magics.apply_module, "cell", "vault_module")
    shell.register_magic_function(magics.run_statement, "cell", "vault_sql")


class NotebookMagics:
    """The magics of one IPython shell.

    Parameters
    ----------
    shell
        The shell, whose variables hold the vault.
    """

    def __init__(self, shell: Any) -> None:
        self._shell = shell
        self._chosen = ""
        """Name of the variable that holds the vault; empty to use the only vault."""

    def choose_vault(self, line: str) -> None:
        """Name the variable that holds the vault, if there are several.

        `%vault NAME`.
        """
        name = _parsed("%vault", line, _VARIABLE).name
        self._vault_named(name)
        self._chosen = name

    def apply_module(self, line: str, cell: str) -> ApplyPlan:
        """Write the cell as a code module and apply its definitions.

        `%%vault_module NAME [--version V] [--overwrite]`.

        The cell is what `TableVault.apply` takes a file NAME.py for. Its names do not become variables of the notebook.
        """
        options = _parsed("%%vault_module", line, _MODULE)
        return self._vault()._apply_text(options.name, cell, options.version, options.overwrite)

    def run_statement(self, line: str, cell: str) -> Any:
        """Run the cell as one statement of `TableVault.query`.

        `%%vault_sql [NAME] [--as-of TIME|PROCESS_ID]`.

        The frame is displayed, or assigned to the variable NAME.
        """
        options = _parsed("%%vault_sql", line, _STATEMENT)
        as_of = None if options.as_of is None else parse_moment(options.as_of)
        frame, _ = self._vault().query(cell, as_of=as_of)
        if not options.name:
            return frame
        if not options.name.isidentifier() or iskeyword(options.name):
            raise TVArgumentError(
                f"%%vault_sql: '{options.name}' is not the name of a variable; write {_STATEMENT.usage}"
            )
        self._shell.user_ns[options.name] = frame
        return None

    def _vault(self) -> TableVault:
        if self._chosen:
            return self._vault_named(self._chosen)
        found = self._vaults()
        if len({id(vault) for vault in found.values()}) > 1:
            raise TVArgumentError(
                f"Several variables hold a vault: {', '.join(sorted(found))}. Name one with %vault NAME."
            )
        if not found:
            raise TVArgumentError("No variable holds a vault; open one with vault = TableVault(…).")
        return next(iter(found.values()))

    def _vault_named(self, name: str) -> TableVault:
        found = self._vaults()
        if name not in found:
            raise TVArgumentError(f"No variable '{name}' holds a vault{nearest(name, found)}")
        return found[name]

    def _vaults(self) -> dict[str, TableVault]:
        variables = dict(self._shell.user_ns)
        return {
            name: value
            for name, value in variables.items()
            # `_` and `_3` are results that IPython keeps.
            if isinstance(value, TableVault) and not name.startswith("_")
        }


class _Parser(argparse.ArgumentParser):
    """Raises the error of an invalid line instead of ending the interpreter."""

    def error(self, message: str) -> NoReturn:
        raise TVArgumentError(f"{message}; write {self.usage}")


def _parser(usage: str, needs_name: bool = True) -> _Parser:
    parser = _Parser(usage=usage, add_help=False, allow_abbrev=False)
    parser.add_argument("name", nargs=None if needs_name else "?", default=None if needs_name else "")
    return parser


_VARIABLE = _parser("%vault NAME")
_MODULE = _parser("%%vault_module NAME [--version VERSION] [--overwrite]")
_MODULE.add_argument("--version", default=DEFAULT_VERSION)
_MODULE.add_argument("--overwrite", action="store_true")
_STATEMENT = _parser("%%vault_sql [NAME] [--as-of TIME|PROCESS_ID]", needs_name=False)
_STATEMENT.add_argument("--as-of")


def _parsed(magic: str, line: str, parser: _Parser) -> argparse.Namespace:
    try:
        words = shlex.split(line)
    except ValueError as error:
        raise TVArgumentError(f"{magic}: {error}; write {parser.usage}") from None
    return parser.parse_args(words)
