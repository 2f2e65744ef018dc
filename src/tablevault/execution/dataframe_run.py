"""Builders whose function returns all rows at once, as a frame."""

from __future__ import annotations

from tablevault.execution.origins import names_artifacts
from tablevault.execution.single_call_run import SingleCall, SingleCallRun
from tablevault.rows.results import read_frame_result
from tablevault.storage.artifacts import ArtifactFolder
from tablevault.storage.checkpoints import SavedFrame
from tablevault.storage.dtypes import plain_values
from tablevault.storage.frames import FrameData, read_frame


class DataframeRun(SingleCallRun):
    """A builder whose function returns a frame."""

    def _compute(self) -> None:
        saved = self._intact_frame()
        if saved is not None:
            self._put_saved(saved)
            return
        call = self._first_call()
        if not self._reuse(call.fingerprint):
            self._put_frame(self._compute_frame(call))
            self._add_outcome(whole=call.fingerprint)

    def restore(self, reusing: bool) -> bool:
        """Put what there was when the execution was cut off into the building, as `BuilderRun.restore` says."""
        saved = self._saved.frame if self._saved is not None else None
        if saved is None:
            return super().restore(reusing)
        self._put_saved(saved)
        return True

    def _first_call(self) -> SingleCall:
        return self._prepared_call({})

    def _compute_frame(self, call: SingleCall) -> FrameData:
        """Call the function, and save what it returns."""
        spec, execution = self._spec, self._execution
        self._counter.total = None if spec.is_index else execution.building.row_count
        if self._is_done:
            # It was complete, but its files are not what they were.
            self._begin()
        returned = self._call(call.arguments())
        data = read_frame_result(spec, returned, self._counter.total, execution.building.artifact_name)
        self._counter.computed = len(data)
        artifacts = _artifacts_of(data)
        execution.checkpoints.save_frame(spec.name, data, call.fingerprint, artifacts)
        if artifacts:
            self._saved = execution.checkpoints.load(spec.name)
            self._keep_records(self._intact_frame())
        return data

    def _intact_frame(self) -> SavedFrame | None:
        """Return what the function returned and was saved, unless its files are not what they were."""
        saved = self._saved.frame if self._saved is not None and self._saved.done else None
        folder = ArtifactFolder(self._execution.artifact_folder)
        return saved if saved is not None and all(map(folder.matches, saved.artifacts)) else None

    def _keep_records(self, saved: SavedFrame | None) -> None:
        """Take over the records of the files that its cells name."""
        if saved is not None:
            self._execution.building.records.update((record.path, record) for record in saved.artifacts)

    def _put_saved(self, saved: SavedFrame) -> None:
        self._keep_records(saved)
        data = read_frame(saved.path)
        self._counter.computed = len(data)
        self._put_frame(data)
        self._add_outcome(whole=saved.fingerprint, versions=(saved.code,))

    def _put_frame(self, data: FrameData) -> None:
        building = self._execution.building
        if self._spec.is_index:
            building.row_count = len(data)
        self._counter.total = building.row_count
        for name, column_type in data.types.items():
            building.put(name, data.table.column(name), column_type)
        if self._spec.is_index:
            self._keep_old_rows()


def _artifacts_of(data: FrameData) -> list[str]:
    names: list[str] = []
    for name, column_type in data.types.items():
        if names_artifacts(column_type):
            cells = plain_values(data.table.column(name), column_type)
            names.extend(str(cell) for cell in cells if cell is not None)
    return names
