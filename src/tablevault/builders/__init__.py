"""Builder files, the functions they name, and what has to be computed again."""
