"""Builders whose function is called once: of a ColumnBuilder all cells are taken over, or none."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from tablevault.builders.secrets import given_secrets, written_secrets
from tablevault.builders.spec import BuilderSpec
from tablevault.execution.builder_run import BuilderRun
from tablevault.execution.origins import Origin, ReusableRows
from tablevault.execution.table import RowTable
from tablevault.notes import add_note
from tablevault.ports import FunctionError
from tablevault.rows.calls import FunctionCall, arguments_blamed


@dataclass(frozen=True)
class SingleCall:
    """The one call of a function."""

    spec: BuilderSpec
    function: FunctionCall
    counted: Mapping[str, object]
    fingerprint: bytes

    def arguments(self) -> dict[str, object]:
        """Return what the function is called with, which is known only if it has to be called."""
        with arguments_blamed(self.spec):
            return self.function.completed(None, self.counted)


class SingleCallRun(BuilderRun):
    """A builder whose function is called once."""

    def decide(self) -> bool:
        """Take the columns of a ColumnBuilder over if nothing changed, and return whether that could be done.

        Calls no function.
        """
        return self._reuse(self._first_call().fingerprint)

    def may_reuse(self) -> bool:
        """Return whether the same arguments would be enough to take the columns over."""
        return any(True for _ in self._candidates())

    def restore(self, reusing: bool) -> bool:
        """Put what there was when the execution was cut off into the building, as `BuilderRun.restore` says."""
        if reusing and self._saved is None and self.decide():
            return True
        self._put_rows_so_far(self._rows_so_far())
        return self._is_done

    @abstractmethod
    def _first_call(self) -> SingleCall:
        """Return the call of a builder that has done nothing yet."""

    def _prepared_call(self, unfinished: Mapping[str, list[object]]) -> SingleCall:
        """Return the call; of these columns of its own the function sees what is given."""
        with arguments_blamed(self._spec):
            call = FunctionCall(self._spec, self._execution.views(unfinished))
            counted = call.counted(None)
            return SingleCall(self._spec, call, counted, call.fingerprint(None, counted))

    def _call(self, arguments: dict[str, object]) -> object:
        self._execution.owner.secrets.add(written_secrets(self._spec))
        self._execution.owner.secrets.add(given_secrets(self._spec, arguments))
        try:
            return self._builder.function(**arguments)
        except BaseException as error:
            add_note(error, f"raised by {self._spec.python_function}() of builder '{self._spec.name}'")
            raise FunctionError(error) from error

    def _candidates(self) -> Iterator[tuple[Origin, ReusableRows]]:
        """Yield the origins with the same rows, in which the same builder and code made the columns."""
        spec, execution = self._spec, self._execution
        if spec.is_index:
            return
        count = execution.building.row_count
        for origin, matches in execution.reusable:
            rows = origin.rows(spec.changed_columns, is_index=False)
            same_rows = origin.row_count == count and list(matches) == list(range(count))
            if rows is not None and same_rows and not set(rows.versions) - {self._builder.version}:
                yield origin, rows

    def _reuse(self, fingerprint: bytes) -> bool:
        """Take the columns over from an origin that made them from the same; return whether that could be done."""
        count = self._execution.building.row_count
        for origin, rows in self._candidates():
            if rows.whole != fingerprint:
                continue
            table = RowTable(self._execution, self._builder, self._counter)
            table.resize(count)
            if all(table.reuse(position, rows, position, origin) for position in range(count)):
                self._counter.total = count
                self.put_columns(table)
                self._add_outcome(whole=fingerprint)
                return True
            self._counter.reused = 0
        return False
