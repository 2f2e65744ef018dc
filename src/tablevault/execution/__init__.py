"""Execution of an instance's builders, with reuse, checkpoints and provenance."""
