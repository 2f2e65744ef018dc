"""Validation and execution of SQL over frame files, independent of vaults."""
