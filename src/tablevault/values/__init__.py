"""Immutable values that all layers share."""
