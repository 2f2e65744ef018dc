"""Archiving, exporting and importing of vaults and instances."""
