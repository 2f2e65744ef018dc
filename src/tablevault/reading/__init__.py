"""Reading a vault: frames, processes, lineage, and whether everything is as the catalog claims."""
