"""Builder files: parsing, checks, and the order in which builders run."""
