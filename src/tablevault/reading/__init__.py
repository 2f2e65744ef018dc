"""Reading and verification of a vault's frames, processes and lineage."""
