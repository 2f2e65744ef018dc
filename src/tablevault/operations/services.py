"""Setting the limits of services."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from tablevault.errors import TVArgumentError
from tablevault.names import check_service_name, nearest
from tablevault.operations.base import Operation
from tablevault.operations.session import Draft, Session
from tablevault.values.changes import ChangedService, Changes
from tablevault.values.lock_names import lock_on_service
from tablevault.values.plans import ServicePlan
from tablevault.values.services import check_limits


@dataclass(frozen=True)
class SetService(Operation[ServicePlan]):
    """Sets the limits of a service, or removes it."""

    name: ClassVar[str] = "set_service"

    service: str
    limits: Mapping[str, Any] | None

    def plan(self, draft: Draft) -> ServicePlan:
        """Check the name and the limits."""
        name = check_service_name(self.service)
        draft.lock_exclusive(lock_on_service(name))
        if self.limits is not None:
            check_limits(name, self.limits)
            return ServicePlan()
        known = draft.lookup.contents.services()
        if name not in known:
            raise TVArgumentError(f"There is no service '{name}' to remove{nearest(name, known)}")
        return ServicePlan()

    def work(self, plan: ServicePlan, session: Session) -> Changes:
        """Return the change; running attempts notice it within two seconds."""
        limits = None if self.limits is None else check_limits(self.service, self.limits)
        return Changes((ChangedService(self.service, limits),))
