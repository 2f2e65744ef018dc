"""Setup of a Ray executor from a builder's policies and code."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping

from tablevault.builders.placeholders import environment_variables
from tablevault.builders.policies import Policies
from tablevault.builders.spec import BuilderSpec
from tablevault.ports import Interruptible, OpenFunction
from tablevault.rows.artifacts import InstanceArtifacts
from tablevault.rows.functions import BuilderFunction
from tablevault.rows.ray_cluster import RayCluster, connect, rows_per_worker
from tablevault.rows.ray_executor import RayExecutor, RayJob
from tablevault.rows.ray_worker import NAME
from tablevault.rows.worker_texts import ARTIFACT_FOLDER

Learn = Callable[[Iterable[tuple[str, str]]], None]
"""Registers secret values, each with its mark."""


def open_on_ray(
    function: BuilderFunction,
    policies: Policies,
    open_function: OpenFunction,
    owner: Interruptible,
    learn: Learn,
    artifacts: InstanceArtifacts,
    one_by_one: bool = False,
) -> RayExecutor:
    """Connect to the owner's cluster, and return an executor of a builder's calls.

    Parameters
    ----------
    function, policies, open_function
        Of the builder.
    owner
        Has the options of the cluster.
    learn
        Registers the values of environment variables of workers.
    artifacts
        The files of the instance.
    one_by_one
        Whether each call is submitted separately.
    """
    spec, options = function.spec, owner.ray
    for name, value in (spec.setup_arguments or {}).items():
        if f"~{ARTIFACT_FOLDER}~" in str(value):
            raise spec.error(
                ("setup_arguments", name),
                "on a Ray cluster each call has a folder of its own; give ~ARTIFACT_FOLDER~ under arguments.",
            )
    cluster = connect(options)
    forwarded = {name: os.environ[name] for name in options.forward_env if name in os.environ}
    learn(_marked(forwarded))
    job = RayJob(
        open_function=open_function,
        resources=policies.resources,
        min_workers=policies.min_workers,
        max_workers=_most_workers(cluster, policies, spec),
        rows_per_worker=rows_per_worker(policies, function.is_async),
        places=cluster.places(policies, function.is_async) if spec.runs_by_row else 1,
        is_async=function.is_async,
        is_timed=policies.timeout is not None,
        one_by_one=one_by_one or policies.timeout is not None,
        ends_at_failure=not policies.collects,
        runtime_env=options.runtime_env,
        forwarded=forwarded,
        makes_files=any(f"~{ARTIFACT_FOLDER}~" in str(value) for value in spec.arguments.values()),
        folder=artifacts.folder,
        input_root=options.vault,
        on_unnamed=artifacts.left_on_workers.update,
        variables=_variables(spec),
        missing_text=(
            f"Builder '{spec.name}' ({spec.file}) reads the environment variable {NAME}, which is not set on a worker "
            f"of the Ray cluster at {cluster.address}; set it there, or name it in ray={{'forward_env': […]}}."
        ),
        on_variables=lambda values: learn(_marked(values)),
    )
    return RayExecutor(cluster, job)


def _most_workers(cluster: RayCluster, policies: Policies, spec: BuilderSpec) -> int:
    return cluster.workers(policies) if spec.runs_by_row else 1


def _variables(spec: BuilderSpec) -> tuple[str, ...]:
    """Return the environment variables named in a builder's arguments."""
    return tuple(dict.fromkeys(name for value in spec.written_values for name in environment_variables(value)))


def _marked(values: Mapping[str, str]) -> list[tuple[str, str]]:
    return [(value, f"[~ENV:{name}~]") for name, value in values.items()]
