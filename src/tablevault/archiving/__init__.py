"""Whole vaults as archives: packing, unpacking, deleting."""
