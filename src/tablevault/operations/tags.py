"""Creation and deletion of tags, which leave instances unchanged."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from tablevault import names
from tablevault.errors import TVArgumentError
from tablevault.execution.inputs import ARTIFACT_COLUMN
from tablevault.operations.base import Operation
from tablevault.operations.session import Draft, Session
from tablevault.values.addresses import parse_address
from tablevault.values.changes import Changes, DeletedTag, NewTag
from tablevault.values.contents import ArtifactState, NamedInstance, TagRecord
from tablevault.values.lock_names import lock_on_instance, lock_on_tag
from tablevault.values.plans import CreateTagPlan, DeleteTagPlan, TaggedInstance, UnchangedPlan


@dataclass(frozen=True)
class CreateTag(Operation[CreateTagPlan | UnchangedPlan]):
    """Tags instances, at most one per table."""

    name: ClassVar[str] = "create_tag"

    tag: str
    instances: Any = None
    version: str = names.DEFAULT_VERSION
    move: bool = False
    description: str = ""

    def plan(self, draft: Draft) -> CreateTagPlan | UnchangedPlan:
        """Find the instances, and the current target of the tag."""
        names.check_tag(self.tag)
        names.check_text("description", self.description)
        chosen = self._chosen(draft)
        earlier = {item.table_id: item for item in draft.lookup.contents.tagged_instances(self.tag, [*chosen])}
        new = [self._tagged(instance, earlier.get(table_id)) for table_id, instance in chosen.items()]
        table_name = new[0].table_name if len(new) == 1 else ""
        instance_id = new[0].instance_id if len(new) == 1 else ""
        changed = tuple(item for item in new if item.moved_from != item.instance_id)
        if not changed:
            return UnchangedPlan(table_name=table_name, instance_id=instance_id)
        return CreateTagPlan(table_name=table_name, instance_id=instance_id, instances=changed)

    def work(self, plan: CreateTagPlan | UnchangedPlan, session: Session) -> Changes:
        """Return the change that tags the instances."""
        if isinstance(plan, UnchangedPlan):
            return Changes(warnings=(f"Tag '{self.tag}' already names these instances; nothing was changed.",))
        rows = tuple((item.table_id, item.row_id) for item in plan.instances)
        moved_in = tuple(item.table_id for item in plan.instances if item.moved_from)
        return Changes(
            (NewTag(self.tag, rows, self.description, moved_in),),
            warnings=tuple(
                f"The artifacts of instance '{item.instance_id}' of table '{item.table_name}' no longer exist, since "
                "the table keeps only one set; the tag preserves only the frame."
                for item in plan.instances
                if item.has_lost_artifacts
            ),
            frees_artifacts=session.lookup.contents.share_artifacts(moved_in),
        )

    def _chosen(self, draft: Draft) -> dict[int, NamedInstance]:
        """Return the instances to tag, by table id."""
        chosen: dict[int, NamedInstance] = {}
        for instance in self._newest(draft) if self.instances is None else self._named(draft):
            other = chosen.setdefault(instance.table_id, instance)
            if other.row_id != instance.row_id:
                raise TVArgumentError(
                    f"A tag can name only one instance per table, but '{other.instance_id}' and "
                    f"'{instance.instance_id}' are both of table '{instance.table_name}'."
                )
        if not chosen:
            raise TVArgumentError("There is nothing to tag: name at least one instance, or give instances=None.")
        return chosen

    def _newest(self, draft: Draft) -> list[NamedInstance]:
        """Return each table's newest active successful instance of the version, if any."""
        version = names.check_version(self.version)
        found = draft.lookup.contents.newest_successful(version)
        if not found:
            raise TVArgumentError(f"No table has an active successful instance of version '{version}'.")
        tag_key = names.fold(self.tag)
        for instance in found:
            key = names.fold(instance.table_name)
            draft.lock_exclusive(lock_on_tag(key, tag_key))
            draft.lock_shared(lock_on_instance(key, instance.instance_id))
        return found

    def _named(self, draft: Draft) -> Iterator[NamedInstance]:
        """Yield the instances named by the call."""
        for table_name, instance_id, version in _addressed(self.instances):
            key = names.fold(table_name)
            draft.lock_exclusive(lock_on_tag(key, names.fold(self.tag)))
            table = draft.lookup.table(table_name)
            if instance_id:
                instance = draft.lookup.instance(table, instance_id)
            else:
                instance = draft.lookup.newest(table, names.check_version(version))
            draft.lock_shared(lock_on_instance(key, instance.instance_id))
            if instance.temporary:
                raise TVArgumentError(
                    f"Instance '{instance.instance_id}' of table '{table.name}' is temporary and cannot be tagged; "
                    "execute_instance or write_instance materializes it."
                )
            yield NamedInstance.of(table, instance)

    def _tagged(self, instance: NamedInstance, earlier: NamedInstance | None) -> TaggedInstance:
        """Pair an instance with the tag's current target; raise `TVArgumentError` if it may not move."""
        if earlier is not None and earlier.row_id != instance.row_id and not self.move:
            raise TVArgumentError(
                f"Tag '{self.tag}' of table '{instance.table_name}' names instance '{earlier.instance_id}', not "
                f"'{instance.instance_id}'; move=True moves it."
            )
        moved_from = earlier.instance_id if earlier is not None else ""
        return TaggedInstance(
            instance.table_id,
            instance.table_name,
            instance.row_id,
            instance.instance_id,
            moved_from,
            _has_lost_artifacts(instance),
        )


