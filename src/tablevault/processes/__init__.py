"""Life cycle of processes."""
