"""Child processes, for operations that a process runs inside itself."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from tablevault.errors import TableVaultError, TVProcessError
from tablevault.notes import outcome_of
from tablevault.operations.base import Operation
from tablevault.ports import FunctionError
from tablevault.processes.process import Process
from tablevault.values.outcomes import Cause, Outcome, OutcomeKind
from tablevault.values.processes import ProcessRecord

if TYPE_CHECKING:
    from tablevault.processes.engine import Engine


class ChildProcesses:
    """Runs the children of one process in its interpreter; an adapter of `Children`.

    Parameters
    ----------
    parent
        The process.
    engine
        Returns a new engine for one child.
    """

    def __init__(self, parent: Process, engine: Callable[[], Engine]) -> None:
        self._parent = parent
        self._engine = engine

    def run(self, operation: Operation[Any], process_id: str, shown_as: str) -> ProcessRecord:
        """Run a child to its end, and return it; resume it if it is paused.

        Parameters
        ----------
        operation
            The operation.
        process_id
            The id of the child.
        shown_as
            Prefix of the names of its builders in the progress of the parent.
        """
        self.raise_if_stopped()
        engine = self._engine()
        try:
            has_worked = engine.run_child(operation, process_id, shown_as)
        except BaseException as error:
            self._parent.secrets.include(engine.secrets)
            self._parent.look_for_stop()
            outcome = outcome_of(error)
            if outcome is None or outcome.process_id != process_id:
                # The child was refused or interrupted before it began.
                raise
            if outcome.kind is not OutcomeKind.STILL_PAUSED:
                self._parent.begin_functions()
            if _is_from_outside(error, outcome):
                # With an id of the user, only a builder with `on_error: revert` is reverted by its function.
                asked = outcome.cause is Cause.FUNCTION and outcome.kind is OutcomeKind.REVERTED
                raise FunctionError(error, reverts=asked) from error
            raise
        if has_worked:
            self._parent.begin_functions()
        record = self._parent.context.catalog.processes.find(process_id)
        if record is None:
            raise TVProcessError(f"Process '{process_id}' is not in the catalog any more.")
        return record

    def raise_if_stopped(self) -> None:
        """Raise `TVForcedError` if the parent was asked to stop."""
        self._parent.look_for_stop()
        self._parent.raise_if_stopped()


def _is_from_outside(error: BaseException, outcome: Outcome) -> bool:
    """Return whether an error of a child may pause the parent.

    That may be a `TableVaultError`.

    A `TableVaultError` that has reverted the child reverts the parent, too.
    """
    if outcome.cause is Cause.FUNCTION:
        return True
    is_internal = outcome.cause is Cause.VAULT and outcome.kind is OutcomeKind.REVERTED
    return isinstance(error, TableVaultError) and not is_internal
