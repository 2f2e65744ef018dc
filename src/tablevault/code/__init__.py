"""Functions of builders: parsing, versions, and loading of code modules."""
