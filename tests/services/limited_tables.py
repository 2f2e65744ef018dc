"""Tables whose functions call a service."""

from __future__ import annotations

from typing import Any

import yaml

from tablevault import TableVault

CODE = """
import pandas as pd


def rows(count):
    return pd.DataFrame({"x": range(count)})
"""


class LimitedTable:
    """The table `answers`.

    It has an index `x` with a given number of rows, and a column `answer` made by the function `answer`.

    Parameters
    ----------
    vault
        An open vault.
    code
        Defines `answer(x)`.
    rows
        Number of rows.
    table
        Its name.
    fields
        Further fields of the builder `answer`.
    """

    def __init__(self, vault: TableVault, code: str, rows: int = 10, table: str = "answers", **fields: Any) -> None:
        self.vault = vault
        self.table = table
        self.rows = rows
        vault.create_code_module(table, text=CODE + code)
        vault.create_table(table)
        vault.create_instance(table)
        self.build(f"{table}_index", "IndexBuilder", "rows", ["x"], {"count": rows}, primary_key=["x"])
        self.build_answer(**fields)

    def build_answer(self, **fields: Any) -> None:
        arguments = fields.pop("arguments", {"x": "<<self.x[index]>>"})
        columns = fields.pop("columns", ["answer"])
        given = {"return_type": "row-wise", **fields}
        self.build("answer", "ColumnBuilder", "answer", columns, arguments, **given)

    def build(self, name: str, kind: str, function: str, columns: list[str], arguments: Any, **fields: Any) -> None:
        text = yaml.safe_dump(
            {
                "builder_type": kind,
                "changed_columns": columns,
                "python_function": function,
                "code_module": self.table,
                "is_custom": True,
                "arguments": arguments,
                **fields,
            }
        )
        self.vault.create_builder_file(self.table, name, text=text)

    def run(self, process_id: str = "", **options: Any) -> str:
        return self.vault.execute_instance(self.table, process_id=process_id, **options)

    def again(self) -> None:
        """Make a temporary instance with the newest one as its origin."""
        self.vault.create_instance(self.table, copy=True)

    @property
    def cells(self) -> list[Any]:
        return list(self.vault.get_dataframe(self.table)[0]["answer"])
