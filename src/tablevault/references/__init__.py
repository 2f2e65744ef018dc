"""Parsing, analysis and evaluation of references, `<<table(instance).{columns}[conditions]>>`."""

from tablevault.references.analysis import (
    Dependencies,
    Dependency,
    Placement,
    check_placement,
    dependencies,
    find_references,
)
from tablevault.references.compiled import Compiled, are_immutable
from tablevault.references.evaluate import Evaluator
from tablevault.references.parser import (
    Between,
    Condition,
    CurrentRow,
    Equals,
    Literal,
    Operand,
    Reference,
    Template,
    parse,
)

__all__ = [
    "Between",
    "Compiled",
    "Condition",
    "CurrentRow",
    "Dependencies",
    "Dependency",
    "Equals",
    "Evaluator",
    "Literal",
    "Operand",
    "Placement",
    "Reference",
    "Template",
    "are_immutable",
    "check_placement",
    "dependencies",
    "find_references",
    "parse",
]
