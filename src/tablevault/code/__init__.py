"""Parsing, versioning and loading of code modules."""
