"""Reading a vault: frames, processes, lineage, plans, and whether everything is as the catalog claims."""
