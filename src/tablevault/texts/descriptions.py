"""The content of `description.yaml` files, which document a vault's folders for people."""

from __future__ import annotations

from collections.abc import Mapping


def description_text(facts: Mapping[str, object]) -> str:
    """Return facts as YAML, preserving their order."""
    import yaml  # Lazy, so that read-only commands start faster.

    dumper: type[yaml.SafeDumper] = getattr(yaml, "CSafeDumper", yaml.SafeDumper)
    return str(yaml.dump(dict(facts), Dumper=dumper, sort_keys=False, allow_unicode=True))