@dataclass(frozen=True)
class DeleteTag(Operation[DeleteTagPlan]):
    """Deletes a tag from all or some tables."""

    name: ClassVar[str] = "delete_tag"

    tag: str
    table_names: Any = None

    def plan(self, draft: Draft) -> DeleteTagPlan:
        """Find the tables that have the tag."""
        contents = draft.lookup.contents
        tagged = {names.fold(item.table_name): item for item in contents.tagged_instances(self.tag)}
        if self.table_names is None and not tagged:
            known = [item.tag for item in contents.tags()]
            raise TVArgumentError(f"There is no tag '{self.tag}'{names.nearest(self.tag, known)}")
        tables: dict[int, str] = {}
        for name in tagged if self.table_names is None else self.table_names:
            key = names.fold(name)
            draft.lock_exclusive(lock_on_tag(key, names.fold(self.tag)))
            if key not in tagged:
                # Raises the error for the missing table or tag.
                draft.lookup.instance(draft.lookup.table(name), names.with_mark(self.tag))
            tables[tagged[key].table_id] = tagged[key].table_name
        if not tables:
            raise TVArgumentError("table_names is empty; give table_names=None to delete the tag of every table.")
        return DeleteTagPlan(
            table_name=next(iter(tables.values())) if len(tables) == 1 else "", table_ids=tuple(tables)
        )

    def work(self, plan: DeleteTagPlan, session: Session) -> Changes:
        """Return the change that deletes the tags."""
        return Changes(
            (DeletedTag(self.tag, plan.table_ids),),
            frees_artifacts=session.lookup.contents.share_artifacts(plan.table_ids),
        )


def check_untagged(named: str, tags: Iterable[TagRecord]) -> None:
    """Raise `TVArgumentError` if a table or instance to delete has tags.

    Parameters
    ----------
    named
        The table or instance, as the beginning of a sentence.
    tags
        Its tags.
    """
    found = sorted({item.tag for item in tags})
    if found:
        listed = ", ".join(repr(tag) for tag in found)
        several = "s" if len(found) > 1 else ""
        raise TVArgumentError(
            f"{named} has the tag{several} {listed}, which protect{'' if several else 's'} it; "
            f"delete_tag({found[0]!r}) deletes the tag."
        )


def _addressed(instances: Any) -> Iterator[tuple[str, str, str]]:
    """Yield the table, id and version of each named instance."""
    if isinstance(instances, Mapping):
        for table_name, instance_id in instances.items():
            yield table_name, instance_id, names.DEFAULT_VERSION
    else:
        for text in [instances] if isinstance(instances, str) else instances:
            address = parse_address(text)
            yield address.table_name, address.instance_id, address.version


def _has_lost_artifacts(instance: NamedInstance) -> bool:
    return instance.artifact_state is ArtifactState.DROPPED and any(
        column.type_name == ARTIFACT_COLUMN for column in instance.columns
    )
