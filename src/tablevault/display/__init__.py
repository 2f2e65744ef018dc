"""Rendering of progress and records for terminals and notebooks."""
