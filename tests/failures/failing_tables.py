"""Tables whose functions fail, wait and count on request.

Also clients that fail.
"""

from __future__ import annotations

import inspect
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import pandas as pd
import yaml

from tablevault import TableVault

CODE = """
import sys

import pandas as pd

told = sys.modules["failing_tables"].TOLD


class OwnError(Exception):
    pass


def index(count):
    return pd.DataFrame({"x": range(count)})


def answer(**given):
    return told["answer"](**given)


async def answer_async(**given):
    return await told["answer"](**given)


def word(**given):
    return told["word"](**given)


def check(**cells):
    told["check"](**cells)


class Answering:
    def __init__(self, **given):
        self.made = told["setup"](**given)

    def __call__(self, **given):
        return told["answer"](**given)

    def close(self):
        told["close"](self.made)


class AnsweringAsync(Answering):
    async def __call__(self, **given):
        return await told["answer"](**given)
"""

TOLD: dict[str, Callable[..., Any]] = {}
"""What the functions of the code module do, by name; replaced by each table."""


class Refused(Exception):
    """An error of a client that carries whatever a test says."""

    def __init__(self, text: str = "refused", **attributes: object) -> None:
        super().__init__(text)
        for name, value in attributes.items():
            setattr(self, name, value)


class Response:
    """The response of an HTTP client."""

    def __init__(self, **attributes: object) -> None:
        for name, value in attributes.items():
            setattr(self, name, value)


class FailingTable:
    """The table `answers`.

    It has an index `x` with a given number of rows, and a column `answer` made by a function of the test.

    Parameters
    ----------
    vault
        An open vault.
    answer
        Called for each row (or batch) with the arguments of the builder; `x` unless `arguments` says otherwise.
    rows
        Number of rows.
    fields
        Further fields of the builder `answer`.
    """

    def __init__(self, vault: TableVault, answer: Callable[..., Any], rows: int = 30, **fields: Any) -> None:
        self.vault = vault
        self.rows = rows
        self.calls: Counter[Any] = Counter()
        self._lock = threading.Lock()
        TOLD.clear()
        TOLD.update({"setup": lambda **given: None, "close": lambda made: None})
        self.tell(answer)
        vault.create_code_module("m", text=CODE)
        vault.create_table("answers")
        vault.create_instance("answers")
        self.build("answers_index", "IndexBuilder", "index", ["x"], {"count": rows}, primary_key=["x"])
        self.build_answer(**fields)

    def tell(self, answer: Callable[..., Any]) -> None:
        """Let the function of the builder `answer` be another one; its calls are counted by `x`."""

        def note(x: Any) -> None:
            with self._lock:
                for item in x if isinstance(x, list) else [x]:
                    self.calls[item] += 1

        if inspect.iscoroutinefunction(answer):

            async def counted_async(**given: Any) -> Any:
                note(given.get("x"))
                return await answer(**given)

            TOLD["answer"] = counted_async
        else:

            def counted(**given: Any) -> Any:
                note(given.get("x"))
                return answer(**given)

            TOLD["answer"] = counted

    def build_answer(self, **fields: Any) -> None:
        """Write the builder `answer`."""
        fields.setdefault("return_type", "row-wise")
        function = fields.pop(
            "python_function", "answer_async" if inspect.iscoroutinefunction(TOLD["answer"]) else "answer"
        )
        arguments = {"x": "<<self.x[index]>>", **fields.pop("arguments", {})}
        columns = fields.pop("changed_columns", ["answer"])
        self.build("answer", "ColumnBuilder", function, columns, arguments, **fields)

    def build_word(self, word: Callable[..., Any] = lambda answer: f"w{answer}", **fields: Any) -> None:
        """Write the builder `word`, which reads `answer` of its own row."""
        TOLD["word"] = word
        fields = {"return_type": "row-wise", "arguments": {"answer": "<<self.answer[index]>>"}, **fields}
        columns = fields.pop("changed_columns", ["word"])
        self.build("word", "ColumnBuilder", "word", columns, fields.pop("arguments"), **fields)

    def build(
        self, name: str, kind: str, function: str, columns: list[str], arguments: dict[str, Any], **fields: Any
    ) -> None:
        """Write a builder."""
        content = {
            "builder_type": kind,
            "changed_columns": columns,
            "python_function": function,
            "code_module": "m",
            "is_custom": True,
            "arguments": arguments,
            **fields,
        }
        text = yaml.safe_dump(content, sort_keys=False)
        self.vault.create_builder_file("answers", name, text=text)

    def copy(self) -> None:
        """Create another temporary instance, from the newest."""
        self.vault.create_instance("answers", copy=True)

    def execute(self, process_id: str = "", **options: Any) -> str:
        """Execute the instance."""
        return self.vault.execute_instance("answers", process_id=process_id, **options)

    def column(self, name: str = "answer", **options: Any) -> list[Any]:
        """Return a column of the newest instance."""
        frame, _ = self.vault.get_dataframe("answers", **options)
        return [None if _is_null(value) else value for value in frame[name]]

    def errors(self, process_id: str = "", **options: Any) -> pd.DataFrame:
        """Return the failed and skipped rows of a process, or of the newest instance."""
        if process_id:
            return self.vault.get_errors(process_id=process_id)
        return self.vault.get_errors("answers", **options)

    def progress(self, process_id: str, builder: str = "answer") -> Any:
        """Return the counts of a builder of a process."""
        return self.vault.get_process(process_id).progress[builder]


def _is_null(value: Any) -> bool:
    return not isinstance(value, list | dict) and bool(pd.isna(value))


def positions(errors: pd.DataFrame, kind: str = "failed") -> list[int]:
    """Return the rows of a kind among those that `get_errors` returned."""
    return [int(row) for row in errors.loc[errors["kind"] == kind, "index"]]


def raises_for(
    rows: Any, error: Callable[[int], BaseException] = lambda x: ValueError(f"row {x}")
) -> Callable[..., str]:
    """Return a function of one row that raises for some rows, and answers for the others."""

    def answer(x: int) -> str:
        if x in rows:
            raise error(x)
        return f"a{x}"

    return answer


def raises_first(times: int, error: Callable[[int], BaseException]) -> Callable[..., str]:
    """Return a function of one row that raises in its first calls for each row."""
    seen: Counter[int] = Counter()

    def answer(x: int) -> str:
        seen[x] += 1
        if seen[x] <= times:
            raise error(x)
        return f"a{x}"

    return answer


def threads_of_rows() -> Iterator[threading.Thread]:
    """Yield the threads in which rows run."""
    return (thread for thread in threading.enumerate() if thread.name.startswith("tablevault-row"))


sys.modules.setdefault("failing_tables", sys.modules[__name__])
