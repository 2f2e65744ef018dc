"""Names of lockable resources; a name covers every name below it."""

from __future__ import annotations

import hashlib


def lock_on_code() -> str:
    """Return the resource of the vault's code modules."""
    return "code"


def lock_on_source(source: str, version: str) -> str:
    """Return the resource of running a definitions file or folder, in one version."""
    digest = hashlib.sha256(source.encode(errors="surrogatepass")).hexdigest()
    return f"run/{digest}/{version}"


def lock_on_service(name: str) -> str:
    """Return the resource of the limits of a service."""
    return f"service/{name}"


def lock_on_table(name_key: str) -> str:
    """Return the resource of a table, which covers everything inside it."""
    return f"table/{name_key}"


def lock_on_instance(name_key: str, instance_id: str) -> str:
    """Return the resource of one instance."""
    return f"table/{name_key}/instance/{instance_id}"


def lock_on_version(name_key: str, version: str) -> str:
    """Return the resource that serializes writes of a version's instances."""
    return f"table/{name_key}/version/{version}"


def lock_on_tag(name_key: str, tag_key: str) -> str:
    """Return the resource of a tag of one table."""
    return f"table/{name_key}/tag/{tag_key}"


def lock_on_artifacts(name_key: str) -> str:
    """Return the resource of a table's one set of artifacts."""
    return f"table/{name_key}/artifacts"
