"""Builder files: what a builder says, checked, and the order in which builders run."""
