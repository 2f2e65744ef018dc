"""Resources of cluster workers, from a builder's `resources` field."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Self

_MEMORY = re.compile(r"(\d+(?:\.\d+)?)\s*([kKMGT]?i?)B")
_FACTORS = {"": 0, "k": 1, "m": 2, "g": 3, "t": 4}
_CPU, _GPU, _MEMORY_NAME = "cpu", "gpu", "memory"
_MISTAKEN = {"cpus": _CPU, "num_cpus": _CPU, "gpus": _GPU, "num_gpus": _GPU, "ram": _MEMORY_NAME}


@dataclass(frozen=True)
class Resources:
    """Resources of one worker."""

    cpu: float = 1.0
    gpu: float = 0.0
    memory: float = 0.0
    """In bytes."""
    custom: Mapping[str, float] = field(default_factory=dict)
    """Cluster-defined resources, by name."""

    @classmethod
    def parse(cls, given: Mapping[str, float | str]) -> Self:
        """Parse the resources of a builder, which must have passed `resource_problem`."""
        numbers = {name: _number(value) or 0.0 for name, value in given.items()}
        own = (_CPU, _GPU, _MEMORY_NAME)
        custom = {name: value for name, value in numbers.items() if name.lower() not in own}
        return cls(**{name.lower(): value for name, value in numbers.items() if name not in custom}, custom=custom)

    @property
    def amounts(self) -> dict[str, float]:
        """The nonzero amounts, by Ray's resource names."""
        named = {"CPU": self.cpu, "GPU": self.gpu, "memory": self.memory, **self.custom}
        return {name: amount for name, amount in named.items() if amount}

    @property
    def text(self) -> str:
        """The resources as shown in messages, such as `1 CPU, 0.5 GPU`."""
        shown = {
            name: f"{amount / 2**30:.3g} GiB" if name == "memory" else f"{amount:g}"
            for name, amount in self.amounts.items()
        }
        return ", ".join(f"{amount} {name}" for name, amount in shown.items()) or "nothing"


ONE_CORE = Resources()
"""Default resources of a worker."""


def resource_problem(given: Mapping[str, float | str]) -> tuple[str, str] | None:
    """Return the first invalid entry with the reason and the remedy, or `None`."""
    for name, value in given.items():
        if name.lower() in _MISTAKEN:
            return name, f"there is no resource {name!r}; did you mean {_MISTAKEN[name.lower()]!r}?"
        if isinstance(value, str) and (name.lower() != _MEMORY_NAME or _number(value) is None):
            shape = (
                "a number of bytes, or a text such as 4GiB" if name.lower() == _MEMORY_NAME else "a non-negative number"
            )
            return name, f"it must be {shape}; found {value[:40]!r}."
    return None


def _number(value: float | str) -> float | None:
    """Return a number, or the byte count of a text such as `4GiB`.

    Returns `None` if the text is invalid.
    """
    if not isinstance(value, str):
        return float(value)
    match = _MEMORY.fullmatch(value.strip())
    if match is None:
        return None
    prefix = match[2].lower()
    base = 1024 if prefix.endswith("i") else 1000
    factor: int = base ** _FACTORS[prefix.removesuffix("i")]
    return float(match[1]) * factor
