"""State of an open vault, with its format, committed records, owners and leftovers."""
