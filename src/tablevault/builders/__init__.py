"""Parsing, checks and order of builder files."""
