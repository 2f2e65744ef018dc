"""Cancellation of a provider's jobs before their process ends without a result."""

from __future__ import annotations

from collections.abc import Mapping

from tablevault.builders.policies import JOBS, Overrides
from tablevault.code.loading import CodeSnapshot
from tablevault.errors import TVFileError
from tablevault.notes import message_of
from tablevault.operations.building import newest_code, pinned_builders, prepared_builders
from tablevault.operations.session import Session
from tablevault.references import Evaluator
from tablevault.rows.calls import FunctionCall, Views
from tablevault.rows.job_journal import open_jobs
from tablevault.rows.jobs import cancel_jobs
from tablevault.storage import files
from tablevault.storage.checkpoints import read_checkpoints
from tablevault.texts.plain import in_line
from tablevault.values.plans import BuildPlan
from tablevault.values.processes import JobRecord

OpenJobs = Mapping[str, list[JobRecord]]
"""The unfinished jobs, by builder."""


def cancel_open_jobs(plan: BuildPlan, session: Session, policies: Overrides | None) -> dict[str, str]:
    """Cancel the providers' jobs before a process ends without a result.

    Parameters
    ----------
    plan, session
        The process; its checkpoints are durable.
    policies
        Policies of the call.

    Returns
    -------
    dict of str to str
        The jobs that may still be charged, each with the reason.
    """
    try:
        found = _open_jobs(session, policies)
    except TVFileError as error:  # A process can be stopped even if its files are damaged.
        return {"any job of its builders": in_line(str(error))}
    if not found:
        return {}
    try:
        return _cancel(plan, session, policies, found)
    except Exception as error:  # noqa: BLE001 - the process ends even if its code raises
        reason = f"{type(error).__name__}: {in_line(message_of(error))}"
        return {job.job_id or f"token {job.token}": reason for jobs in found.values() for job in jobs}


def _open_jobs(session: Session, policies: Overrides | None) -> OpenJobs:
    # Checkpoints can be large, so they are read only if there may be jobs.
    builders = pinned_builders(session)
    if not any(JOBS in files.read_text(path) for path in builders.values()) and JOBS not in repr(policies):
        return {}
    states = read_checkpoints(session.workspace.checkpoints).states()
    found = {name: open_jobs(state.jobs) for name, state in states.items()}
    return {name: jobs for name, jobs in found.items() if jobs}


def _cancel(plan: BuildPlan, session: Session, policies: Overrides | None, found: OpenJobs) -> dict[str, str]:
    snapshot = newest_code(session)
    prepared = prepared_builders(plan, session, snapshot).with_policies(policies)
    views = Views(
        Evaluator(prepared.inputs.paths),
        Evaluator(prepared.inputs.contents),
        have_artifacts=False,
        artifact_folder="",
        process_id=session.process_id,
        process_key="",
    )
    left: dict[str, str] = {}
    with CodeSnapshot(snapshot, session.lookup.layout.code_functions, prepared.sources.local) as code:
        for builder in prepared.builders:
            jobs = found.get(builder.spec.name)
            if jobs:
                spec, function = builder.spec, prepared.load(builder, code).loaded
                opener = function.opener(lambda spec=spec: FunctionCall.of_setup(spec, views).arguments(None))  # type: ignore[misc]
                left.update(cancel_jobs(function.call, opener, jobs))
    return left
