"""Facts about instances that came from another vault."""

from __future__ import annotations

from tablevault.state.context import VaultContext
from tablevault.values.contents import ArtifactState, InstanceRecord, TableRecord
from tablevault.values.plans import ImportPlan


def import_of(context: VaultContext, process_id: str) -> ImportPlan | None:
    """Return the plan of a process that imported instances; `None` for another process."""
    record = context.catalog.processes.find(process_id)
    return record.plan if record is not None and isinstance(record.plan, ImportPlan) else None


def lost_artifacts(context: VaultContext, table: TableRecord, instance: InstanceRecord) -> str:
    """Return the reason why the artifacts of an instance no longer exist, as a clause that begins with them."""
    plan = import_of(context, instance.process_id)
    imported = plan.content.instances if plan is not None else ()
    had_none = any(
        item.instance_id == instance.instance_id and item.artifact_state is ArtifactState.DROPPED for item in imported
    )
    reason = "were removed when a newer instance replaced them"
    if plan is not None and had_none:
        reason = f"did not exist any more in the vault {plan.vault_id} when it was imported"
    return f"The artifacts of instance '{instance.instance_id}' of table '{table.name}' {reason}"
