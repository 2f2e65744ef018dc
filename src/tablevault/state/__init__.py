"""An open vault: where its parts are, its format, its committed records, live owners and leftovers."""
