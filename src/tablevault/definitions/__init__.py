"""Reading of definitions files, which define tables and builders in Python; writes nothing."""
