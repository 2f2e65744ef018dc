"""Operations by their names in the catalog.

Their modules are imported when needed.
"""

import importlib
import pkgutil

import tablevault
from tablevault import operations
from tablevault.operations.base import Operation, operation_named, operation_names


def test_each_operation_is_found_by_its_name_and_its_class():
    for name in operation_names():
        assert operation_named(name).name == name
    for name in operations.__all__:
        assert getattr(operations, name).__name__ == name


def test_all_operations_of_the_package_have_names():
    for package in ("operations", "freshness", "processes", "archiving"):
        for module in pkgutil.iter_modules([f"{tablevault.__path__[0]}/{package}"]):
            importlib.import_module(f"tablevault.{package}.{module.name}")
    defined = {
        kind for kind in subclasses(Operation) if kind.__module__.startswith("tablevault.") and "name" in vars(kind)
    }
    assert defined == {operation_named(name) for name in operation_names()}


def subclasses(kind):
    for found in kind.__subclasses__():
        yield found
        yield from subclasses(found)
