"""Shared state of the builders of one execution."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from operator import is_

from tablevault.builders.spec import BuilderSpec
from tablevault.execution.frame import DraftFrame
from tablevault.execution.inputs import PinnedKey, WithSelf
from tablevault.execution.matching import Matches, match_stored
from tablevault.execution.origins import MaterializedOrigin, Origin
from tablevault.execution.outcomes import BuilderOutcome
from tablevault.execution.primary_keys import check_keys, pair_of_rows, row_keys
from tablevault.names import fold
from tablevault.ports import Frame, FrameSource, Interruptible, ServiceLimits
from tablevault.references import Evaluator
from tablevault.rows.calls import Views
from tablevault.rows.failures import RowFailure
from tablevault.rows.gate import Budget
from tablevault.storage.checkpoints import CheckpointStore
from tablevault.storage.columns import Column
from tablevault.values.progress import ExecutionProgress


@dataclass
class Execution:
    """Shared state of the builders of one execution."""

    frame: DraftFrame
    inputs: FrameSource
    content_inputs: FrameSource
    inputs_have_artifacts: bool
    checkpoints: CheckpointStore
    origins: tuple[Origin, ...]
    progress: ExecutionProgress
    owner: Interruptible
    process_id: str
    process_key: str
    primary_key: tuple[str, ...]
    reuses_cells: bool = True
    """Whether cells of the origins may be reused; `keep_old` keeps their rows in any case."""
    input_keys_of: Callable[[PinnedKey], tuple[str, ...]] = lambda _: ()
    """Returns the primary key of a pinned instance."""
    limits: Callable[[], ServiceLimits] | None = None
    """Returns the limits of services; `None` if no functions are called."""
    budgets: tuple[Budget, ...] = ()
    """Budgets of the process and its ancestors."""
    index_origin: MaterializedOrigin | None = None
    """The origin that `self` means for a row-wise IndexBuilder."""
    outcomes: list[BuilderOutcome] = field(default_factory=list)
    matches: tuple[Matches, ...] = ()
    """For each origin, the position of each row of the instance in it."""
    has_repeated_cells: bool = False
    """Whether finished cells were computed again, for example since files that they name had changed."""
    _checked: Sequence[Column] = ()
    """The primary key's columns at the last check; columns are immutable."""

    def views(self, unfinished: Mapping[str, Sequence[object]], other: MaterializedOrigin | None = None) -> Views:
        """Return the views of the current data for functions and fingerprints.

        Parameters
        ----------
        unfinished
            The filled part of the running builder's columns that it reads itself.
        other
            The origin that `self` means, if it is not the instance being built.
        """
        paths = _once(other.as_paths if other is not None else lambda: self.frame.as_paths(unfinished))
        contents = _once(other.as_contents if other is not None else lambda: self.frame.as_contents(unfinished))
        return Views(
            Evaluator(WithSelf(self.inputs, paths)),
            Evaluator(WithSelf(self.content_inputs, contents)),
            self.inputs_have_artifacts or self.frame.has_artifacts,
            str(self.frame.artifacts.folder),
            self.process_id,
            self.process_key,
        )

    @property
    def reusable(self) -> tuple[tuple[Origin, Matches], ...]:
        """Origins whose cells may be reused.

        Each is listed with the positions of this instance's rows in it.
        """
        return tuple(zip(self.origins, self.matches, strict=False)) if self.reuses_cells else ()

    @property
    def failures(self) -> dict[str, list[RowFailure]]:
        """The failed and skipped rows of each builder that has run."""
        return {outcome.builder.spec.name: list(outcome.failures.values()) for outcome in self.outcomes}

    def input_key_columns(self, spec: BuilderSpec) -> dict[str, Sequence[object]]:
        """Return the primary key columns of a builder's `for_each` table; empty without a key."""
        each = spec.for_each
        if each is None:
            return {}
        key = self.input_keys_of(PinnedKey(fold(each.table), each.instance))
        frame = self.inputs.frame(each.table, each.instance)
        return {name: frame.values(name) for name in key}

    def input_keys(self, spec: BuilderSpec) -> list[object] | None:
        """Return a hashable key for each input row; `None` without a primary key."""
        columns = list(self.input_key_columns(spec).values())
        return row_keys(columns) if columns else None

    def check_primary_key(self) -> None:
        """Raise `TVTableError` if the primary key is null or not unique."""
        built = [self.frame.columns[name] for name in self.primary_key]
        columns = [column.column for column in built]
        if not _are_same(columns, self._checked):
            typed = [(column.column, column.type) for column in built]
            check_keys(self.primary_key, typed, lambda: [column.values for column in built], self._name_pair)
            self._checked = columns

    def _name_pair(self, first: int, second: int) -> str:
        """Return the text for two rows, with the input rows that they were made from."""
        inputs = next((outcome.inputs for outcome in self.outcomes if outcome.inputs is not None), None)
        named = [inputs.row_text(row) for row in (first, second)] if inputs is not None else []
        text = pair_of_rows(first, second)
        if not all(named):
            # Old rows that are kept were made by an earlier execution.
            return text
        return f"{text}, made from input rows {' and '.join(named)}," if named else text

    def match_origins(self) -> None:
        """Match the rows with those of each origin, by primary key or else by position."""
        self.matches = tuple(self._match(origin) for origin in self.origins)

    def _match(self, origin: Origin) -> Matches:
        count = self.frame.row_count
        if not self.primary_key:
            return Matches.by_position(count, origin.row_count)
        built = [self.frame.columns[name] for name in self.primary_key]
        stored = origin.key_columns(self.primary_key)
        found = match_stored([(column.column, column.type) for column in built], stored) if stored else None
        if found is not None:
            return found
        old = origin.keys(self.primary_key)
        if old is None:
            return Matches.none(count)
        places = {key: place for place, key in enumerate(old)}
        return Matches.of(places.get(key) for key in row_keys([column.values for column in built]))


def _once(compute: Callable[[], Frame]) -> Callable[[], Frame]:
    found: list[Frame] = []

    def get() -> Frame:
        if not found:
            found.append(compute())
        return found[0]

    return get


def _are_same(columns: Sequence[Column], others: Sequence[Column]) -> bool:
    return len(columns) == len(others) and all(map(is_, columns, others))
