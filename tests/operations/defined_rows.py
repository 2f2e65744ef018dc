"""A definitions file."""

from tablevault.define import Table

defined = Table("defined")


@defined.index(primary_key=["word"])
def word():
    """Return the words."""
    return ["a", "b"]
