"""Definitions files: Python files that define tables and builders, read into plain texts. Nothing here writes."""
