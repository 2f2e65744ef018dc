"""Python calls and shell commands that resume or stop a process, ready to copy and run."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from tablevault import names
from tablevault.layout import VaultLayout
from tablevault.operations.base import operation_named
from tablevault.ports import Processes
from tablevault.values.outcomes import Remedy, command_of
from tablevault.values.processes import ProcessRecord

_POSITIONAL: dict[str, tuple[str, ...]] = {
    "apply": ("source",),
    "create_code_module": (),
    "create_tag": ("tag", "instances"),
    "delete_builder_file": ("table_name", "builder_name"),
    "delete_code_module": ("module_name",),
    "delete_instance": ("table_name", "instance_id"),
    "delete_tag": ("tag", "table_names"),
    "import_instances": ("source", "tables"),
    "refresh": ("table_names",),
    "run": ("source",),
    "set_service": ("service",),
    "rename_table": ("table_name", "new_table_name"),
    "stop_process": ("to_stop_process_id",),
}
"""Positional arguments of commands; by default, the table."""

_ALL_WITHOUT = {"create_tag": "instances", "refresh": "table_names"}
"""Arguments whose absence means everything; commands need an explicit option for it."""

SOURCE_ARGUMENTS = {"apply": "source", "run": "source"}
"""Arguments that are paths recorded by `VaultLayout.recorded_source`."""

_FOUND_BY_SOURCE = frozenset({"run"})
"""Operations whose call resumes a paused process without its id."""

_WITH_RECORDED_PLAN = frozenset({"gc"})
"""Operations that continue with their recorded plan, which the call does not repeat."""

_OPTIONS = {
    "allow_multiple_artifacts": "multiple-artifacts",
    "force_execute": "force",
    "has_side_effects": "side-effects",
}
"""Options whose name differs from that of the argument."""

FRAME = "frame"
"""Placeholder for a frame, which cannot be written into a call."""


@dataclass(frozen=True)
class RecordedCall:
    """The facts about a process from which calls and commands are built."""

    root: Path
    """The vault's folder."""
    operation: str
    arguments: Mapping[str, object]
    process_id: str

    @property
    def resume(self) -> Remedy:
        """The remedy that continues the process."""
        return Remedy("resume", self._resuming_call(), self._resuming_command())

    @property
    def stop(self) -> Remedy:
        """The remedy that reverts the process."""
        return Remedy(
            "stop",
            f"{_opened(self.root)}.stop_process({self.process_id!r})",
            shell_command(self.root, "stop-process", self.process_id),
        )

    @property
    def force_stop(self) -> Remedy:
        """The remedy that stops the running process."""
        return Remedy(
            "stop",
            f"{_opened(self.root)}.stop_process({self.process_id!r}, force=True)",
            shell_command(self.root, "stop-process", self.process_id, "--force"),
        )

    @property
    def while_paused(self) -> tuple[Remedy, Remedy]:
        """The remedies of a paused process."""
        return self.resume, self.stop

    @classmethod
    def of(cls, root: Path, record: ProcessRecord) -> RecordedCall:
        """Return the call of a process in the catalog."""
        return cls(root, record.operation, record.arguments, record.process_id)

    @cached_property
    def _arguments(self) -> Mapping[str, object]:
        """The arguments as a user gives them."""
        return given_arguments(self.root, self.operation, self.arguments)

    def _resuming_call(self) -> str:
        if self.operation in _WITH_RECORDED_PLAN:
            return f"{_opened(self.root)}.{self.operation}(None, process_id={self.process_id!r})"
        given = [f"{name}={value!r}" for name, value in self._given()]
        if self.operation == "write_instance":
            given.insert(0, FRAME)
        elif self.operation == "write":
            given.insert(1, f"frame={FRAME}")
        if self.operation not in _FOUND_BY_SOURCE:
            given.append(f"process_id={self.process_id!r}")
        return f"{_opened(self.root)}.{self.operation}({', '.join(given)})"

    def _resuming_command(self) -> str:
        if self.operation in _WITH_RECORDED_PLAN:
            return shell_command(self.root, command_of(self.operation), "--process-id", self.process_id)
        positional = _POSITIONAL.get(self.operation, ("table_name",))
        places = [place for name in positional for place in _places(self._arguments[name], self.operation)]
        options = [] if self.operation in _FOUND_BY_SOURCE else ["--process-id", self.process_id]
        if self.operation in _ALL_WITHOUT and not self.arguments[_ALL_WITHOUT[self.operation]]:
            options.append("--all")
        for name, value in self._given():
            if name not in positional and not isinstance(value, float):
                option = f"--{'no-' if value is False else ''}{_OPTIONS.get(name, name.replace('_', '-'))}"
                options += [option, str(value)] if not isinstance(value, bool) else [option]
        if self.operation == "write_instance":
            options += ["--csv", "FILE"]
        elif self.operation == "write":
            places += ["FILE"]
        if any(place.startswith("-") for place in places):
            # Otherwise the name would be parsed as an option.
            options, places = [], [*options, "--", *places]
        return shell_command(self.root, command_of(self.operation), *places, *options)

    def _given(self) -> Iterator[tuple[str, object]]:
        """Yield the given arguments, except those recorded as a digest of their content."""
        operation = operation_named(self.operation)
        defaults, long = operation.default_arguments(), operation.long_arguments()
        for name, value in self._arguments.items():
            left_out = name in long or (name in defaults and defaults[name] == value)
            if not left_out and isinstance(value, str | bool | int | float):
                yield name, value


def given_arguments(root: Path, operation: str, recorded: Mapping[str, object]) -> dict[str, object]:
    """Return recorded arguments as a user gives them, with sources at their present place.

    Parameters
    ----------
    root
        The vault's folder.
    operation
        Name of the operation.
    recorded
        Its arguments in the catalog.
    """
    name = SOURCE_ARGUMENTS.get(operation)
    if name is None or name not in recorded:
        return dict(recorded)
    return {**recorded, name: str(VaultLayout(root).source_place(str(recorded[name])))}


def whole_of(record: ProcessRecord, processes: Processes) -> ProcessRecord:
    """Return the process that resumes a paused one.

    It is the topmost active ancestor, or the process itself.
    """
    parent = processes.get(record.parent_serial) if record.parent_serial is not None else None
    if parent is None or parent.is_decided or not operation_named(parent.operation).runs_children:
        return record
    return whole_of(parent, processes)


def _places(value: object, operation: str) -> list[str]:
    """Return the words of a positional argument.

    A list has any number of words; a mapping has pairs.
    """
    if isinstance(value, Mapping) and operation == "import_instances":
        return [f"{there}={here}" for there, here in value.items()]
    if isinstance(value, Mapping):
        return [f"{table}{item if names.tag_in(item) is not None else f'({item})'}" for table, item in value.items()]
    if isinstance(value, list | tuple):
        return [str(item) for item in value]
    return [] if value is None else [str(value)]


def hint_in_line(remedies: Sequence[Remedy]) -> str:
    """Return remedies as part of a sentence."""
    return ", or ".join(
        f"{remedy.action} it with {remedy.python} (in a shell: {remedy.command})" for remedy in remedies
    )


def shell_command(root: Path, *words: str) -> str:
    """Return a command on a vault, quoted for a shell."""
    return shlex.join(["tablevault", "--db-dir", str(root), *words])


def _opened(root: Path) -> str:
    return f"TableVault({str(root)!r})"
