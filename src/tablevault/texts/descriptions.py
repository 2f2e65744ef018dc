"""The text of `description.yaml`: facts for people who look into a vault's folders."""

from __future__ import annotations

from collections.abc import Mapping


def description_text(facts: Mapping[str, object]) -> str:
    """Return facts as YAML, in their order."""
    import yaml  # Only writes need it: commands that read start without it.

    dumper: type[yaml.SafeDumper] = getattr(yaml, "CSafeDumper", yaml.SafeDumper)
    return str(yaml.dump(dict(facts), Dumper=dumper, sort_keys=False, allow_unicode=True))
