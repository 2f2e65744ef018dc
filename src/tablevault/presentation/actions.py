"""Actions offered to users, with their effects and equivalent calls and commands."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from tablevault.errors import TVArgumentError
from tablevault.presentation.instances import instance_plan, read_active
from tablevault.presentation.processes import read_process
from tablevault.records import InstancePlan, Remedy
from tablevault.values.addresses import Address

if TYPE_CHECKING:
    from tablevault.display.progress import Rates
    from tablevault.reading.instance_details import InstanceFacts
    from tablevault.vault import TableVault

_KEEPING = ("execute_instance", "refresh", "run")
"""Operations whose computed cells can become an instance or be reused by a later execution."""


@dataclass(frozen=True)
class Choice:
    """One button."""

    label: str
    fields: Mapping[str, str] = field(default_factory=dict)
    """The fields that it sends."""
    loses_work: bool = False


@dataclass(frozen=True)
class Action:
    """An action to be confirmed by the user."""

    name: str
    """`execute`, `retry`, `stop` or `tag`."""
    subject: str
    """Its object: a process id, or the address of an instance."""
    sentences: tuple[str, ...]
    choices: tuple[Choice, ...]
    commands: tuple[Remedy, ...]
    """Equivalent calls and commands; empty if nothing can be done."""
    plan: InstancePlan | None = None
    table_name: str = ""
    instance_id: str = ""


def plan_stop(vault: TableVault, process_id: str, rates: Rates) -> Action:
    """Return the ways to stop a process, and their losses."""
    process = read_process(vault, process_id, rates)
    status = process.line.status
    computed = sum(builder.computed for builder in process.builders)
    if not process.line.is_active:
        return Action("stop", process_id, (f"It has ended ({status}): there is nothing to stop.",), (), ())
    sentences = [f"It is {status}. Stopping it reverts it and releases its locks."]
    can_keep = process.line.operation in _KEEPING
    if process.line.waiting:
        # This includes jobs at a service that may still be charged.
        sentences.append(f"It is waiting for {process.line.waiting}.")
    if computed:
        unless = ", unless the next execution is called with reuse_partial" if can_keep else ""
        sentences.append(f"{computed:,} computed cells would be lost{unless}.")
    force = {"force": "1"} if status != "paused" else {}
    label = "Force it to stop" if force else "Stop it"
    choices = [Choice(label, force, loses_work=True)]
    # A running process may have cells that are not counted yet.
    if (computed or force) and can_keep:
        choices.append(Choice(f"{label}, and make it an instance", {**force, "materialize": "1"}))
        sentences.append("Made an instance, the computed cells stay; it is marked as not complete.")
    stops = tuple(remedy for remedy in process.remedies if remedy.action == "stop")
    return Action("stop", process_id, tuple(sentences), tuple(choices), stops)


def plan_execution(vault: TableVault, address: Address) -> Action:
    """Return the execution of a temporary instance, with its plan."""
    facts = vault._instance_details().facts(address)
    if not facts.line.temporary:
        raise TVArgumentError(f"Instance '{facts.line.instance_id}' is materialized; only temporary ones are executed.")
    plan, problem = instance_plan(vault, facts)
    version = facts.line.version
    command = _remedy(
        vault,
        "execute",
        f"execute_instance({facts.table_name!r}, {version!r}, background=True)",
        ["execute-instance", facts.table_name, "--version", version, "--background"],
    )
    at_work = next(iter(read_active(vault, address).processes), None)
    if at_work is not None:
        way_on = "resume or stop it" if at_work.status == "paused" else "wait for it or stop it"
        sentence = f"Process '{at_work.process_id}' ({at_work.operation}) is {at_work.status}: {way_on} on its page."
        return _of_instance("execute", facts, (sentence,), (), None)
    choices = () if problem else (Choice("Execute it in the background"),)
    sentences = (
        problem or "Its builders run in a background worker. An error pauses the run.",
        *_effects(vault, facts),
    )
    return _of_instance("execute", facts, sentences, choices, command, plan)


def plan_retry(vault: TableVault, address: Address) -> Action:
    """Return the retry of the failed rows of an instance."""
    facts = vault._instance_details().facts(address)
    line = facts.line
    command = _remedy(
        vault,
        "retry",
        f"retry_failed({facts.table_name!r}, {line.instance_id!r}, background=True)",
        ["retry-failed", facts.table_name, "--instance-id", line.instance_id, "--background"],
    )
    if line.temporary or not (line.failed_cells or line.skipped_cells or not line.success):
        return _of_instance("retry", facts, ("There are no failed or skipped rows.",), (), None)
    sentences = (
        f"{line.failed_cells:,} failed and {line.skipped_cells:,} skipped rows would be computed again, by the code as "
        "it is now, into a new instance. All other cells are taken over.",
        *_effects(vault, facts),
    )
    return _of_instance("retry", facts, sentences, (Choice("Retry in the background"),), command)


def _effects(vault: TableVault, facts: InstanceFacts) -> tuple[str, ...]:
    """Return the consequences of executing a table with side effects; empty for other tables."""
    if not vault.get_descriptions(table_name=facts.table_name)["has_side_effects"]:
        return ()
    return (
        "The table has side effects: until the run has ended, its instances cannot be read; once it has succeeded, the "
        "earlier ones are inactive.",
    )


def plan_tag(vault: TableVault, address: Address) -> Action:
    """Return the action of tagging an instance."""
    facts = vault._instance_details().facts(address)
    line = facts.line
    if line.temporary:
        raise TVArgumentError(f"Instance '{line.instance_id}' is temporary; only materialized ones can be tagged.")
    place = f"{facts.table_name}({line.instance_id})"
    command = _remedy(vault, "tag", f"create_tag('NAME', {place!r})", ["tag", "NAME", place])
    sentences = ("An instance that is tagged cannot be deleted, and keeps its artifacts.",)
    return _of_instance("tag", facts, sentences, (Choice("Tag it"),), command)


def _of_instance(
    name: str,
    facts: InstanceFacts,
    sentences: tuple[str, ...],
    choices: tuple[Choice, ...],
    command: Remedy | None,
    plan: InstancePlan | None = None,
) -> Action:
    subject = f"{facts.table_name}({facts.line.instance_id})"
    commands = () if command is None else (command,)
    return Action(name, subject, sentences, choices, commands, plan, facts.table_name, facts.line.instance_id)


def _remedy(vault: TableVault, action: str, call: str, words: list[str]) -> Remedy:
    command = shlex.join(["tablevault", "--db-dir", vault.db_dir, *words])
    return Remedy(action, f"TableVault({vault.db_dir!r}).{call}", command)
