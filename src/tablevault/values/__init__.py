"""Immutable values shared by all layers."""
