"""Creating and deleting code modules."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import ClassVar

from tablevault import names
from tablevault.builders.templates import module_template
from tablevault.errors import TVArgumentError
from tablevault.layout import lock_on_code
from tablevault.operations.base import LONG, Operation
from tablevault.operations.text_files import TextSource, all_staged, put_staged, remove_file, stage_copies
from tablevault.plans import CreateCodeModulesPlan, DeleteCodeModulePlan
from tablevault.transaction import Drafting, Transaction
from tablevault.values import Changes

SUFFIX = ".py"


@dataclass(frozen=True)
class CreateCodeModule(Operation[CreateCodeModulesPlan]):
    """Writes one code module, or copies all modules of a folder."""

    name: ClassVar[str] = "create_code_module"

    module_name: str = ""
    copy_dir: str = ""
    text: str | None = field(default=None, metadata=LONG)

    def plan(self, draft: Drafting) -> CreateCodeModulesPlan:
        """Validate names and sources."""
        draft.lock_exclusive(lock_on_code())
        written = self._source.names(self.module_name, names.check_module_name)
        existing = draft.code_modules()
        for name in written:
            _check_case(name, existing)
        if not self.text and not self.copy_dir:
            written = [name for name in written if name not in existing]
        return CreateCodeModulesPlan(modules=tuple(written))

    def pin(self, plan: CreateCodeModulesPlan, transaction: Transaction) -> None:
        """Stage the new content."""
        if self.copy_dir:
            copied = self._source.copied(self.module_name, names.check_module_name)
            stage_copies(transaction, copied.items(), SUFFIX)
        else:
            for name in plan.modules:
                transaction.stage_text(f"{name}{SUFFIX}", self.text or module_template(name))

    def work(self, plan: CreateCodeModulesPlan, transaction: Transaction) -> Changes:
        """Put the staged files in place."""
        if not all_staged(transaction, plan.modules, SUFFIX):
            self.pin(plan, transaction)
        return put_staged(transaction, plan.modules, transaction.layout.code_functions, SUFFIX)

    @property
    def _source(self) -> TextSource:
        return TextSource(self.text, self.copy_dir, (SUFFIX,))


@dataclass(frozen=True)
class DeleteCodeModule(Operation[DeleteCodeModulePlan]):
    """Removes a code module; what instances archived of it stays with them."""

    name: ClassVar[str] = "delete_code_module"

    module_name: str

    def plan(self, draft: Drafting) -> DeleteCodeModulePlan:
        """Find the module."""
        draft.lock_exclusive(lock_on_code())
        name = names.check_module_name(self.module_name)
        existing = draft.code_modules()
        if name not in existing:
            raise TVArgumentError(f"There is no code module '{name}'{names.nearest(name, existing)}")
        return DeleteCodeModulePlan(module=name)

    def work(self, plan: DeleteCodeModulePlan, transaction: Transaction) -> Changes:
        """Say which file goes."""
        return remove_file(transaction, transaction.layout.code_module(plan.module))


def _check_case(name: str, existing: Iterable[str]) -> None:
    for other in existing:
        if names.fold(other) == names.fold(name) and other != name:
            raise TVArgumentError(f"There is a code module '{other}' already; names are unique regardless of case.")
